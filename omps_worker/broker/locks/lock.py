# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package over all replicas, kept by the broker; see ``locks`` for what it promises.

To hold a package is to own an exclusive queue of its name, on a connection that this process has
for nothing else. The broker lets go of it within milliseconds when the process dies, and when its
connection falls silent. Among the threads of the process, which share the connection, a lock in
memory comes first.

A push leaves a mark on the broker: another queue, which outlives its writer, and vanishes by itself
once the push can have no effect any more. Putting it up is also the proof, right before the push,
that the lock's connection still lives: whoever was frozen for long enough to lose the lock finds
no connection, and does not push. Who was frozen only after that has less time left for the push
than the mark stands.
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
from omps_worker.common.locks import (
    PATIENCE,
    PUSH_SECONDS,
    STORING_SECONDS,
    HeldPackage,
    NamedLocks,
    PackageLock,
    busy,
    held_too_long,
)

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between tries to take a lock. A holder needs longer to take it again than a try takes, so
that processes take turns without further arrangement."""


class BrokerLock:
    """A PackageLock among everybody on one broker.

    ``push_seconds``: how long a push may take; ``patience``: how long to wait for a package.
    """

    def __init__(
        self,
        where: BrokerAccess,
        push_seconds: float = PUSH_SECONDS,
        *,
        patience: float = PATIENCE,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._link = LockConnection(where, answer_seconds=answer_seconds)
        self._push_seconds = push_seconds
        self._patience = patience
        self._turns = NamedLocks()

    def begin(self) -> None:
        """Begin to connect, so that nothing is left to be started when a package is to be held. Returns at once.

        Raises ResourcesExhausted.
        """
        self._link.begin()

    def connect(self) -> None:
        """Connect, if that was not done before. Raises BrokerError at the first failure."""
        self._link.do(lambda _queues: None, patient=False)

    def close(self) -> None:
        """Let go of everything. Who holds a package notices before the next push."""
        self._link.close()

    @contextmanager
    def hold(self, registry: str, organization: str, repository: str) -> Iterator[HeldPackage]:
        """Wait for the package and hold it; see ``common.locks.PackageLock``.

        Raises PackageBusy when it is not free in time, BrokerUnavailable when the broker is away,
        and BrokerRefused when it does not let us lock; all are transient.
        """
        deadline = time.monotonic() + self._patience
        package = LockedPackage.of(registry, organization, repository)
        with self._turns.take(package, self._patience) as ours:
            if not ours:
                raise busy(package.label, self._patience)
            hold = self._acquire(package, deadline)
            try:
                yield hold
            finally:
                hold.release()

    def _acquire(self, package: LockedPackage, deadline: float) -> _HeldPackage:
        try:
            hold = _HeldPackage(self._link, package, self._take(package, deadline), self._push_seconds)
            try:
                hold.wait_for_mark(deadline)
            except BaseException:
                hold.release()
                raise
        except _OutOfTime:
            raise busy(package.label, self._patience) from None
        except BrokerRefused as error:
            # What was granted at the start may be granted again.
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
        self._known = False

    def wait_for_mark(self, deadline: float) -> None:
        """Wait until no earlier push can have an effect any more."""
        package, pauses, told = self._package, _RetryPauses(deadline), False
        while self._link.do(lambda queues: queues.marked(package), self._session)[0]:
            if not told:
                log.info("the outcome of an earlier push to %s is not known yet: waiting", package.label)
                told = True
            pauses.next()
        self._latest = time.monotonic() + 2 * self._push_seconds

    def begin_push(self) -> float:
        package, seconds = self._package, self._push_seconds + STORING_SECONDS
        while True:
            asked = time.monotonic()
            if asked > self._latest:
                raise held_too_long(package.label)
            self._marked, self._known = True, False
            try:
                self._link.do(lambda queues: queues.mark(package, seconds), self._session)
            except BrokerBlocked:
                raise
            except BrokerError as error:
                raise BrokerUnavailable(
                    f"The lock on {package.label} was lost before the push, and nothing was pushed: {error.message}"
                ) from error
            # The mark stands from some moment after ``asked``. Was this process frozen meanwhile?
            if time.monotonic() - asked < self._push_seconds / 2:
                return asked + self._push_seconds

    def end_push(self) -> None:
        self._known = True

    def release(self) -> None:
        """Let others have the package, and take down the mark if it is known what the push did."""
        package, unmark = self._package, self._marked and self._known
        try:
            self._link.do(lambda queues: queues.release(package, unmark=unmark), self._session)
        except BrokerError as error:
            log.warning("the lock on %s was lost before it was released: %s", package.label, error.message)


class _OutOfTime(Exception):
    """The deadline of a wait has passed."""


class _RetryPauses:
    """Pauses between tries: growing, and random so that processes do not try in step."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = FIRST_PAUSE

    def next(self) -> None:
        """Pause; raises _OutOfTime at the deadline."""
        if time.monotonic() >= self._deadline:
            raise _OutOfTime
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
        self._pause = min(self._pause * 1.3, LONGEST_PAUSE)


class BrokerLockWithFallback:
    """A PackageLock for work by hand: the broker's, or ``otherwise`` when the broker is away.

    It is decided at the first hold, and said loudly. A broker that only takes no messages is not away: a worker
    may be connected to it, and in the middle of a push.
    """

    def __init__(self, first: BrokerLock, otherwise: PackageLock) -> None:
        self._first = first
        self._otherwise = otherwise
        self._guard = threading.Lock()
        self._decided: PackageLock | None = None

    @contextmanager
    def hold(self, registry: str, organization: str, repository: str) -> Iterator[HeldPackage]:
        """As the lock that was decided for.

        Raises BrokerRefused when the broker is there but does not let us in, BrokerBlocked when it takes no messages.
        """
        with self._guard:
            decided = self._decided = self._decided or self._decide()
        with decided.hold(registry, organization, repository) as hold:
            yield hold

    def _decide(self) -> PackageLock:
        try:
            self._first.connect()
        except BrokerUnavailable as error:
            log.warning(
                "no lock against pushes by others: %s Should a worker push to the same package at this very moment, "
                "two contents may get one version.",
                error.message,
            )
            return self._otherwise
        return self._first
