# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy on loopback that can cut connections, refuse new ones, or swallow what is sent.

It can also wait for certain bytes from a client and let that connection fall silent right there.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Catch:
    """The bytes to wait for, from a client. ``passed_on``: they still reach the server, whose answer does not come."""

    pattern: bytes
    passed_on: bool = False
    caught: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Forwards to a port of this machine. ``with Proxy(port) as proxy``; connect to ``proxy.port``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self.refusing = False
        self.silent = threading.Event()
        self.accepted = 0
        self._catches: list[Catch] = []

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept() keeps the port open until somebody shuts it down.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def catch(self, pattern: bytes, *, passed_on: bool = False) -> Catch:
        """Have the first connection fall silent, in both directions, that a client sends ``pattern`` on."""
        catch = Catch(pattern, passed_on)
        self._catches.append(catch)
        return catch

    def cut(self) -> None:
        """Cut all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            caught = threading.Event()
            for source, sink, catches in ((client, server, self._catches), (server, client, [])):
                threading.Thread(target=self._forward, args=(source, sink, catches, caught), daemon=True).start()

    def _forward(
        self, source: socket.socket, sink: socket.socket, catches: list[Catch], caught: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                catch = next((one for one in catches if not one.caught.is_set() and one.pattern in data), None)
                if catch is not None:
                    # In this order, or the answer might slip through before anybody knows.
                    caught.set()
                    if catch.passed_on:
                        sink.sendall(data)
                    catch.caught.set()
                if not self.silent.is_set() and not caught.is_set():
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
