# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package or catalog: one push at a time, and none before the outcome of the previous push is known.

A registry does not protect its versions: of concurrent pushes, it may accept several under one version. So the worker
holds the package while it queries, pushes and queries again. And a registry may store a push whose sender has given up
or died. So a push leaves a mark, which stays until the outcome is known or until the push can have no effect any more.
The next holder waits for that.

A catalog is locked in the same way as a package: an update of one of its packages is a push to the catalog.

This module has the interface of a lock and the lock within one process. ``broker.locks.lock`` has the lock across
all replicas.
"""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from omps_worker.common.errors import PackageBusy

PATIENCE = 60.0
"""How long to wait for a package before the work is postponed, in seconds."""

PUSH_SECONDS = 30.0
"""The default maximum duration of a push, in seconds."""

STORING_SECONDS = 5.0
"""How long a registry may still store a push after its sender stopped waiting for the answer, in seconds."""


class HeldPackage(Protocol):
    """A package that one holder has locked. Each push is between ``begin_push`` and ``end_push``."""

    def begin_push(self) -> float:
        """Check that the package is still held, and leave a mark that a push is under way.

        Returns the deadline of the push, in terms of ``time.monotonic``. Raises PackageBusy or BrokerError, both
        transient, if another holder may have the package by now; then nothing may be pushed.
        """
        ...

    def end_push(self) -> None:
        """Record that the outcome of the push is known, so the mark is removed when the package is released.

        If this is not called, the mark stays.
        """
        ...


class PackageLock(Protocol):
    """A lock that lets only one holder at a time work on a package, or on a catalog."""

    def hold(self, registry: str, organization: str, repository: str) -> AbstractContextManager[HeldPackage]:
        """Wait for the package and hold it during the ``with`` block.

        Raises PackageBusy, which is transient, if the package is not free in time. A lock that needs the broker also
        raises BrokerError.
        """
        ...

    def hold_catalog(self, image: str, push_seconds: float) -> AbstractContextManager[HeldPackage]:
        """Wait for a catalog and hold it during the ``with`` block. Raises the errors of ``hold``.

        ``image`` is ``host/path:tag``. ``push_seconds``: how long a push to it may take; it must be the same in all
        processes.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lockable:
    """A package or a catalog that can be locked. Processes that agree on ``name`` exclude each other."""

    name: str
    label: str = field(compare=False)
    """The name in messages."""
    push_seconds: float | None = field(default=None, compare=False)
    """How long a push may take, in seconds; None: as long as the lock allows for all packages."""
    danger: str = field(default="", compare=False)
    """What may happen if two processes write to it at the same time, as a sentence."""

    @classmethod
    def package(cls, registry: str, organization: str, repository: str) -> Lockable:
        """Return a package of an app registry. ``registry`` is the configured base URL."""
        label = f"{organization}/{repository}"
        danger = "If a worker pushes to the same package at the same time, two contents may get the same version."
        return cls(f"{registry}/{label}", label, danger=danger)

    @classmethod
    def catalog(cls, image: str, push_seconds: float) -> Lockable:
        """Return a catalog by its image, ``host/path:tag``."""
        danger = "If a worker updates the same catalog at the same time, the update of one of the two may be lost."
        return cls(image, image, push_seconds, danger)

    @property
    def key(self) -> str:
        """The name as a part of names of queues and files: the first half of its hex sha256."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]


class KeyedLock(ABC):
    """The base of all PackageLocks: what they differ in is how they lock."""

    @abstractmethod
    def lock(self, lockable: Lockable) -> AbstractContextManager[HeldPackage]:
        """Wait for ``lockable`` and hold it during the ``with`` block; see ``PackageLock.hold``."""

    def hold(self, registry: str, organization: str, repository: str) -> AbstractContextManager[HeldPackage]:
        """Wait for a package and hold it during the ``with`` block; see ``PackageLock``."""
        return self.lock(Lockable.package(registry, organization, repository))

    def hold_catalog(self, image: str, push_seconds: float) -> AbstractContextManager[HeldPackage]:
        """Wait for a catalog and hold it during the ``with`` block; see ``PackageLock``."""
        return self.lock(Lockable.catalog(image, push_seconds))


def busy(package: str, seconds: float) -> PackageBusy:
    """Return the error for a caller that waited for a package in vain."""
    return PackageBusy(f"Another push to {package} was under way, or its outcome was unknown, for {seconds:g} s.")


def held_too_long(package: str) -> PackageBusy:
    """Return the error for a holder whose time ran out before the push. It counts as an attempt."""
    error = PackageBusy(f"Preparing the push to {package} took too long: nothing was pushed.")
    error.counts = True
    return error


class NamedLocks:
    """Named locks for the threads of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    @contextmanager
    def take(self, name: Hashable, seconds: float) -> Iterator[bool]:
        """Wait at most ``seconds`` for the lock; yield whether it was acquired."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
            self._users[name] += 1
        acquired = lock.acquire(timeout=max(seconds, 0.0))
        try:
            yield acquired
        finally:
            if acquired:
                lock.release()
            with self._guard:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name], self._locks[name]


class ProcessLock(KeyedLock):
    """A PackageLock for the threads of this process. It does not exclude other processes."""

    def __init__(self, push_seconds: float = PUSH_SECONDS, *, patience: float = PATIENCE) -> None:
        self._push_seconds = push_seconds
        self._patience = patience
        self._turns = NamedLocks()
        self._marks: dict[Hashable, float] = {}

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        """Wait for ``lockable`` and hold it during the ``with`` block. Raises PackageBusy."""
        deadline = time.monotonic() + self._patience
        with self._turns.take(lockable, self._patience) as acquired:
            if not acquired:
                raise busy(lockable.label, self._patience)
            expiry = self._marks.get(lockable, 0.0)
            if expiry > deadline:
                raise busy(lockable.label, self._patience)
            time.sleep(max(expiry - time.monotonic(), 0.0))
            self._marks.pop(lockable, None)
            yield _HeldByProcess(lockable, self._marks, lockable.push_seconds or self._push_seconds)


class _HeldByProcess:
    def __init__(self, lockable: Lockable, marks: dict[Hashable, float], push_seconds: float) -> None:
        self._lockable = lockable
        self._marks = marks
        self._push_seconds = push_seconds
        self._latest = time.monotonic() + 2 * push_seconds

    def begin_push(self) -> float:
        now = time.monotonic()
        if now > self._latest:
            raise held_too_long(self._lockable.label)
        self._marks[self._lockable] = now + self._push_seconds + STORING_SECONDS
        return now + self._push_seconds

    def end_push(self) -> None:
        self._marks.pop(self._lockable, None)
