# SPDX-License-Identifier: GPL-3.0-or-later
"""The small HTTP port of a running worker: ``/live``, ``/ready`` and ``/metrics``.

What the first two mean, see ``readiness``. Both answer 200 or 503 and JSON ``{ok, reasons}``, with ``warnings``
where there are some.
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

Probe = Callable[[], Sequence[str]]
"""Gives the reasons why all is not well; none: all is."""

Page = Callable[[], tuple[str, bytes]]
"""Gives a page: its media type and its content."""

EVERY_ADDRESS = ("", "::")
"""What means all addresses, of IPv6 and IPv4."""

REQUEST_SECONDS = 5.0
"""How long a client may take to send its request."""


class MonitoringPort:
    """The port, as a context manager. ``probes`` and ``pages`` map a path to who answers for it.

    ``warnings`` gives, by path, what a probe shows beside its reasons.
    """

    def __init__(
        self,
        address: str,
        port: int,
        probes: Mapping[str, Probe],
        pages: Mapping[str, Page] | None = None,
        warnings: Mapping[str, Probe] | None = None,
    ) -> None:
        """Listens at once; raises SettingsError when that cannot be. Port 0 is any free one."""
        try:
            self._server = _listening(address, port, _handler(probes, pages or {}, warnings or {}))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            where = f"{address or 'any address'}, port {port}"
            raise SettingsError([Fault("configuration", "monitoring", f"cannot listen on {where}: {reason}")]) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
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
        """Answer in a thread of its own; in this one where there is none, which is what there is to be told then."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self.process_request_thread(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A client that breaks off is no news."""
        log.debug("a request for health was not answered", exc_info=True)


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _ServerOfAll(_ServerOfIPv6):
    """For IPv4 too."""

    def server_bind(self) -> None:
        """Bind it to both."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _listening(address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    """A server that listens there; for ``::`` or nothing on all of IPv6 and IPv4, as far as there is IPv6."""
    if address in EVERY_ADDRESS:
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):
                return _ServerOfAll(("::", port), handler)
        return _Server(("", port), handler)
    return (_ServerOfIPv6 if ":" in address else _Server)((address, port), handler)


def _handler(
    probes: Mapping[str, Probe], pages: Mapping[str, Page], warnings: Mapping[str, Probe]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            """Answer one of the probes, or with a page."""
            path = self.path.partition("?")[0]
            page, probe = pages.get(path), probes.get(path)
            if page is not None:
                self._send(200, *page())
            elif probe is not None:
                reasons = list(probe())
                doubts = list(warnings[path]()) if path in warnings else []
                document = {"ok": not reasons, "reasons": reasons, **({"warnings": doubts} if doubts else {})}
                self._answer(503 if reasons else 200, document)
            else:
                self._answer(404, {"ok": False, "reasons": [f"there is only {', '.join((*probes, *pages))}"]})

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
            """Probes come every few seconds: not in the log."""

    return Handler


def ask(address: str, port: int, path: str = "/live", timeout: float = 5.0) -> bool:
    """Whether the worker that listens there answers that all is well; for health checks."""
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
    """``python -m omps_worker.monitoring.port``: 0 if the worker of this configuration is alive, else 1.

    For the health check of a container. Without a ``[monitoring]`` section nothing listens, and
    nothing can be said against the worker.
    """
    from omps_worker.configuration.settings import file
    from omps_worker.configuration.settings.broker import MonitoringSettings

    try:
        section = file.read(file.find()).get("monitoring")
        if section is None:
            print("no [monitoring] section: nobody to ask")
            return 0
        place = MonitoringSettings.model_validate(section)
    except (SettingsError, ValueError):
        print("the [monitoring] section cannot be read")
        return 1
    alive = ask(place.address, place.port)
    print("alive" if alive else f"no sign of life on port {place.port}")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
