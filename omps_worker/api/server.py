# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the REST API: one socket, and one process or several that answer on it.

SIGTERM ends it: no new connections, and the requests in hand are finished, for ``shutdown_timeout``
seconds at most. A process that dies is replaced; one whose parent died ends.
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

    from omps_worker.configuration.settings import Settings

log = logging.getLogger(__name__)

MOST_WORKERS = 8
"""How many processes are started at most when nobody says how many."""

KEEP_ALIVE_SECONDS = 15
"""How long a connection without a request is kept."""

HEADER_SECONDS = 15.0
"""How long a client may take to send the head of a request."""

EVERY_ADDRESS = "::"
BACKLOG = 1024
UPLOAD_SECONDS = 30.0
STILL_SECONDS = 2 * 60.0
"""How long nothing may have been looked after, a pause before a restart included, until that counts as dead."""

RESTART_SECONDS, LONGEST_RESTART_SECONDS = 1.0, 30.0
"""How long a process must have lived to be replaced at once; longer each time that one dies sooner."""

WORKERS_VARIABLE, TIMEOUT_VARIABLE = "WORKERS_NUM", "WORKER_TIMEOUT"


def workers_wanted(asked: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """How many processes: as asked, or as $WORKERS_NUM says, or one for each core. Raises SettingsError."""
    if asked is not None:
        return asked
    told = environment.get(WORKERS_VARIABLE)
    if not told:
        return min(os.cpu_count() or 1, MOST_WORKERS)
    if not (told.isascii() and told.isdigit() and 1 <= int(told[:6]) <= 256):
        raise SettingsError([Fault("environment", WORKERS_VARIABLE, "must be a whole number from 1 to 256")])
    return int(told)


def upload_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """How many seconds an upload may take, as $WORKER_TIMEOUT says. Raises SettingsError."""
    told = environment.get(TIMEOUT_VARIABLE)
    if not told:
        return UPLOAD_SECONDS
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise SettingsError([Fault("environment", TIMEOUT_VARIABLE, "must be a number of seconds, at most a day")])
    return seconds


def listen(address: str, port: int) -> socket.socket:
    """The socket to answer on; ``::`` means all of IPv4, and of IPv6 if there is that. Raises SettingsError."""
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
    """Serve until told to stop; the exit code. Raises SettingsError."""
    settings = read_settings(path)
    wanted, seconds = workers_wanted(workers), upload_seconds()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until there is something to finish: whoever is told to stop now just does.
        signal.signal(number, _leave)
    set_up_logs(settings)
    check_locks(settings)
    for warning in settings.warnings:
        log.warning("%s", warning)
    with listen(settings.worker.api.address, settings.worker.api.port) as listener:
        host, port = listener.getsockname()[:2]
        scratch.sweep()
        log.info("the REST API listens on %s, port %d, with %d process(es)", host, port, wanted)
        if wanted == 1:
            return _serve_alone(settings, listener, seconds)
        processes = _Processes(wanted, path, listener, seconds, settings.worker.shutdown_timeout.seconds)
        with shared_counts(settings) as directory:
            monitoring = ApiMonitoring(settings, directory)
            parts = {"machine": machine.trouble, "processes": processes.trouble, **locks_of_this_host(settings)}
            port = monitoring.api_port(processes.vital, parts)
            with port, SystemdNotifier(processes.vital):
                return processes.run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


class Server(uvicorn.Server):
    """uvicorn, with the limits of this service."""

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
    """uvicorn's HTTP, with a deadline for the head of a request, and JSON for what is no HTTP."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        # Its line would have the query, and there is one in our own log already.
        self.access_log = False
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
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
        """Tell of a request that is none."""
        import h11
        from starlette.responses import JSONResponse

        reply = error_reply(400, "BadRequest", "This is no HTTP request.")
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
            # Somewhere in the middle of a reply already.
            log.debug("a request turned out to be none: %s", msg)
        self.transport.close()
        if self.cycle is not None:
            # Whoever works on the request that was taken for one has nobody to reply to.
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _serve_alone(settings: Settings, listener: socket.socket, seconds: float) -> int:
    """Serve in this process, which is the only one; the exit code."""
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
        # For a signal that comes before uvicorn looks, and for the one that it raises again at its end.
        signal.signal(number, stop)
    server.run(sockets=[listener])
    if not server.started:
        return 1
    if site.pool.idle:
        return 0
    log.error("pushes that were under way are given up: the time to finish them is over")
    logging.shutdown()
    os._exit(1)


def _serve_as_child(path: Path | None, listener: socket.socket, seconds: float) -> None:
    # Until there is a server to tell: whoever is told to stop now just does.
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
    """Keeps so many processes running until told to stop."""

    def __init__(
        self, count: int, path: Path | None, listener: socket.socket, seconds: float, shutdown_timeout: float
    ) -> None:
        self._count = count
        self._arguments = (path, listener, seconds)
        self._patience = shutdown_timeout + 10
        self._started: dict[SpawnProcess, float] = {}
        self._stopping = False
        self._pause = RESTART_SECONDS
        self._turned_at = time.monotonic()

    def run(self) -> int:
        """The exit code: 0 if all ended well."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(self._count):
            self._start()
        while not self._stopping:
            self._turned_at = time.monotonic()
            connection.wait([process.sentinel for process in self._started], timeout=0.5)
            self._replace_the_dead()
        return self._end()

    def vital(self) -> list[str]:
        """Why all of this should be started anew."""
        still = time.monotonic() - self._turned_at
        return [f"the processes have not been looked after for {still:.0f} s"] if still > STILL_SECONDS else []

    def trouble(self) -> str | None:
        """What is wrong with the processes; None: nothing is."""
        alive = sum(process.is_alive() for process in tuple(self._started))
        return None if alive == self._count else f"{alive} of {self._count} serve"

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve_as_child, args=self._arguments)
        process.start()
        self._started[process] = time.monotonic()

    def _replace_the_dead(self) -> None:
        for process in [process for process in self._started if process.exitcode is not None]:
            began = self._started.pop(process)
            if self._stopping:
                return
            log.error("the process %s ended (%s) and is replaced", process.pid, process.exitcode)
            early = began + self._pause - time.monotonic()
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
                log.error("the process %s does not end and is killed", process.pid)
                process.kill()
                process.join()
        # One that was told before it had begun to serve has nothing to finish.
        return 0 if all(process.exitcode in (0, -signal.SIGTERM) for process in self._started) else 1
