# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP monitoring port of a running worker: ``/live``, ``/ready`` and ``/metrics``.

See ``readiness`` for the meaning of the first two. They answer with status 200 or 503 and with JSON, ``{ok, reasons}``;
``warnings`` is added if there are any.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from omps_worker.common import machine
from omps_worker.common.errors import Fault, SettingsError

log = logging.getLogger(__name__)

Reasons = Callable[[], Sequence[str]]
"""Returns the reasons why something is not well; an empty sequence if all is well."""

Page = Callable[[], tuple[str, bytes]]
"""Returns a page: its media type and its content."""

EVERY_ADDRESS = ("", "::")
"""The values of ``address`` that mean all addresses, IPv6 and IPv4."""

REQUEST_SECONDS = 5.0
"""The seconds that a client may take to send its request."""


class MonitoringPort:
    """The HTTP server of the monitoring port, as a context manager.

    ``probes`` and ``pages`` map paths to the functions that answer. ``warnings`` maps paths of probes to functions
    that return what the probe shows in addition to its reasons.
    """

    def __init__(
        self,
        address: str,
        port: int,
        probes: Mapping[str, Reasons],
        pages: Mapping[str, Page] | None = None,
        warnings: Mapping[str, Reasons] | None = None,
    ) -> None:
        """Bind the port. Port 0 means any free port. Raises SettingsError if the port cannot be bound."""
        try:
            self._server = _listening(address, port, _handler(probes, pages or {}, warnings or {}))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            where = f"{address or 'any address'}, port {port}"
            raise SettingsError([Fault("configuration", "monitoring", f"cannot listen on {where}: {reason}")]) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    @property
    def port(self) -> int:
        """The port number that the server listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> MonitoringPort:
        log.info("health and metrics on %s, port %d", self._server.server_address[0], self.port)
        machine.start(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, or in this one if no thread can be started: the answer then reports that."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self.process_request_thread(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log errors at debug level only: clients often drop their connections."""
        log.debug("a request to the monitoring port was not answered", exc_info=True)


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _ServerOfAll(_ServerOfIPv6):
    """A server for both IPv6 and IPv4."""

    def server_bind(self) -> None:
        """Bind the socket to IPv6 and IPv4."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _listening(address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    """Return a server that listens on ``address``. ``::`` or an empty address means IPv4, and IPv6 if available."""
    if address in EVERY_ADDRESS:
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):
                return _ServerOfAll(("::", port), handler)
        return _Server(("", port), handler)
    return (_ServerOfIPv6 if ":" in address else _Server)((address, port), handler)


def _handler(
    probes: Mapping[str, Reasons], pages: Mapping[str, Page], warnings: Mapping[str, Reasons]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            """Answer with a probe or a page."""
            path = self.path.partition("?")[0]
            page, probe = pages.get(path), probes.get(path)
            if page is not None:
                self._send(200, *page())
            elif probe is not None:
                reasons = list(probe())
                notes = list(warnings[path]()) if path in warnings else []
                document = {"ok": not reasons, "reasons": reasons, **({"warnings": notes} if notes else {})}
                self._answer(503 if reasons else 200, document)
            else:
                self._answer(404, {"ok": False, "reasons": [f"the only paths are {', '.join((*probes, *pages))}"]})

        do_HEAD = do_GET  # noqa: N815  the library's name

        def _answer(self, status: int, document: Mapping[str, object]) -> None:
            self._send(status, "application/json", (json.dumps(document) + "\n").encode())

        def _send(self, status: int, media_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes come every few seconds."""

    return Handler


def ask(address: str, port: int, path: str = "/live", timeout: float = 5.0) -> bool:
    """Return whether the worker that listens on the port answers ``path`` with 200; for health checks."""
    if address in EVERY_ADDRESS:
        return any(ask(loopback, port, path, timeout) for loopback in ("127.0.0.1", "::1"))
    host = {"0.0.0.0": "127.0.0.1"}.get(address, address)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}{path}", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def main() -> int:
    """Return 0 if the worker of this configuration is alive, else 1: ``python -m omps_worker.monitoring.port``.

    This is the health check of a container. Without a ``[monitoring]`` section there is no port, and the worker counts
    as alive.
    """
    from omps_worker.configuration.settings import file
    from omps_worker.configuration.settings.broker import MonitoringSettings

    try:
        section = file.read(file.find()).get("monitoring")
        if section is None:
            print("no [monitoring] section: there is no port to check")
            return 0
        settings = MonitoringSettings.model_validate(section)
    except (SettingsError, ValueError):
        print("the [monitoring] section cannot be read")
        return 1
    alive = ask(settings.address, settings.port)
    print("alive" if alive else f"not alive, according to port {settings.port}")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
