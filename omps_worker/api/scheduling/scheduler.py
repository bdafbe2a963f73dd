# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduling of requests in one process: the queues in which a request waits, and the threads that do its work.

Waiting takes no thread. Every queue is bounded: when it is full, the client is told when to try again. No owner (a
token in an organization) can occupy a whole queue: each gets a share of the slots, and the next slot goes to the owner
with the fewest. All tokens whose permission is unknown share the limits of one owner, which are lower.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from pydantic import SecretStr

from omps_worker.api.scheduling.fair_queue import FairQueue
from omps_worker.api.scheduling.permissions import Permission, PermissionCheck, PermissionChecker, refusal
from omps_worker.api.scheduling.worker_pool import WorkerPool
from omps_worker.common.errors import ServiceBusy

CHECKS = 4
"""How many tokens are checked concurrently."""

CHECKS_WAITING = 64
"""How many requests may wait for such a check."""

UNKNOWN_TOKENS = "unknown tokens"
"""The owner of all requests with tokens whose permission is not known."""

Body = dict[str, Any]


class Push(Protocol):
    """A push in two blocking steps; see ``service.Push``."""

    @property
    def package(self) -> str:
        """The package, known after ``prepare``."""
        ...

    def prepare(self) -> Body | None:
        """Do all work that does not touch the package. Return the reply if nothing is left. Raises WorkerError."""
        ...

    def release(self) -> Body:
        """Push the release, and return the reply. Raises WorkerError."""
        ...


class PushScheduler:
    """The queues and threads of one process, in which ``concurrency`` pushes are prepared concurrently."""

    def __init__(self, permissions: PermissionChecker, concurrency: int) -> None:
        releases = max(concurrency, min(16 * concurrency, 64))
        self.pool = WorkerPool(concurrency + releases + CHECKS)
        self._permissions = permissions
        half = max(concurrency // 2, 1)
        self._admitted = FairQueue(64 * concurrency, 32 * concurrency, limits={UNKNOWN_TOKENS: 16 * concurrency})
        self._checking = FairQueue(CHECKS, CHECKS)
        # Prepared pushes are held in memory. There is more room than in the queue of one package.
        in_progress = max(32 * concurrency, 64)
        self._in_progress = FairQueue(in_progress, in_progress // 2, limits={UNKNOWN_TOKENS: 2})
        self._preparing = FairQueue(concurrency, half, limits={UNKNOWN_TOKENS: 1})
        self._releasing = FairQueue(
            releases,
            max(releases // 2, 1),
            1,
            waiting_per_part=max(5 * concurrency, 20),
            limits={UNKNOWN_TOKENS: 2},
        )

    async def owner(self, organization: str, authorization: SecretStr) -> Hashable:
        """Return the owner of a push. Raises QuayAuthorizationError if the token may not push, and ServiceBusy."""
        finding = await self._finding(organization, authorization)
        if finding.permission is Permission.REFUSED:
            raise refusal(organization, finding)
        return _owner(finding, organization, authorization)

    async def owner_even_if_refused(self, organization: str, authorization: SecretStr) -> Hashable:
        """Return the owner of a request, even if its token is refused, so that the registry itself answers it.

        Raises ServiceBusy.
        """
        return _owner(await self._finding(organization, authorization), organization, authorization)

    @contextmanager
    def admitted(self, owner: Hashable) -> Iterator[None]:
        """Count one more request inside the block. Raises ServiceBusy if there are too many."""
        slot = self._admitted.take_now(owner)
        try:
            yield
        finally:
            slot.free()

    def check(self, package: str) -> None:
        """Raise PackageBusy if too many pushes are waiting for a package."""
        self._releasing.check(package)

    async def push(
        self, owner: Hashable, part: Hashable, push: Push, done: Callable[[], object] = lambda: None
    ) -> Body:
        """Run a push, and return the body of the reply.

        ``part`` stands for the package before it is known. ``done`` is called when the preparation has ended. Raises
        WorkerError: PackageBusy if too many pushes are waiting for the package.
        """
        with ExitStack() as held:
            with ExitStack() as unprepared:
                unprepared.callback(done)
                held.callback((await self._in_progress.take(owner, part)).free)
                slot = await self._preparing.take(owner, part)
                # From here on, ``prepared`` runs after the thread has finished, even if the client disconnects.
                unprepared.pop_all()

            def prepared() -> None:
                slot.free()
                done()

            body = await self.pool.run(push.prepare, prepared)
            if body is None:
                body = await self.alone(owner, push.package, push.release)
            return body

    async def alone(self, owner: Hashable, package: str, work: Callable[[], Body]) -> Body:
        """Run ``work`` while no other request of this process works on the package, and return its result.

        Raises PackageBusy.
        """
        slot = await self._releasing.take(owner, package)
        return await self.pool.run(work, slot.free)

    async def _finding(self, organization: str, authorization: SecretStr) -> PermissionCheck:
        kept = self._permissions.kept(organization, authorization)
        if kept is not None:
            return kept
        if self._checking.waiting >= CHECKS_WAITING:
            raise ServiceBusy("Too many tokens are already waiting to be checked: nothing was done.")
        slot = await self._checking.take(organization, organization)
        return await self.pool.run(lambda: self._permissions.ask(organization, authorization), slot.free)


def _owner(finding: PermissionCheck, organization: str, authorization: SecretStr) -> Hashable:
    return (organization, authorization) if finding.permission is Permission.KNOWN else UNKNOWN_TOKENS
