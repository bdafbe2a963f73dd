# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines for calls, and the one thread that ends calls whose deadline has passed."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from omps_worker.common import machine

log = logging.getLogger(__name__)


class Deadline:
    """The deadline of one call, and what is known about the call.

    ``expired``: the deadline passed and the sockets were shut down. ``sent``: the peer may have received the request or
    a part of it. ``reused``: the last request used a kept connection.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self.sent = False
        self.reused = False
        self.end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []

    def remaining(self) -> float:
        """Return the remaining seconds, at least a millisecond: some libraries take zero as "no timeout"."""
        return max(self.end - time.monotonic(), 0.001)

    def watch(self, sock: Any) -> None:
        """Shut ``sock`` down when the deadline passes."""
        # A duplicate of the descriptor, because TLS takes it away from the socket that it wraps.
        handle = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._handles.append(handle)
            if self.expired:
                self._shut_down()

    def expire(self) -> None:
        """Shut down every watched socket now."""
        with self._lock:
            self.expired = True
            self._shut_down()

    def release(self) -> None:
        """Stop watching all sockets."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def _shut_down(self) -> None:
        for handle in self._handles:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)


class _Watcher:
    """Expires deadlines on time, in one thread for the whole process. The first deadline starts the thread."""

    def __init__(self) -> None:
        self._reset()
        # A forked child has its parent's deadlines, but not the thread.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._news = threading.Condition(threading.Lock())
        self._running: set[Deadline] = set()
        self._wakes_at = math.inf
        """When the thread wakes up next. It is not notified of calls that end: most end long before that time."""
        self._started = False

    def start(self) -> None:
        """Start the thread if it is not running yet. Raises ResourcesExhausted."""
        with self._news:
            self._start()

    def _start(self) -> None:
        if not self._started:
            machine.start(threading.Thread(target=self._run, name="deadlines", daemon=True))
            self._started = True

    def add(self, clock: Deadline) -> None:
        """Expire ``clock`` when its time has passed. Raises ResourcesExhausted if the thread cannot be started."""
        with self._news:
            self._start()
            self._running.add(clock)
            if clock.end < self._wakes_at:
                self._wakes_at = clock.end
                self._news.notify()

    def remove(self, clock: Deadline) -> None:
        """Forget ``clock``, whose call has ended."""
        with self._news:
            self._running.discard(clock)

    def _run(self) -> None:
        while True:
            for clock in self._due():
                try:
                    clock.expire()
                except Exception:
                    log.exception("a call whose deadline has passed cannot be ended")

    def _due(self) -> list[Deadline]:
        """Wait until the earliest deadline passes, and return those that have passed.

        Returns an empty list if it has only waited: the earliest deadline may be another one by then.
        """
        with self._news:
            left = self._wakes_at - time.monotonic()
            if left > 0:
                self._news.wait(min(left, threading.TIMEOUT_MAX))
                return []
            due = [clock for clock in self._running if clock.end <= time.monotonic()]
            self._running.difference_update(due)
            self._wakes_at = min((clock.end for clock in self._running), default=math.inf)
            return due


watcher = _Watcher()
_thread = threading.local()


def current() -> Deadline | None:
    """Return the deadline of this thread's call, or None."""
    return getattr(_thread, "deadline", None)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Limit the calls of this thread inside the ``with`` block to ``seconds``, and to the rest of an outer deadline.

    The deadline itself raises nothing. Waiting for a socket fails, and ``expired`` says why. A response of unknown
    length ends as if it were complete, so check ``expired`` also after a success. Raises ResourcesExhausted, before
    anything begins, if the thread that watches all deadlines cannot be started.
    """
    outer = current()
    clock = Deadline(seconds if outer is None else min(seconds, outer.remaining()))
    watcher.add(clock)
    _thread.deadline = clock
    try:
        yield clock
    finally:
        watcher.remove(clock)
        _thread.deadline = outer
        clock.release()
