# SPDX-License-Identifier: GPL-3.0-or-later
"""Fair queues: they distribute a limited number of slots so that no owner can occupy all of them.

A queue belongs to one event loop. Waiting takes no thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from omps_worker.common.errors import PackageBusy, ServiceBusy

RETRY_SECONDS = 10.0
"""The Retry-After of a request that is refused because a queue is full, in seconds."""


class Slot:
    """A slot of a queue, occupied until ``free``."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def free(self) -> None:
        """Give the slot back. Calling it again has no effect."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


@dataclass(eq=False, slots=True)
class _Waiter:
    owner: Hashable
    part: Hashable
    turn: asyncio.Future[Slot]


class FairQueue:
    """A queue for ``slots`` slots. An owner gets at most ``per_owner`` of them, a part of the work ``per_part``.

    ``limits`` has lower limits for particular owners. A free slot goes to the owner with the fewest slots; if several
    have the same number, to the one that got its last slot the longest ago. Among the requests of one owner, parts are
    chosen in the same way; among equals, the first request wins. ``waiting_per_part``: how many requests may wait for
    the same part.
    """

    def __init__(
        self,
        slots: int,
        per_owner: int,
        per_part: int | None = None,
        *,
        waiting_per_part: int | None = None,
        limits: Mapping[Hashable, int] | None = None,
    ) -> None:
        self._free = slots
        self._per_owner = per_owner
        self._per_part = per_part or slots
        self._waiting_per_part = waiting_per_part
        self._limits = limits or {}
        self._waiting: list[_Waiter] = []
        self._owners: Counter[Hashable] = Counter()
        self._parts: Counter[Hashable] = Counter()
        self._served: dict[Hashable, int] = {}
        self._turns = 0

    @property
    def waiting(self) -> int:
        """The number of waiting requests."""
        return len(self._waiting)

    def check(self, part: Hashable) -> None:
        """Raise PackageBusy if too many requests are already waiting for ``part``."""
        limit = self._waiting_per_part
        if limit is not None and sum(waiter.part == part for waiter in self._waiting) >= limit:
            raise PackageBusy(
                f"{limit} requests are already waiting for {part}: nothing was done.",
                retry_after=RETRY_SECONDS,
            )

    def take_now(self, owner: Hashable) -> Slot:
        """Return a slot for ``owner`` without waiting. Raises ServiceBusy if there is none."""
        if not self._free:
            raise ServiceBusy("Too many requests are already waiting: nothing was done.", retry_after=RETRY_SECONDS)
        if self._owners[owner] >= self._limits.get(owner, self._per_owner):
            raise ServiceBusy(
                "Too many requests with this token are already waiting: nothing was done.", retry_after=RETRY_SECONDS
            )
        return self._give(owner, owner)

    async def take(self, owner: Hashable, part: Hashable) -> Slot:
        """Wait for a slot, and return it. Raises PackageBusy if too many requests are waiting for ``part``."""
        self.check(part)
        waiter = _Waiter(owner, part, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._assign_slots()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._forget(owner, part)
            elif not waiter.turn.cancelled():
                waiter.turn.result().free()
            raise

    def _assign_slots(self) -> None:
        while self._free and (eligible := [waiter for waiter in self._waiting if self._is_eligible(waiter)]):
            waiter = min(eligible, key=self._rank)
            self._waiting.remove(waiter)
            slot = self._give(waiter.owner, waiter.part)
            if waiter.turn.cancelled():
                slot.free()
            else:
                waiter.turn.set_result(slot)

    def _is_eligible(self, waiter: _Waiter) -> bool:
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
        self._assign_slots()

    def _forget(self, owner: Hashable, part: Hashable) -> None:
        """Drop the records of an owner and a part that have no slot and no waiting request."""
        if not self._parts[part]:
            del self._parts[part]
        owners_waiters = [waiter for waiter in self._waiting if waiter.owner == owner]
        if not any(waiter.part == part for waiter in owners_waiters):
            self._served.pop((owner, part), None)
        if not self._owners[owner]:
            del self._owners[owner]
            if not owners_waiters:
                self._served.pop(owner, None)
