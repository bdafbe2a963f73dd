# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the REST API: who gets the next place, and what is refused."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.api.scheduling.fair_queue import FairQueue
from omps_worker.common.errors import PackageBusy, ServiceBusy


class Queue:
    """Takes places of a line in tasks, and knows who has one."""

    def __init__(self, line):
        self.line = line
        self.tasks = {}
        self.served = []

    async def come(self, name, owner, part="part"):
        async def wait():
            place = await self.line.take(owner, part)
            self.served.append(name)
            return place

        self.tasks[name] = asyncio.ensure_future(wait())
        await settled()

    async def leave(self, name):
        task = self.tasks.pop(name)
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().free()
        else:
            task.cancel()
        await settled()


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


def run(story):
    asyncio.run(story())


def test_a_free_place_is_had_at_once_and_the_next_ones_come_in_their_order():
    async def story():
        queue = Queue(FairQueue(2, 2))
        for name in "abcd":
            await queue.come(name, "one", name)
        assert queue.served == ["a", "b"]
        await queue.leave("a")
        await queue.leave("b")
        assert queue.served == ["a", "b", "c", "d"]

    run(story)


def test_an_owner_never_has_all_places():
    async def story():
        queue = Queue(FairQueue(4, 2))
        for number in range(10):
            await queue.come(number, "many", number)
        assert queue.served == [0, 1]
        await queue.come("other", "few")
        assert queue.served == [0, 1, "other"]

    run(story)


def test_who_has_the_fewest_is_next_and_then_who_waited_longest():
    async def story():
        queue = Queue(FairQueue(1, 1))
        for number in range(5):
            await queue.come(("many", number), "many", number)
        await queue.come("one", "one")
        await queue.come("two", "two")
        for name in [("many", 0), "one", "two"]:
            await queue.leave(name)
        assert queue.served == [("many", 0), "one", "two", ("many", 1)]

    run(story)


def test_another_part_of_the_same_owner_comes_before_more_of_the_same_part():
    async def story():
        queue = Queue(FairQueue(1, 1))
        for number in range(5):
            await queue.come(("slow", number), "owner", "slow")
        await queue.come("quick", "owner", "quick")
        await queue.leave(("slow", 0))
        assert queue.served == [("slow", 0), "quick"]

    run(story)


def test_one_at_a_time_works_on_a_part_whoever_it_is():
    async def story():
        queue = Queue(FairQueue(9, 9, 1))
        await queue.come("a", "one", "package")
        await queue.come("b", "two", "package")
        await queue.come("c", "two", "other package")
        assert queue.served == ["a", "c"]
        await queue.leave("a")
        assert queue.served == ["a", "c", "b"]

    run(story)


def test_too_many_for_a_part_are_told_when_to_come_again():
    async def story():
        line = FairQueue(9, 9, 1, waiting_per_part=2)
        queue = Queue(line)
        for name in "abc":
            await queue.come(name, "owner", "community/otter")
        with pytest.raises(PackageBusy, match="2 requests are already waiting for community/otter") as refused:
            await line.take("other", "community/otter")
        assert refused.value.retry_after
        await queue.come("d", "owner", "community/lantern")
        assert queue.served == ["a", "d"]
        await queue.leave("b")
        await queue.come("e", "owner", "community/otter")
        await queue.leave("a")
        await queue.leave("c")
        assert queue.served == ["a", "d", "c", "e"]

    run(story)


def test_who_does_not_want_to_wait_has_a_place_or_an_error():
    line = FairQueue(3, 2, limits={"strangers": 1})
    places = [line.take_now("owner"), line.take_now("owner")]
    with pytest.raises(ServiceBusy, match="with this token"):
        line.take_now("owner")
    places.append(line.take_now("strangers"))
    with pytest.raises(ServiceBusy, match="are already waiting"):
        line.take_now("another")
    for place in places:
        place.free()
        place.free()
    line.take_now("strangers")
    with pytest.raises(ServiceBusy):
        line.take_now("strangers")
    assert line.take_now("another")


def test_who_leaves_just_when_it_is_their_turn_takes_no_place_along():
    async def story():
        queue = Queue(FairQueue(1, 1))
        await queue.come("first", "a")
        await queue.come("second", "b")
        await queue.come("third", "c")
        queue.tasks["first"].result().free()
        queue.tasks["second"].cancel()
        await settled()
        assert queue.served == ["first", "third"]

    run(story)


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 2)), max_size=40),
)
def test_no_limit_is_ever_passed_no_place_is_lost_and_nothing_is_remembered(places, per_owner, per_part, steps):
    async def story():
        line = FairQueue(places, per_owner, per_part)
        queue = Queue(line)
        kinds = {}
        for number, (comes, owner, part) in enumerate(steps):
            if comes or not queue.tasks:
                kinds[number] = owner, part
                await queue.come(number, owner, part)
            else:
                await queue.leave(sorted(queue.tasks)[owner % len(queue.tasks)])
            holding = [kinds[name] for name, task in queue.tasks.items() if task.done()]
            owners, parts = Counter(owner for owner, _ in holding), Counter(part for _, part in holding)
            assert len(holding) <= places
            assert max(owners.values(), default=0) <= per_owner
            assert max(parts.values(), default=0) <= (per_part or places)
            waiting = [kinds[name] for name, task in queue.tasks.items() if not task.done()]
            if len(holding) < places:
                stuck = [
                    kind for kind in waiting if owners[kind[0]] < per_owner and parts[kind[1]] < (per_part or places)
                ]
                assert not stuck
        for name in sorted(queue.tasks, reverse=True):
            await queue.leave(name)
        assert (line._free, line.waiting) == (places, 0)
        assert not any((+line._owners, +line._parts, line._served))

    run(story)
