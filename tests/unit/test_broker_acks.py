# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.broker.consuming.acks import Acks


class BrokerSide:
    """Keeps what was delivered until it is acked, as a broker does."""

    def __init__(self) -> None:
        self.unacked: set[int] = set()
        self.calls: list[tuple[int, bool]] = []

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        self.calls.append((delivery_tag, multiple))
        acked = {tag for tag in self.unacked if tag == delivery_tag or (multiple and tag <= delivery_tag)}
        assert delivery_tag in acked, "an ack for an unknown tag closes the channel"
        self.unacked -= acked

    def deliver(self, *tags: int) -> None:
        self.unacked.update(tags)


def test_settled_messages_are_acked_together():
    broker = BrokerSide()
    acks = Acks(broker, batch_size=4)
    broker.deliver(1, 2, 3)
    for tag in (1, 2, 3):
        acks.settle(tag)
    assert broker.calls == []
    broker.deliver(4)
    acks.settle(4)
    assert broker.calls == [(4, True)]
    assert broker.unacked == set()


def test_a_flush_acks_what_is_left():
    broker = BrokerSide()
    acks = Acks(broker, batch_size=10)
    broker.deliver(1)
    acks.settle(1)
    acks.flush()
    acks.flush()
    assert broker.calls == [(1, False)]


def test_nothing_in_hand_is_covered_by_an_ack_for_many():
    broker = BrokerSide()
    acks = Acks(broker, batch_size=10)
    broker.deliver(1, 2, 3, 4, 5, 6)
    acks.hold(3)
    acks.hold(5)
    for tag in (1, 2, 4, 6):
        acks.settle(tag)
    acks.flush()
    assert broker.unacked == {3, 5}
    assert broker.calls == [(2, True), (4, False), (6, False)]


def test_what_was_given_back_no_longer_holds_anything_up():
    broker = BrokerSide()
    acks = Acks(broker, batch_size=10)
    broker.deliver(1, 2, 3)
    acks.hold(1)
    acks.settle(2)
    acks.settle(3)
    broker.unacked.discard(1)
    acks.drop(1)
    acks.flush()
    assert broker.unacked == set()
    assert broker.calls == [(3, True)]


@settings(max_examples=80, deadline=None)
@given(
    batch_size=st.integers(0, 6),
    fates=st.lists(st.sampled_from(["settle", "hold", "hold and flush"]), max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_each_message_is_acked_once_and_never_while_in_hand(batch_size, fates, order):
    broker = BrokerSide()
    acks = Acks(broker, batch_size)
    held: list[int] = []
    for tag, fate in enumerate(fates, start=1):
        broker.deliver(tag)
        if fate == "settle":
            acks.settle(tag)
        else:
            acks.hold(tag)
            held.append(tag)
            if fate == "hold and flush":
                acks.flush()
        assert broker.unacked >= set(held)
    order.shuffle(held)
    while held:
        acks.settle(held.pop())
        assert broker.unacked >= set(held)
    acks.flush()
    assert broker.unacked == set()
