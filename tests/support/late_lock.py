# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock for holders that are stopped, as with their machine, right before a push."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omps_worker.common.locks.package_lock import HeldPackage, Lockable, ProcessLock


class LateLock(ProcessLock):
    """A ProcessLock whose holders hear how long they may push when that time is over. They call ``meanwhile``."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        with super().lock(lockable) as hold:
            yield _Late(hold, self._meanwhile)


class _Late:
    def __init__(self, hold: HeldPackage, meanwhile: Callable[[], object]) -> None:
        self._hold = hold
        self._meanwhile = meanwhile

    def begin_push(self) -> float:
        self._hold.begin_push()
        self._meanwhile()
        return time.monotonic()

    def end_push(self) -> None:
        self._hold.end_push()
