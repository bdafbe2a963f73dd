# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a request through one process: which lines it stands in, and what is done in a thread when it is its turn.

Waiting costs no thread, and everything has a bound: beyond it, the client is told when to try again. Nobody can have
all of anything: an owner, which is a token in an organization, gets a part of each line, and the next place goes to
who has the fewest. Those of whom the registry says nothing share what one owner gets, and less.
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

LOOKS = 4
"""Of how many tokens the registry is asked at once."""

LOOKS_WAITING = 64
"""How many requests may wait for such a look."""

STRANGERS = "strangers"
"""The owner of all requests with tokens of which nothing is known."""

Body = dict[str, Any]


class Push(Protocol):
    """A push in two steps, each of which takes its time; see ``service.Push``."""

    @property
    def package(self) -> str:
        """Where it goes, known after ``prepare``."""
        ...

    def prepare(self) -> Body | None:
        """All that needs no package. The reply, if that is all. Raises WorkerError."""
        ...

    def release(self) -> Body:
        """The rest. Raises WorkerError."""
        ...


class PushScheduler:
    """The lines of one process, in which ``concurrency`` pushes are prepared at once."""

    def __init__(self, rights: PermissionChecker, concurrency: int) -> None:
        releases = max(concurrency, min(16 * concurrency, 64))
        self.pool = WorkerPool(concurrency + releases + LOOKS)
        self._rights = rights
        few = max(concurrency // 2, 1)
        self._admitted = FairQueue(64 * concurrency, 32 * concurrency, limits={STRANGERS: 16 * concurrency})
        self._looks = FairQueue(LOOKS, LOOKS)
        # What is prepared is held in memory. There is more room than for the line of one package.
        in_hand = max(32 * concurrency, 64)
        self._in_hand = FairQueue(in_hand, in_hand // 2, limits={STRANGERS: 2})
        self._preparing = FairQueue(concurrency, few, limits={STRANGERS: 1})
        self._releasing = FairQueue(
            releases,
            max(releases // 2, 1),
            1,
            waiting_per_part=max(5 * concurrency, 20),
            limits={STRANGERS: 2},
        )

    async def owner(self, organization: str, authorization: SecretStr) -> Hashable:
        """Who asks, as far as it matters here. Raises QuayAuthorizationError if they may not push, and ServiceBusy."""
        finding = await self._finding(organization, authorization)
        if finding.standing is Permission.REFUSED:
            raise refusal(organization, finding)
        return _owner(finding, organization, authorization)

    async def owner_or_stranger(self, organization: str, authorization: SecretStr) -> Hashable:
        """The same where the registry's own answer is wanted from whoever it is."""
        return _owner(await self._finding(organization, authorization), organization, authorization)

    @contextmanager
    def admitted(self, owner: Hashable) -> Iterator[None]:
        """Let one more request in, for the time inside. Raises ServiceBusy."""
        place = self._admitted.take_now(owner)
        try:
            yield
        finally:
            place.free()

    def check(self, package: str) -> None:
        """Return if there is room in the line of a package. Raises PackageBusy."""
        self._releasing.check(package)

    async def push(
        self, owner: Hashable, part: Hashable, push: Push, done: Callable[[], object] = lambda: None
    ) -> Body:
        """The reply to a push. ``part``: what is known of the package; ``done`` comes when preparing is over.

        Raises WorkerError: PackageBusy where too many wait for the package.
        """
        with ExitStack() as left:
            with ExitStack() as unprepared:
                unprepared.callback(done)
                left.callback((await self._in_hand.take(owner, part)).free)
                place = await self._preparing.take(owner, part)
                # From here on, the thread says when it needs nothing more.
                unprepared.pop_all()

            def prepared() -> None:
                place.free()
                done()

            body = await self.pool.run(push.prepare, prepared)
            if body is None:
                body = await self.alone(owner, push.package, push.release)
            return body

    async def alone(self, owner: Hashable, package: str, work: Callable[[], Body]) -> Body:
        """What ``work`` returns, which is done when nobody else here works on the package. Raises PackageBusy."""
        place = await self._releasing.take(owner, package)
        return await self.pool.run(work, place.free)

    async def _finding(self, organization: str, authorization: SecretStr) -> PermissionCheck:
        kept = self._rights.kept(organization, authorization)
        if kept is not None:
            return kept
        if self._looks.waiting >= LOOKS_WAITING:
            raise ServiceBusy("Too many tokens are to be looked at already: nothing was done.")
        place = await self._looks.take(organization, organization)
        return await self.pool.run(lambda: self._rights.ask(organization, authorization), place.free)


def _owner(finding: PermissionCheck, organization: str, authorization: SecretStr) -> Hashable:
    return (organization, authorization) if finding.standing is Permission.KNOWN else STRANGERS
