# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines: who may have one of so many places next, so that nobody has them all.

Everything here belongs to one event loop, and nobody who waits costs a thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from omps_worker.common.errors import PackageBusy, ServiceBusy

RETRY_SECONDS = 10.0
"""After how many seconds to try again when there is no room in a line."""


class Slot:
    """A place that somebody has until ``free``."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def free(self) -> None:
        """Give it back; does nothing the second time."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


@dataclass(eq=False, slots=True)
class _Waiter:
    owner: Hashable
    part: Hashable
    turn: asyncio.Future[Slot]


class FairQueue:
    """``places`` at once, of which an owner has at most ``per_owner`` and a part of the work at most ``per_part``.

    ``limits`` are those of owners who get fewer. A place that is free goes to the owner who has the fewest, then to
    the one who waited longest since the last one; among the same owner's, to parts in the same way; and then to who
    came first. ``waiting_per_part``: how many may wait for the same part.
    """

    def __init__(
        self,
        places: int,
        per_owner: int,
        per_part: int | None = None,
        *,
        waiting_per_part: int | None = None,
        limits: Mapping[Hashable, int] | None = None,
    ) -> None:
        self._free = places
        self._per_owner = per_owner
        self._per_part = per_part or places
        self._waiting_per_part = waiting_per_part
        self._limits = limits or {}
        self._waiting: list[_Waiter] = []
        self._owners: Counter[Hashable] = Counter()
        self._parts: Counter[Hashable] = Counter()
        self._served: dict[Hashable, int] = {}
        self._turns = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def check(self, part: Hashable) -> None:
        """Return if somebody may wait for ``part``; raises PackageBusy if too many do."""
        limit = self._waiting_per_part
        if limit is not None and sum(waiter.part == part for waiter in self._waiting) >= limit:
            raise PackageBusy(
                f"{limit} requests wait for their turn with {part} already: nothing was done.",
                retry_after=RETRY_SECONDS,
            )

    def take_now(self, owner: Hashable) -> Slot:
        """A place for ``owner`` without a wait; raises ServiceBusy if there is none."""
        if not self._free:
            raise ServiceBusy("Too many requests wait here already: nothing was done.", retry_after=RETRY_SECONDS)
        if self._owners[owner] >= self._limits.get(owner, self._per_owner):
            raise ServiceBusy(
                "Too many requests with this token wait here already: nothing was done.", retry_after=RETRY_SECONDS
            )
        return self._give(owner, owner)

    async def take(self, owner: Hashable, part: Hashable) -> Slot:
        """Wait for a place, and have it. Raises PackageBusy if too many wait for ``part``."""
        self.check(part)
        waiter = _Waiter(owner, part, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._go_on()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._forget(owner, part)
            elif not waiter.turn.cancelled():
                waiter.turn.result().free()
            raise

    def _go_on(self) -> None:
        while self._free and (able := [waiter for waiter in self._waiting if self._may(waiter)]):
            waiter = min(able, key=self._rank)
            self._waiting.remove(waiter)
            place = self._give(waiter.owner, waiter.part)
            if waiter.turn.cancelled():
                place.free()
            else:
                waiter.turn.set_result(place)

    def _may(self, waiter: _Waiter) -> bool:
        return (
            self._owners[waiter.owner] < self._limits.get(waiter.owner, self._per_owner)
            and self._parts[waiter.part] < self._per_part
        )

    def _rank(self, waiter: _Waiter) -> tuple[int, int, int, int]:
        owner, part = waiter.owner, (waiter.owner, waiter.part)
        served = self._served
        return self._owners[owner], served.get(owner, 0), self._parts[waiter.part], served.get(part, 0)

    def _give(self, owner: Hashable, part: Hashable) -> Slot:
        self._free -= 1
        self._owners[owner] += 1
        self._parts[part] += 1
        self._turns += 1
        self._served[owner] = self._served[owner, part] = self._turns
        return Slot(lambda: self._take_back(owner, part))

    def _take_back(self, owner: Hashable, part: Hashable) -> None:
        self._free += 1
        self._owners[owner] -= 1
        self._parts[part] -= 1
        self._forget(owner, part)
        self._go_on()

    def _forget(self, owner: Hashable, part: Hashable) -> None:
        """Keep nothing of those who have nothing here any more."""
        if not self._parts[part]:
            del self._parts[part]
        wait = [waiter for waiter in self._waiting if waiter.owner == owner]
        if not any(waiter.part == part for waiter in wait):
            self._served.pop((owner, part), None)
        if not self._owners[owner]:
            del self._owners[owner]
            if not wait:
                self._served.pop(owner, None)
