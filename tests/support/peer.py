# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP server on loopback that follows a test's script, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

PATIENCE = 30.0


class Conversation:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.connection = connection
        self.stopping = stopping
        self._reader = connection.makefile("rb")

    def read_request(self) -> bytes:
        """Return the next request, head and body; empty if the client has closed the connection."""
        head = b""
        length = 0
        while not head.endswith(b"\r\n\r\n"):
            line = self._reader.readline()
            if not line:
                return b""
            head += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + self._reader.read(length)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def drip(self, data: bytes, seconds: float) -> None:
        """Send ``data`` byte by byte, ``seconds`` apart, until the server stops."""
        for byte in data:
            if self.stopping.wait(seconds):
                return
            self.send(bytes([byte]))

    def wait(self) -> None:
        """Send nothing until the server stops."""
        self.stopping.wait(PATIENCE)


Script = Callable[[Conversation], object]


class Peer:
    """Serves its first connection with the first script, and so on. The last script serves all further connections."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Peer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        for connection in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()
            if self._stopping.is_set():
                return

    def _serve(self, connection: socket.socket, script: Script) -> None:
        with contextlib.suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                script(Conversation(connection, self._stopping))


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port that refuses connections. It is bound, so no other program gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port on which connecting neither succeeds nor fails, because its connection queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
