# SPDX-License-Identifier: GPL-3.0-or-later
"""Handling of SIGTERM, SIGINT and SIGHUP while a worker runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)

GRACE_SECONDS = 2.0
"""How long after the shutdown deadline StopNow is raised in a main thread that hangs, for example on a silent broker.
"""


class Interrupted(BaseException):
    """A stop was requested in the middle of connecting."""


class StopNow(BaseException):
    """A stop was requested a second time, or the shutdown took too long."""


class Signals:
    """Handles signals between ``__enter__`` and ``__exit__``, if these are called in the main thread.

    The first SIGTERM or SIGINT sets ``stopping``; work in flight then has ``patience`` seconds to finish. The second
    one raises StopNow wherever the main thread is. So does the end of ``patience`` plus GRACE_SECONDS.
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
        """Whether the time for work in flight is over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def stop(self) -> None:
        """Begin to stop, like the first signal."""
        if not self.stopping:
            self._deadline = time.monotonic() + self._patience
            self.stopping = True

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the first signal raise Interrupted inside the block: for waits in which nothing can be lost."""
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
