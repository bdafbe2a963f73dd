# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy on loopback that can cut connections, refuse new ones, or discard data.

It can also wait for certain bytes from a client and silence that connection from then on, and slow down the data from
the server: delay it, or send it piece by piece.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Catch:
    """The bytes from a client after which a connection is silenced.

    With ``passed_on``, these bytes and those after them still reach the server, but its answer does not reach the
    client. (One message may arrive in several pieces, of which the first has the bytes.)
    """

    pattern: bytes
    passed_on: bool = False
    caught: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    """Set when the server has answered after that; the answer was discarded."""


@dataclass(frozen=True)
class Slowness:
    """How to slow down the data from the server, from the first occurrence of ``pattern`` on.

    The data is delayed once by ``seconds``, then sent at ``bytes_per_second``, if that is not None.
    """

    pattern: bytes = b""
    seconds: float = 0.0
    bytes_per_second: int | None = None


_FRAME = struct.Struct(">BHI")
"""The header of an AMQP frame: its type, its channel, and the size of its payload, without the frame-end byte."""

_METHOD, _FRAME_END = 1, 0xCE
"""The type of a frame with a method, the first of each message, and the last byte of every frame."""


@dataclass
class LateChannel:
    """Delays the messages of one channel, while all other channels work.

    The first frame to the client that begins with ``pattern`` is delayed by ``seconds``, and so are all frames after it
    on the same channel.
    """

    pattern: bytes
    seconds: float
    number: int | None = None
    held: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_on(self, frame: bytes, client: socket.socket) -> None:
        _, channel, _ = _FRAME.unpack_from(frame)
        with self.lock:
            if self.number is None and frame[_FRAME.size :].startswith(self.pattern):
                self.number = channel
                timer = threading.Timer(self.seconds, self._release, [client])
                timer.daemon = True
                timer.start()
            if channel == self.number:
                self.held.append(frame)
            else:
                client.sendall(frame)

    def _release(self, client: socket.socket) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.number = -1
            client.sendall(b"".join(self.held))


class _Pair:
    """The connections to a client and to the server, with their state."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.catch: Catch | None = None
        self.slow = False
        self.pending = b""

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        return self.client, self.server


class Proxy:
    """Forwards connections to a port of this machine: ``with Proxy(port) as proxy``, then connect to ``proxy.port``.

    With several ports, each connection goes to the next port that accepts it.
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
        """How many bytes the server has sent through the proxy."""
        self.at_most: int | None = None
        """New connections are cut after this number of bytes from the server; None: never."""
        self._catches: list[Catch] = []
        self.slowness: Slowness | None = None
        self.late_channel: LateChannel | None = None
        self._over = threading.Event()

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept() keeps the port open until the socket is shut down.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._over.set()
        self.cut()

    def catch(self, pattern: bytes, *, passed_on: bool = False) -> Catch:
        """Silence, in both directions, the first connection on which a client sends ``pattern``.

        The message with the pattern is the first that the server does not get. An ack may leave in one packet with it.
        """
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
                # Before the data is sent; otherwise the answer could get through.
                pair.catch = next(found, None)
                if pair.catch is not None and not pair.catch.passed_on and not self.silent.is_set():
                    pair.server.sendall(data[: _start_of_message(data, pair.catch.pattern)])
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
            elif self.late_channel is not None:
                self._pass_on_by_frames(pair, data, self.late_channel)
            elif not self.silent.is_set():
                self._pass_on(pair, data)

    def _pass_on_by_frames(self, pair: _Pair, data: bytes, late: LateChannel) -> None:
        pair.pending += data
        while len(pair.pending) >= _FRAME.size:
            _, _, size = _FRAME.unpack_from(pair.pending)
            end = _FRAME.size + size + 1
            if len(pair.pending) < end:
                return
            frame, pair.pending = pair.pending[:end], pair.pending[end:]
            late.pass_on(frame, pair.client)

    def _pass_on(self, pair: _Pair, data: bytes) -> None:
        slowness = self.slowness
        if slowness is not None and not pair.slow and slowness.pattern in data:
            pair.slow = True
            self._over.wait(slowness.seconds)
        if slowness is None or not pair.slow or slowness.bytes_per_second is None:
            pair.client.sendall(data)
            return
        piece = max(slowness.bytes_per_second // 20, 1)
        for start in range(0, len(data), piece):
            pair.client.sendall(data[start : start + piece])
            self._over.wait(piece / slowness.bytes_per_second)


def _start_of_message(data: bytes, pattern: bytes) -> int:
    """Return where the frames of the message with ``pattern`` begin in ``data``; 0 if that cannot be told."""
    start = position = 0
    while position + _FRAME.size < len(data):
        kind, _, size = _FRAME.unpack_from(data, position)
        end = position + _FRAME.size + size + 1
        if end > len(data) or data[end - 1] != _FRAME_END:
            return 0
        if kind == _METHOD:
            start = position
        if pattern in data[position:end]:
            return start
        position = end
    return 0
