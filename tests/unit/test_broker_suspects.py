# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is a suspect, and that in whatever happens only what kills is parked, while nothing else is in hand."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.broker.consuming.prefetch_window import PrefetchWindow
from omps_worker.broker.consuming.suspects import UNREADABLE, DeathLimits

USUAL = DeathLimits()


def suspect(deliveries: object = None, before: object = None, redelivered: bool = True, limits: DeathLimits = USUAL):
    table = {"x-delivery-count": deliveries, "omps-deaths": before}
    return limits.suspect({name: value for name, value in table.items() if value is not None}, redelivered)


def test_a_message_is_no_suspect_for_being_handed_over_once_or_twice_again():
    assert [suspect(count) for count in (None, 0, 1, 2)] == [None] * 4
    assert USUAL.suspect(None, True) is None


def test_a_suspect_is_worked_on_alone_until_it_is_convicted():
    found = [suspect(count) for count in range(3, 21)]
    assert [one.to_be_parked for one in found if one] == [False] * 6 + [True] * 12


def test_what_a_message_says_of_itself_when_it_first_comes_is_no_evidence():
    assert suspect(20, redelivered=False) is None


@pytest.mark.parametrize("nonsense", [-4, True, "many", 3.5, [9], {"a": 1}, 10**9])
def test_nonsense_is_no_evidence(nonsense):
    assert suspect(nonsense) is None
    assert suspect(before=nonsense) is None


def test_what_is_sent_again_after_it_was_parked_for_that_is_a_suspect_at_once_and_has_three_tries():
    first = suspect(before=9, redelivered=False)
    assert first is not None
    assert not first.to_be_parked
    assert [suspect(count, before=9).to_be_parked for count in (1, 2, 3)] == [False, False, True]


def test_the_error_tells_all_deaths():
    error = suspect(3, before=9).error
    assert (error.name, error.transient, error.deaths, error.details) == ("PoisonMessage", False, 12, {"deaths": 12})
    assert error.message.startswith("12 times a worker died")


def test_what_kills_when_it_is_read_is_parked_unread():
    assert suspect(USUAL.parked + UNREADABLE - 1).readable
    assert not suspect(USUAL.parked + UNREADABLE).readable


@pytest.mark.parametrize("limit", range(1, 30))
def test_the_worker_parks_before_the_broker_does(limit):
    limits = DeathLimits.below(limit)
    # The broker moves a message that was handed over once and so many times again.
    assert 1 <= limits.alone <= limits.parked <= max(limit, 1)
    assert limits.replayed <= limits.parked
    if limit >= 9:
        assert limits == USUAL


@pytest.mark.parametrize("unknown", [None, "20", -1, 0])
def test_a_limit_that_is_not_known_changes_nothing(unknown):
    assert DeathLimits.below(unknown) == USUAL


# What a worker and its broker do with it, step by step.


@dataclass(eq=False)
class Message:
    number: int
    poison: bool = False
    count: int = 0
    kills: int = 0
    end: str = ""


class Broker:
    """A quorum queue: what comes back is handed over before what is new, and has been counted."""

    def __init__(self, messages: list[Message]) -> None:
        self.returned: deque[Message] = deque()
        self.new = deque(messages)

    def give(self) -> Message | None:
        for queue in (self.returned, self.new):
            if queue:
                return queue.popleft()
        return None

    def take_back(self, messages: list[Message]) -> None:
        for message in messages:
            message.count += 1
        self.returned.extend(messages)


