# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package across all replicas, held at the broker; ``common.locks.package_lock`` says what it promises.

A process holds a package by owning an exclusive queue of the package's name, on a connection that it uses for nothing
else. The broker deletes the queue within milliseconds when the process dies, and it deletes the queue when the
connection falls silent. The threads of a process share the connection, so a lock in memory separates them first.

A push sets a mark on the broker: another queue, which survives its writer, and expires once the push can have no effect
any more. Setting the mark also proves, right before the push, that the lock's connection is still alive. A process that
was frozen until it lost the lock finds no connection, and does not push. A process that is frozen after that has less
time left for the push than the mark lasts.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.locks.connection import ANSWER_SECONDS, LockConnection
from omps_worker.broker.locks.lock_queues import LockedPackage
from omps_worker.common.errors import BrokerBlocked, BrokerError, BrokerRefused, BrokerUnavailable
from omps_worker.common.locks.package_lock import (
    PATIENCE,
    PUSH_SECONDS,
    STORING_SECONDS,
    HeldPackage,
    KeyedLock,
    Lockable,
    NamedLocks,
    busy,
    held_too_long,
)

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Shortest and longest pause in seconds between attempts to take a lock.

A holder needs longer to take the lock again than an attempt takes, so processes take turns without further arrangement.
"""


class BrokerLock(KeyedLock):
    """A PackageLock for all processes that share a broker.

    ``push_seconds``: how long a push to a package may take. ``patience``: how long to wait for a package or a catalog.
    Both in seconds.
    """

    def __init__(
        self,
        access: BrokerAccess,
        push_seconds: float = PUSH_SECONDS,
        *,
        patience: float = PATIENCE,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._link = LockConnection(access, answer_seconds=answer_seconds)
        self._push_seconds = push_seconds
        self._patience = patience
        self._local_locks = NamedLocks()

    def begin(self) -> None:
        """Begin to connect, so that the thread exists before a package is locked. Return at once.

        Raises ResourcesExhausted.
        """
        self._link.begin()

    def connect(self) -> None:
        """Connect, unless that was done before. Raises BrokerError at the first failure."""
        self._link.do(lambda _queues: None, patient=False)

    def close(self) -> None:
        """Release everything. A holder of a package notices this before its next push."""
        self._link.close()

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        """Wait for ``lockable`` and hold it during the ``with`` block; see ``package_lock.PackageLock``.

        Raises PackageBusy if the package is not free in time, BrokerUnavailable if the broker is away, and
        BrokerRefused if the broker refuses the lock. All are transient.
        """
        deadline = time.monotonic() + self._patience
        package, push_seconds = LockedPackage.named(lockable), lockable.push_seconds or self._push_seconds
        with self._local_locks.take(package, self._patience) as taken:
            if not taken:
                raise busy(package.label, self._patience)
            hold = self._acquire(package, deadline, push_seconds)
            try:
                yield hold
            finally:
                hold.release()

    def _acquire(self, package: LockedPackage, deadline: float, push_seconds: float) -> _HeldPackage:
        try:
            hold = _HeldPackage(self._link, package, self._take(package, deadline), push_seconds)
            try:
                hold.wait_for_mark(deadline)
            except BaseException:
                hold.release()
                raise
        except _OutOfTime:
            raise busy(package.label, self._patience) from None
        except BrokerRefused as error:
            # The permission existed when the worker started, and may be restored.
            error.transient = True
            raise
        return hold

    def _take(self, package: LockedPackage, deadline: float) -> int:
        pauses = _RetryPauses(deadline)
        while True:
            taken, session = self._link.do(lambda queues: queues.take(package))
            if taken:
                return session
            pauses.next()


class _HeldPackage:
    def __init__(self, link: LockConnection, package: LockedPackage, session: int, push_seconds: float) -> None:
        self._link = link
        self._package = package
        self._session = session
        self._push_seconds = push_seconds
        self._latest = float("inf")
        self._marked = False
        self._outcome_known = False

    def wait_for_mark(self, deadline: float) -> None:
        """Wait until no earlier push can have an effect any more."""
        package, pauses, logged = self._package, _RetryPauses(deadline), False
        while self._link.do(lambda queues: queues.marked(package), self._session)[0]:
            if not logged:
                log.info("the outcome of an earlier push to %s is not known yet: waiting", package.label)
                logged = True
            pauses.next()
        self._latest = time.monotonic() + 2 * self._push_seconds

    def begin_push(self) -> float:
        package, seconds = self._package, self._push_seconds + STORING_SECONDS
        while True:
            requested_at = time.monotonic()
            if requested_at > self._latest:
                raise held_too_long(package.label)
            self._marked, self._outcome_known = True, False
            try:
                self._link.do(lambda queues: queues.mark(package, seconds), self._session)
            except BrokerBlocked:
                raise
            except BrokerError as error:
                raise BrokerUnavailable(
                    f"The lock on {package.label} was lost before the push, and nothing was pushed: {error.message}"
                ) from error
            # The mark was set some time after ``requested_at``. If the process was frozen since, renew the mark.
            if time.monotonic() - requested_at < self._push_seconds / 2:
                return requested_at + self._push_seconds

    def end_push(self) -> None:
        self._outcome_known = True

    def release(self) -> None:
        """Release the package, and remove the mark if the outcome of the push is known."""
        package, unmark = self._package, self._marked and self._outcome_known
        try:
            self._link.do(lambda queues: queues.release(package, unmark=unmark), self._session)
        except BrokerError as error:
            log.warning("the lock on %s was lost before it was released: %s", package.label, error.message)


class _OutOfTime(Exception):
    """The deadline of a wait has passed."""


class _RetryPauses:
    """Pauses between attempts: growing, and random, so that processes do not try in step."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = FIRST_PAUSE

    def next(self) -> None:
        """Pause. Raises _OutOfTime at the deadline."""
        if time.monotonic() >= self._deadline:
            raise _OutOfTime
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
        self._pause = min(self._pause * 1.3, LONGEST_PAUSE)


class BrokerLockWithFallback(KeyedLock):
    """A PackageLock for commands: the broker's lock, or ``fallback`` if the broker is away.

    The first ``hold`` decides between them. With the fallback, a warning says once what may happen to packages, and
    once what may happen to catalogs. A broker that is connected but accepts no messages is not away: a worker may be
    connected to it, too, and in the middle of a push.
    """

    def __init__(self, first: BrokerLock, fallback: KeyedLock) -> None:
        self._first = first
        self._fallback = fallback
        self._guard = threading.Lock()
        self._chosen: KeyedLock | None = None
        self._missing = ""
        self._warned: set[str] = set()

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        """Hold ``lockable`` with the lock that was chosen.

        Raises BrokerRefused if the broker is there but refuses the login, and BrokerBlocked if it accepts no messages.
        """
        with self._guard:
            chosen = self._chosen = self._chosen or self._choose()
            if chosen is self._fallback and lockable.danger not in self._warned:
                self._warned.add(lockable.danger)
                log.warning(
                    "writing to %s without a lock against other processes: %s %s",
                    lockable.label,
                    self._missing,
                    lockable.danger,
                )
        with chosen.lock(lockable) as hold:
            yield hold

    def _choose(self) -> KeyedLock:
        try:
            self._first.connect()
        except BrokerUnavailable as error:
            self._missing = error.message
            return self._fallback
        return self._first
