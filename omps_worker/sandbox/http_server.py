# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP/1.1 server on loopback with fault injection, used by the sandbox's Koji, registry and Greenwave.

::

    with HttpServer(lambda request: Response.json({"you asked for": request.path})) as server:
        requests.get(server.url + "/x")
        server.log      # [LoggedRequest(method="GET", target="/x", status=200)]
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from omps_worker.sandbox.faults import Fault, Faults

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024 * 1024
"""The default for the largest request body that a server accepts, in bytes."""


@dataclass(frozen=True)
class Request:
    """One request, as the ``answer`` function receives it. Header names are in lower case."""

    method: str
    path: str
    """The path as the client sent it: percent-encoded, without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    queries: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """All values of each parameter; ``query`` has the last."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The decoded parts of the path between the slashes."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    def json(self) -> Any:
        """Parse the body as JSON. Raises ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """One response. ``Content-Length`` is added when it is sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, content_type: str = "application/json") -> Response:
        """Return a response with ``value`` as JSON."""
        return cls(status, json.dumps(value).encode(), content_type)

    @classmethod
    def html(cls, status: int, title: str) -> Response:
        """Return an error page like those of web frameworks and proxies."""
        page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        return cls(status, page.encode(), "text/html; charset=utf-8")


@dataclass
class LoggedRequest:
    """One received request. ``status`` is None if it has not been answered, or not yet."""

    method: str
    target: str
    """Path and query. Headers and bodies are not kept, because they may contain credentials."""
    status: int | None = None


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Return the user name and the password in a ``basic …`` Authorization value, or None if there are none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    return name, password


class HttpServer:
    """An HTTP server on a loopback port that the operating system chooses, with one thread per connection.

    ``answer`` returns the response to a request. It is called from several threads at the same time, and never for
    a body of more than ``max_body`` bytes: such a request gets 413, as from nginx. ``faults`` are the injected
    faults. With ``tls``, the server speaks HTTPS. ``stop`` ends all connections, injected delays and threads;
    ``start`` then listens on the same port again.
    """

    def __init__(
        self,
        answer: Callable[[Request], Response],
        *,
        faults: Faults | None = None,
        max_body: int = MAX_BODY,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.faults = faults if faults is not None else Faults()
        self.max_body = max_body
        self.tls = tls
        self.log: list[LoggedRequest] = []
        self.stopping = threading.Event()
        self._reservation: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port. It stays the same after ``stop`` and ``start``."""
        if self._reservation is None:
            raise RuntimeError("the server has not been started")
        port: int = self._reservation.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The URL without a trailing slash, for example ``http://127.0.0.1:40111``."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start listening. Connections are accepted when the method returns."""
        if self._reservation is None:
            # A bound socket that never listens reserves the port while the server is stopped.
            self._reservation = socket.socket()
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reservation.bind(("127.0.0.1", 0))
        self.stopping.clear()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections, close the open ones, and wait for all threads to end."""
        if self._server is None or self._thread is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.cut()
        self._server = self._thread = None

    def close(self) -> None:
        """Stop the server and release its port."""
        self.stop()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def pause(self, seconds: float, event: threading.Event | None) -> None:
        """Wait ``seconds``, then for ``event``. ``stop`` ends both waits early."""
        if seconds:
            self.stopping.wait(seconds)
        while event is not None and not event.is_set() and not self.stopping.is_set():
            event.wait(0.02)


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: HttpServer) -> None:
        self.owner = owner
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", owner.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.owner.tls:
            request = self.owner.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        with self._lock:
            self._open[thread] = request
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            # It is not an error if the client disconnects, even in the middle of a request.
            with contextlib.suppress(OSError):
                self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)
            with self._lock:
                del self._open[threading.current_thread()]

    def cut(self) -> None:
        with self._lock:
            open_now = dict(self._open)
        for connection in open_now.values():
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in open_now:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        owner = self.server.owner
        logged = LoggedRequest(self.command, self.path)
        owner.log.append(logged)
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or "Transfer-Encoding" in self.headers:
            self._send(Response.html(411, "Length Required"), logged, closing=True)
            return
        if int(length) > owner.max_body:
            self._refuse_large(int(length), logged)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        fault = owner.faults.take(self.command, self.path)
        if fault is None:
            self._send(self._answer(body), logged)
        else:
            self._misbehave(fault, body, logged)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _answer(self, body: bytes) -> Response:
        target = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        pairs = parse_qsl(target.query, keep_blank_values=True)
        queries = {name: tuple(value for each, value in pairs if each == name) for name, _ in pairs}
        try:
            return self.server.owner.answer(Request(self.command, target.path, dict(pairs), headers, body, queries))
        except Exception:
            _log.exception("no answer to %s %s", self.command, target.path)
            return Response.html(500, "500 Internal Server Error")

    def _misbehave(self, fault: Fault, body: bytes, logged: LoggedRequest) -> None:
        owner = self.server.owner
        owner.pause(fault.delay, fault.hold)
        if fault.drop or owner.stopping.is_set():
            self._hang_up()
            return
        response = self._answer(body) if fault.effect or fault.status is None else Response(fault.status)
        content = fault.content()
        if content is not None:
            response = replace(response, body=content[0], content_type=content[1])
        elif fault.status is not None:
            response = replace(response, body=b"", content_type="text/html; charset=utf-8")
        headers = {**response.headers, **fault.headers}
        response = replace(response, status=fault.status or response.status, headers=headers)
        owner.pause(fault.delay_answer, fault.hold_answer)
        if fault.drop_answer or owner.stopping.is_set():
            self._hang_up()
            return
        self._send(response, logged, drip=fault.drip, truncate=fault.truncate)

    def _send(
        self,
        response: Response,
        logged: LoggedRequest,
        *,
        drip: float = 0,
        truncate: bool = False,
        closing: bool = False,
    ) -> None:
        headers = {"Content-Type": response.content_type, "Content-Length": str(len(response.body)), **response.headers}
        if closing or truncate:
            headers["Connection"] = "close"
            self.close_connection = True
        phrase = self.responses[response.status][0] if response.status in self.responses else "Unknown"
        lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        content = b"" if self.command == "HEAD" else response.body
        if truncate:
            content = content[: len(content) // 2]
        logged.status = response.status
        if not drip:
            self.wfile.write(head + content)
            return
        for byte in head + content:
            if self.server.owner.stopping.wait(drip):
                self.close_connection = True
                return
            self.wfile.write(bytes((byte,)))

    def _refuse_large(self, length: int, logged: LoggedRequest) -> None:
        self._send(Response.html(413, "413 Request Entity Too Large"), logged, closing=True)
        # Closing with unread bytes would reset the connection before the client has read the response.
        while length > 0:
            chunk = self.rfile.read(min(length, 65536))
            if not chunk:
                return
            length -= len(chunk)

    def _hang_up(self) -> None:
        # Reset the connection instead of closing it: this is what a client sees when a server or proxy dies.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
