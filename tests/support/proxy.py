# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy on loopback that can cut connections, refuse new ones, or swallow what is sent.

It can also wait for certain bytes from a client and let that connection fall silent right there.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Catch:
    """The bytes to wait for, from a client.

    ``passed_on``: they, and what the client sends after them, still reach the server, whose answer does not come. (One
    message may come in several pieces, of which the first has the bytes.)
    """

    pattern: bytes
    passed_on: bool = False
    caught: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    """The server had something to say after it, which was swallowed."""


class _Pair:
    """A client and the server, and what was caught between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.catch: Catch | None = None

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        return self.client, self.server


class Proxy:
    """Forwards to a port of this machine. ``with Proxy(port) as proxy``; connect to ``proxy.port``.

    Of several ports each connection gets the next one that somebody listens on.
    """

    def __init__(self, *targets: int) -> None:
        self._targets = list(targets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self.refusing = False
        self.silent = threading.Event()
        self.accepted = 0
        self.passed = 0
        """How many bytes the server has sent through it."""
        self.at_most: int | None = None
        """After how many bytes from the server a connection is cut, from the next one on."""
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
            for end in pair.ends:
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
            server = self._connect()
            if server is None:
                client.close()
                continue
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.append(pair)
            for forward in (self._upwards, self._downwards):
                threading.Thread(target=self._forward, args=(forward, pair), daemon=True).start()

    def _connect(self) -> socket.socket | None:
        for target in tuple(self._targets):
            self._targets.append(self._targets.pop(0))
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", target), timeout=10)
                server.settimeout(None)
                return server
        return None

    def _forward(self, forward: Callable[[_Pair], None], pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            forward(pair)
        for end in pair.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _upwards(self, pair: _Pair) -> None:
        while data := pair.client.recv(65536):
            if pair.catch is None:
                found = (one for one in self._catches if not one.caught.is_set() and one.pattern in data)
                # Before it is sent, or the answer might slip through.
                pair.catch = next(found, None)
            catch = pair.catch
            if not self.silent.is_set() and (catch is None or catch.passed_on):
                pair.server.sendall(data)
            if catch is not None:
                catch.caught.set()

    def _downwards(self, pair: _Pair) -> None:
        left = self.at_most
        while left != 0 and (data := pair.server.recv(65536 if left is None else left)):
            self.passed += len(data)
            left = None if left is None else left - len(data)
            if pair.catch is not None:
                pair.catch.answered.set()
            elif not self.silent.is_set():
                pair.client.sendall(data)
