# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the REST API: one listening socket, served by one process or several.

On SIGTERM, it accepts no new connections and finishes the requests in progress, for at most ``shutdown_timeout``. A
process that dies is replaced. A child process ends when its parent dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from omps_worker.api.monitoring import ApiMonitoring, shared_counts
from omps_worker.api.replies import error_reply
from omps_worker.api.wiring import ApiSite, check_locks, locks_of_this_host, read_settings, set_up_logs
from omps_worker.common import machine
from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.files import scratch
from omps_worker.monitoring.systemd import SystemdNotifier

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from omps_worker.configuration.settings.models import Settings

log = logging.getLogger(__name__)

MOST_WORKERS = 8
"""The maximum of the default number of processes."""

KEEP_ALIVE_SECONDS = 15
"""How long a connection without a request is kept open."""

HEADER_SECONDS = 15.0
"""How long a client may take to send the head of a request, in seconds."""

EVERY_ADDRESS = "::"
BACKLOG = 1024
UPLOAD_SECONDS = 30.0
STILL_SECONDS = 2 * 60.0
"""After how many seconds without supervision, pauses before restarts included, the parent counts as stuck."""

RESTART_SECONDS, LONGEST_RESTART_SECONDS = 1.0, 30.0
"""The minimum lifetime of a process that is replaced immediately, in seconds: the first, and the maximum.

It doubles each time that a process dies earlier.
"""

WORKERS_VARIABLE, TIMEOUT_VARIABLE = "WORKERS_NUM", "WORKER_TIMEOUT"


def worker_count(requested: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes: ``requested``, or $WORKERS_NUM, or one per CPU core. Raises SettingsError."""
    if requested is not None:
        return requested
    value = environment.get(WORKERS_VARIABLE)
    if not value:
        return min(os.cpu_count() or 1, MOST_WORKERS)
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 256):
        raise SettingsError([Fault("environment", WORKERS_VARIABLE, "must be a whole number from 1 to 256")])
    return int(value)


def upload_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """Return how many seconds an upload may take: $WORKER_TIMEOUT, or 30. Raises SettingsError."""
    value = environment.get(TIMEOUT_VARIABLE)
    if not value:
        return UPLOAD_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise SettingsError([Fault("environment", TIMEOUT_VARIABLE, "must be a number of seconds, at most a day")])
    return seconds


def listen(address: str, port: int) -> socket.socket:
    """Return the listening socket. ``::`` means all IPv4 addresses, and all IPv6 addresses if the host has IPv6.

    Raises SettingsError.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if address == EVERY_ADDRESS:
            if socket.has_dualstack_ipv6():
                with contextlib.suppress(OSError):
                    return socket.create_server((address, port), family=family, backlog=BACKLOG, dualstack_ipv6=True)
            return socket.create_server(("", port), backlog=BACKLOG)
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fault = f"cannot listen on {address}, port {port}: {reason}"
        raise SettingsError([Fault("configuration", "consumer_config.api", fault)]) from None


def run(path: Path | None, workers: int | None = None) -> int:
    """Serve until stopped by a signal, and return the exit code. Raises SettingsError."""
    settings = read_settings(path)
    count, seconds = worker_count(workers), upload_seconds()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Nothing is in progress yet, so a signal ends the process immediately.
        signal.signal(number, _exit)
    set_up_logs(settings)
    check_locks(settings)
    for warning in settings.warnings:
        log.warning("%s", warning)
    with listen(settings.worker.api.address, settings.worker.api.port) as listener:
        host, port = listener.getsockname()[:2]
        scratch.sweep()
        log.info("the REST API listens on %s, port %d, with %d process(es)", host, port, count)
        if count == 1:
            return _serve_alone(settings, listener, seconds)
        processes = _Processes(count, path, listener, seconds, settings.worker.shutdown_timeout.seconds)
        with shared_counts(settings) as directory:
            monitoring = ApiMonitoring(settings, directory)
            parts = {"machine": machine.trouble, "processes": processes.trouble, **locks_of_this_host(settings)}
            port = monitoring.api_port(processes.vital, parts)
            with port, SystemdNotifier(processes.vital):
                return processes.run()


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


class Server(uvicorn.Server):
    """uvicorn's server, configured with the limits of this service."""

    def __init__(self, app: ASGIApp, *, shutdown_timeout: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(int(shutdown_timeout), 1),
            )
        )


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, with a timeout for the head of a request, and a JSON reply to invalid HTTP."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        # uvicorn's access log would contain the query; RequestMiddleware writes the access log without it.
        self.access_log = False
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Process data from the client."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the client disconnected."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._between_requests():
            if self._deadline is None:
                self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.close()

    def _between_requests(self) -> bool:
        cycle = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def send_400_response(self, msg: str) -> None:
        """Reply to invalid HTTP, and close the connection."""
        import h11
        from starlette.responses import JSONResponse

        reply = error_reply(400, "BadRequest", "This is not a valid HTTP request.")
        response = JSONResponse(dict(reply.body))
        headers = [*response.raw_headers, (b"connection", b"close")]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            # A reply is already being sent.
            log.debug("a client sent invalid HTTP: %s", msg)
        self.transport.close()
        if self.cycle is not None:
            # Work on this request may have begun: make its endpoint notice that the client is gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _serve_alone(settings: Settings, listener: socket.socket, seconds: float) -> int:
    """Serve in this process only, and return the exit code."""
    monitoring = ApiMonitoring(settings)
    site = ApiSite(settings, upload_seconds=seconds, observer=monitoring.observer)
    with monitoring.api_port(site.vital, site.parts()), SystemdNotifier(site.vital):
        return _serve(site, settings, listener)


