# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import weakref

import pytest
from pika.spec import BasicProperties

from omps_worker.broker.consuming.acks import Acks
from omps_worker.broker.consuming.delivery_worker import CompletedWork
from omps_worker.broker.consuming.in_flight import InFlight
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.common.model import Ignored, Status
from tests.support.waiting import wait_until


class Channel:
    def __init__(self) -> None:
        self.acked: list[int] = []

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        self.acked.append(delivery_tag)


class Hand:
    """An InFlight whose work waits for ``gate``; each ``connect`` is a new channel."""

    def __init__(self, concurrency: int = 2) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.result: CompletedWork | None = CompletedWork((Status.PUBLISHED,))
        self.in_hand = InFlight(self._perform, concurrency, lambda: None)
        self.generation = 0
        self.connect()

    def connect(self) -> Channel:
        self.generation += 1
        self.channel = Channel()
        self.acks = Acks(self.channel, batch_size=1)
        self.in_hand.attach(self.acks, self.generation)
        return self.channel

    def take(self, tag: int, name: str, redelivered: bool = False) -> None:
        properties = BasicProperties(message_id=name)
        delivery = Delivery(DeliveryTag(self.generation, tag), "", "q", redelivered, properties, b"", None)
        self.in_hand.take(delivery, None)

    def _perform(self, delivery, fault):
        self.begun.append(delivery.message_id)
        self.gate.wait()
        if delivery.message_id == "bug":
            raise RuntimeError("nobody thought of this")
        return self.result

    def settle(self, count: int) -> list[int]:
        """Let everything finish; the tags that were acked once there are so many."""
        self.gate.set()

        def acked() -> bool:
            self.in_hand.collect()
            self.acks.flush()
            return len(self.channel.acked) >= count and not self.in_hand.running

        wait_until(acked, 10, f"{count} acks")
        return sorted(self.channel.acked)


@pytest.fixture
def hand():
    made = Hand()
    yield made
    made.gate.set()
    made.in_hand.end_threads()


def test_a_message_that_is_done_is_not_held_by_the_thread_that_worked_on_it(hand):
    hand.take(1, "a")
    (work,) = hand.in_hand._works.values()
    delivery = weakref.ref(work.delivery)
    del work
    assert hand.settle(1) == [1]
    wait_until(lambda: delivery() is None, what="the message to be gone")


def test_work_is_acked_when_it_is_done_and_not_before(hand):
    hand.take(1, "a")
    wait_until(lambda: hand.begun == ["a"])
    hand.in_hand.collect()
    hand.acks.flush()
    assert hand.channel.acked == []
    assert hand.settle(1) == [1]
    assert hand.in_hand.counts == {"published": 1}


def test_no_more_is_begun_than_there_are_threads(hand):
    for tag, name in enumerate("abcd", start=1):
        hand.take(tag, name)
    wait_until(lambda: len(hand.begun) == 2)
    assert hand.in_hand.running == 2
    hand.settle(1)
    assert sorted(hand.begun) == ["a", "b", "c", "d"]


def test_a_redelivery_joins_the_work_and_is_acked_on_its_own_channel(hand):
    hand.take(7, "a")
    wait_until(lambda: hand.begun == ["a"])
    old = hand.channel
    hand.in_hand.detach()
    hand.connect()
    hand.take(1, "a", redelivered=True)
    assert hand.settle(1) == [1]
    assert old.acked == []
    assert hand.begun == ["a"]


def test_what_waited_for_a_thread_is_forgotten_with_its_channel(hand):
    for tag, name in enumerate("abc", start=1):
        hand.take(tag, name)
    wait_until(lambda: len(hand.begun) == 2)
    hand.in_hand.detach()
    hand.connect()
    hand.take(1, "c", redelivered=True)
    assert hand.settle(1) == [1]
    assert hand.begun.count("c") == 1


def test_a_redelivery_of_finished_work_is_acked_without_doing_it_again(hand):
    hand.take(1, "a")
    assert hand.settle(1) == [1]
    hand.in_hand.detach()
    hand.connect()
    hand.take(4, "a", redelivered=True)
    assert hand.settle(1) == [4]
    assert hand.begun == ["a"]


def test_the_same_message_sent_twice_is_done_twice_one_after_the_other(hand):
    hand.take(1, "a")
    hand.take(2, "a")
    wait_until(lambda: hand.begun == ["a"])
    assert hand.in_hand.running == 1
    hand.settle(1)
    assert hand.settle(2)[-1] == 2
    assert hand.begun == ["a", "a"]


def test_what_was_not_begun_is_given_back_at_the_end(hand):
    for tag, name in enumerate("aabcd", start=1):
        hand.take(tag, name)
    wait_until(lambda: sorted(hand.begun) == ["a", "b"])
    assert sorted(hand.in_hand.close()) == [2, 4, 5]
    assert hand.settle(2) == [1, 3]
    assert not hand.in_hand.left_to_broker


def test_work_that_ends_without_a_channel_is_left_to_the_broker_at_the_end(hand):
    hand.take(1, "a")
    wait_until(lambda: hand.begun == ["a"])
    hand.in_hand.detach()
    hand.in_hand.close()
    hand.settle(0)
    assert hand.in_hand.left_to_broker


@pytest.mark.parametrize("name", ["unrecorded", "bug"])
def test_an_outcome_that_was_not_recorded_is_never_acked(hand, name):
    hand.result = None
    hand.take(1, name)
    assert hand.settle(0) == []
    assert hand.in_hand.left_to_broker


def test_what_turns_out_to_be_none_of_our_business_is_counted(hand):
    hand.result = CompletedWork(ignored=Ignored("no_rule"))
    hand.take(1, "a")
    assert hand.settle(1) == [1]
    assert hand.in_hand.counts == {"ignored:no_rule": 1}
