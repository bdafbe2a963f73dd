# SPDX-License-Identifier: GPL-3.0-or-later
"""The time that one call has, and the one thread that ends the calls whose time has passed."""

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
    """The time that one call has, and what is known about it.

    ``expired``: the time passed and the sockets were shut down. ``sent``: the peer may have
    received (a part of) the request. ``reused``: the last request went over a kept connection.
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
        """Seconds that are left, never less than a millisecond: zero means "for ever" to some."""
        return max(self.end - time.monotonic(), 0.001)

    def watch(self, sock: Any) -> None:
        """Shut ``sock`` down when the time has passed."""
        # A duplicate, because TLS takes the descriptor away from the socket it wraps.
        handle = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            self._handles.append(handle)
            if self.expired:
                self._shut_down()

    def expire(self) -> None:
        """Shut every watched socket down now."""
        with self._lock:
            self.expired = True
            self._shut_down()

    def release(self) -> None:
        """Watch no socket any longer."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def _shut_down(self) -> None:
        for handle in self._handles:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)


class _Watcher:
    """Expires deadlines in time, in one thread for all of the process, which the first one starts."""

    def __init__(self) -> None:
        self._reset()
        # A child has the deadlines of its parent, and not the thread.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._news = threading.Condition(threading.Lock())
        self._running: set[Deadline] = set()
        self._wakes_at = math.inf
        """When the thread looks again. It is not told of those that end: most calls end long before that."""
        self._started = False

    def start(self) -> None:
        """Start the thread, if that was not done before. Raises ResourcesExhausted."""
        with self._news:
            self._start()

    def _start(self) -> None:
        if not self._started:
            machine.start(threading.Thread(target=self._run, name="deadlines", daemon=True))
            self._started = True

    def add(self, clock: Deadline) -> None:
        """Expire it when its time has passed. Raises ResourcesExhausted if there is no thread that could."""
        with self._news:
            self._start()
            self._running.add(clock)
            if clock.end < self._wakes_at:
                self._wakes_at = clock.end
                self._news.notify()

    def remove(self, clock: Deadline) -> None:
        """It ended in time, or did not."""
        with self._news:
            self._running.discard(clock)

    def _run(self) -> None:
        while True:
            for clock in self._due():
                try:
                    clock.expire()
                except Exception:
                    log.exception("a call whose time has passed cannot be ended")

    def _due(self) -> list[Deadline]:
        """Those whose time has passed; waits for the first of them, or until it is no longer known to be the first."""
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
    """The deadline of this thread's call, if it has one."""
    return getattr(_thread, "deadline", None)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Give what happens in this thread ``seconds``, and no more than an outer deadline has left.

    Nothing is raised by itself: what waits for a socket fails, and ``expired`` says why. An
    answer whose length nobody knows just ends, so look at ``expired`` also when all went well.
    Raises ResourcesExhausted, before anything begins, where the thread that watches all deadlines
    cannot be started.
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
