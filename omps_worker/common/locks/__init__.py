# SPDX-License-Identifier: GPL-3.0-or-later
"""Only one push to a package at a time, and none before it is known what the last one did.

A registry does not guard its versions: of pushes that meet, it may accept several under one
version. So who pushes holds the package while looking, pushing and looking again. And a registry
may store a push whose sender has given up or died, so a push leaves a mark which stands until what
it did is known, or until it can have no effect any more; the next holder waits for that.

Here is what a lock promises, and the lock of one process. ``broker.lock`` has that of all replicas.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from omps_worker.common.errors import PackageBusy

PATIENCE = 60.0
"""How many seconds to wait for a package before the work is put off."""

PUSH_SECONDS = 30.0
"""How many seconds a push may take, unless the configuration says otherwise."""

STORING_SECONDS = 5.0
"""How long a registry may go on storing a push after its sender gave up waiting for the answer."""


class HeldPackage(Protocol):
    """A package in the hands of one holder. Each push stands between ``begin_push`` and ``end_push``."""

    def begin_push(self) -> float:
        """Make sure that the package is still held, and leave a mark that a push is under way.

        Returns the time, as of ``time.monotonic``, at which the push has to be over. Raises
        PackageBusy or BrokerError, both transient, when the package may belong to another by now:
        then nothing must be pushed.
        """
        ...

    def end_push(self) -> None:
        """It is known what the push did: the mark may go when the hold ends. Else it stays."""
        ...


class PackageLock(Protocol):
    """Only one holder at a time works on a package."""

    def hold(self, registry: str, organization: str, repository: str) -> AbstractContextManager[HeldPackage]:
        """Wait for the package and hold it.

        Raises PackageBusy, which is transient, when it is not free in time; a lock that needs the
        broker also raises BrokerError.
        """
        ...


def busy(package: str, seconds: float) -> PackageBusy:
    """The error of somebody who waited for a package in vain."""
    return PackageBusy(f"Another push to {package} was under way, or its outcome unknown, for {seconds:g} s.")


def held_too_long(package: str) -> PackageBusy:
    """The error of a holder whose time ran out before the push. That was a try, of whatever took so long."""
    error = PackageBusy(f"It took too long to get ready to push to {package}: nothing was pushed.")
    error.counts = True
    return error


class NamedLocks:
    """Locks by name, among the threads of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    @contextmanager
    def take(self, name: Hashable, seconds: float) -> Iterator[bool]:
        """Wait for the name, at most that long; gives whether it is ours now."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
            self._users[name] += 1
        ours = lock.acquire(timeout=max(seconds, 0.0))
        try:
            yield ours
        finally:
            if ours:
                lock.release()
            with self._guard:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name], self._locks[name]


class ProcessLock:
    """A PackageLock among the threads of this process; it knows nothing of other processes."""

    def __init__(self, push_seconds: float = PUSH_SECONDS, *, patience: float = PATIENCE) -> None:
        self._push_seconds = push_seconds
        self._patience = patience
        self._turns = NamedLocks()
        self._marks: dict[Hashable, float] = {}

    @contextmanager
    def hold(self, registry: str, organization: str, repository: str) -> Iterator[HeldPackage]:
        """Wait for the package and hold it."""
        deadline = time.monotonic() + self._patience
        package = registry, organization, repository
        with self._turns.take(package, self._patience) as ours:
            if not ours:
                raise busy(f"{organization}/{repository}", self._patience)
            expiry = self._marks.get(package, 0.0)
            if expiry > deadline:
                raise busy(f"{organization}/{repository}", self._patience)
            time.sleep(max(expiry - time.monotonic(), 0.0))
            self._marks.pop(package, None)
            yield _HeldByProcess(package, self._marks, self._push_seconds)


class _HeldByProcess:
    def __init__(self, package: tuple[str, str, str], marks: dict[Hashable, float], push_seconds: float) -> None:
        self._package = package
        self._marks = marks
        self._push_seconds = push_seconds
        self._latest = time.monotonic() + 2 * push_seconds

    def begin_push(self) -> float:
        now = time.monotonic()
        if now > self._latest:
            raise held_too_long("/".join(self._package[1:]))
        self._marks[self._package] = now + self._push_seconds + STORING_SECONDS
        return now + self._push_seconds

    def end_push(self) -> None:
        self._marks.pop(self._package, None)