@dataclass(eq=False)
class Worker:
    """The rules of the intake, without a channel. ``prefetch`` is that of the configuration."""

    broker: Broker
    prefetch: int
    threads: int
    window: PrefetchWindow[Message] = field(init=False)
    subscribed: int = 0
    on_subscription: list[Message] = field(default_factory=list)
    """Un-acked, and counted by the consumer that there is now."""
    in_hand: list[Message] = field(default_factory=list)
    """Un-acked, in the order in which they came."""
    running: list[Message] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    alone: Message | None = None
    give_back: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = PrefetchWindow(self.prefetch)

    def restart(self) -> None:
        """The process or its connection is gone, and another one begins."""
        self.broker.take_back(self.in_hand)
        self.__init__(self.broker, self.prefetch, self.threads)  # type: ignore[misc]

    def stop(self) -> None:
        """SIGTERM: what was begun is finished, the rest is given back."""
        for message in list(self.running):
            if not message.poison:
                self.finish(message)
        self.restart()

    def adjust(self) -> None:
        idle = not self.running and not self.waiting
        if idle:
            self.alone = None
            self.window.idle()
        if self.window.wanted != self.subscribed:
            self.subscribed, self.on_subscription = self.window.wanted, []
        for message in self.give_back:
            self.in_hand.remove(message)
        self.broker.take_back(self.give_back)
        self.give_back = []
        if idle and (message := self.window.begin()) is not None:
            assert self.in_hand == [message], "a suspect is begun alone"
            assert self.subscribed in (0, 1)
            found = USUAL.suspect({"x-delivery-count": message.count}, True)
            assert found is not None
            if found.to_be_parked:
                self.end(message, "parked")
                self.window.idle()
            else:
                self.alone = message
                self.waiting.append(message)

    def receive(self) -> bool:
        if len(self.on_subscription) >= self.subscribed or (message := self.broker.give()) is None:
            return False
        assert self.alone is None, "nothing comes beside what is worked on alone"
        self.on_subscription.append(message)
        self.in_hand.append(message)
        if USUAL.suspect({"x-delivery-count": message.count}, message.count > 0):
            if not self.window.suspect(message, self.subscribed):
                self.give_back.append(message)
                self.on_subscription.remove(message)
        else:
            self.window.ordinary()
            self.waiting.append(message)
        return True

    def begin(self) -> bool:
        if not self.waiting or len(self.running) >= self.threads:
            return False
        message = self.waiting.pop(0)
        if message.poison:
            message.kills += 1
            self.restart()
        else:
            self.running.append(message)
        return True

    def finish(self, message: Message) -> None:
        self.running.remove(message)
        self.end(message, "done")

    def end(self, message: Message, how: str) -> None:
        message.end = how
        self.in_hand.remove(message)
        if message in self.on_subscription:
            self.on_subscription.remove(message)


def live_through(chance: random.Random, messages: list[Message], workers: list[Worker], restarts: int) -> None:
    """Until every message has an end. ``restarts`` of workers that nobody is guilty of happen on the way."""
    for _ in range(200 * len(messages) + 2000):
        if all(message.end for message in messages):
            return
        worker = chance.choice(workers)
        if restarts and chance.random() < 0.02:
            restarts -= 1
            worker.stop()
        worker.adjust()
        for _ in range(chance.randrange(4)):
            worker.receive()
        if chance.random() < 0.7:
            worker.begin()
        if worker.running and chance.random() < 0.5:
            worker.finish(chance.choice(worker.running))
    raise AssertionError(f"no end in sight: {[m for m in messages if not m.end]}")


@given(
    seed=st.integers(0, 2**32),
    poison=st.sets(st.integers(0, 49), max_size=4),
    count=st.integers(1, 50),
    prefetch=st.sampled_from([1, 2, 8, 20]),
    threads=st.sampled_from([1, 4]),
    replicas=st.integers(1, 3),
    restarts=st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_only_what_kills_is_parked_and_all_the_rest_is_done(seed, poison, count, prefetch, threads, replicas, restarts):
    chance = random.Random(seed)
    messages = [Message(number, number in poison) for number in range(count)]
    broker = Broker(messages)
    live_through(chance, messages, [Worker(broker, prefetch, threads) for _ in range(replicas)], restarts)
    for message in messages:
        assert message.end == ("parked" if message.poison else "done")
        assert message.kills <= USUAL.parked
        assert message.count < 20, "the broker would have parked it"


def test_what_kills_costs_a_worker_nine_times_at_most_and_the_others_few_deliveries():
    messages = [Message(number, number == 3) for number in range(50)]
    worker = Worker(Broker(messages), 8, 4)
    live_through(random.Random(1), messages, [worker], 0)
    assert messages[3].kills == USUAL.parked
    assert max(message.count for message in messages if not message.poison) <= USUAL.alone


def test_a_window_is_narrow_until_something_ordinary_came():
    window: PrefetchWindow[str] = PrefetchWindow(8)
    assert window.wanted == 1
    window.ordinary()
    assert window.wanted == 8


def test_a_suspect_that_fills_the_only_slot_needs_no_new_subscription():
    window: PrefetchWindow[str] = PrefetchWindow(8)
    assert window.suspect("a", subscribed=1)
    assert (window.wanted, window.begin(), window.wanted) == (1, "a", 1)
    window.idle()
    assert window.wanted == 1


def test_a_suspect_among_others_ends_the_subscription_until_it_is_over():
    window: PrefetchWindow[str] = PrefetchWindow(8)
    window.ordinary()
    assert window.suspect("a", subscribed=8)
    assert not window.suspect("b", subscribed=8), "it is given back"
    window.ordinary()
    assert window.wanted == 0
    assert window.begin() == "a"
    assert window.wanted == 0
    window.idle()
    assert (window.wanted, window.begin()) == (1, None)


def test_a_suspect_that_is_still_worked_on_after_a_reconnect_stays_alone():
    window: PrefetchWindow[str] = PrefetchWindow(8)
    window.open(working=True)
    window.ordinary()
    assert window.wanted == 0
    window.idle()
    assert window.wanted == 1
