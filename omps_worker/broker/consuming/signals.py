# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM, SIGINT and SIGHUP, while a worker runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)

GRACE_SECONDS = 2.0
"""How long after the deadline a main thread that hangs, say in a broker that is silent, is torn away."""


class Interrupted(BaseException):
    """Told to stop in the middle of connecting."""


class StopNow(BaseException):
    """Told to stop a second time, or out of patience."""


class Signals:
    """Handles signals between ``__enter__`` and ``__exit__``, if that is in the main thread.

    The first SIGTERM or SIGINT sets ``stopping``; work in hand then has ``patience`` seconds. The
    second raises StopNow wherever the main thread is, and so does the end of all patience.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._deadline: float | None = None
        self._interruptible = False
        self._before: dict[signal.Signals, Any] = {}
        self.stopping = False
        self.reload_wanted = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                self._before[number] = signal.signal(number, self._on_stop)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_stop)
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_reload)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def overdue(self) -> bool:
        """Whether the work in hand has had its time."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def stop(self) -> None:
        """Begin to stop, as the first signal does."""
        if not self.stopping:
            self._deadline = time.monotonic() + self._patience
            self.stopping = True

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """The first signal raises Interrupted inside: for waits that nothing is lost in."""
        self._interruptible = True
        try:
            if self.stopping:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def _on_stop(self, _number: int, _frame: object) -> None:
        if self.stopping:
            raise StopNow
        self.stop()
        signal.setitimer(signal.ITIMER_REAL, self._patience + GRACE_SECONDS)
        if self._interruptible:
            raise Interrupted

    def _on_reload(self, _number: int, _frame: object) -> None:
        self.reload_wanted = True