def _serve(site: ApiSite, settings: Settings, listener: socket.socket) -> int:
    server = Server(site.app(), shutdown_timeout=settings.worker.shutdown_timeout.seconds)

    def stop(_number: int, _frame: FrameType | None) -> None:
        site.stopping()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # For a signal before uvicorn installs its handlers, and for the signal that uvicorn raises again at its end.
        signal.signal(number, stop)
    server.run(sockets=[listener])
    if not server.started:
        return 1
    if site.pool.idle:
        return 0
    log.error("the shutdown timeout is over: pushes in progress are abandoned")
    logging.shutdown()
    os._exit(1)


def _serve_as_child(path: Path | None, listener: socket.socket, seconds: float) -> None:
    # The parent handles Ctrl-C, and sends SIGTERM, which until the server runs ends this process immediately.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    settings = read_settings(path)
    set_up_logs(settings)
    site = ApiSite(settings, upload_seconds=seconds, observer=ApiMonitoring(settings).observer)
    code = _serve(site, settings, listener)
    logging.shutdown()
    os._exit(code)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    machine.start(threading.Thread(target=watch, name="parent", daemon=True))


class _Processes:
    """Keeps ``count`` processes running until stopped by a signal."""

    def __init__(
        self, count: int, path: Path | None, listener: socket.socket, seconds: float, shutdown_timeout: float
    ) -> None:
        self._count = count
        self._arguments = (path, listener, seconds)
        self._patience = shutdown_timeout + 10
        self._started: dict[SpawnProcess, float] = {}
        self._stopping = False
        self._pause = RESTART_SECONDS
        self._supervised_at = time.monotonic()

    def run(self) -> int:
        """Run the processes, and return the exit code: 0 if all of them finished their work, otherwise 1."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(self._count):
            self._start()
        while not self._stopping:
            self._supervised_at = time.monotonic()
            connection.wait([process.sentinel for process in self._started], timeout=0.5)
            self._replace_ended()
        return self._end()

    def vital(self) -> list[str]:
        """Return the reasons to restart the whole service; empty if there are none."""
        still = time.monotonic() - self._supervised_at
        return [f"the processes have not been supervised for {still:.0f} s"] if still > STILL_SECONDS else []

    def trouble(self) -> str | None:
        """Return what is wrong with the processes, or None."""
        alive = sum(process.is_alive() for process in tuple(self._started))
        return None if alive == self._count else f"running processes: {alive} of {self._count}"

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve_as_child, args=self._arguments)
        process.start()
        self._started[process] = time.monotonic()

    def _replace_ended(self) -> None:
        for process in [process for process in self._started if process.exitcode is not None]:
            started_at = self._started.pop(process)
            if self._stopping:
                return
            log.error("the process %s ended (%s) and is replaced", process.pid, process.exitcode)
            early = started_at + self._pause - time.monotonic()
            self._pause = min(2 * self._pause, LONGEST_RESTART_SECONDS) if early > 0 else RESTART_SECONDS
            end = time.monotonic() + max(early, 0.0)
            while not self._stopping and time.monotonic() < end:
                time.sleep(0.1)
            self._start()

    def _end(self) -> int:
        for process in self._started:
            process.terminate()
        deadline = time.monotonic() + self._patience
        for process in self._started:
            process.join(max(deadline - time.monotonic(), 0.0))
            if process.exitcode is None:
                log.error("the process %s did not end in time and is killed", process.pid)
                process.kill()
                process.join()
        # A process that got SIGTERM before it served had nothing to finish.
        return 0 if all(process.exitcode in (0, -signal.SIGTERM) for process in self._started) else 1
