# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at what is parked, and sending it again: the queue itself, on a real broker."""

from __future__ import annotations

import threading

import pytest
from pika.spec import BasicProperties

from omps_worker.broker.dead_letters import already_parked
from omps_worker.broker.dead_letters import failed_queue as failed
from omps_worker.broker.dead_letters import scan as looks
from omps_worker.broker.dead_letters.already_parked import AlreadyParked
from omps_worker.broker.dead_letters.replay import Replay
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.common.errors import BrokerRefused
from omps_worker.messages.dead_letter import FailureSelection
from tests.support.bus import TOPIC, Bus, build_body, topology, where
from tests.support.parked import bodies, failed_queue_of, fill, fill_with, parked
from tests.support.waiting import wait_until

EVERYTHING = FailureSelection()


@pytest.fixture
def bus(amqp_url) -> Bus:
    return Bus(amqp_url).set_up()


def ids(found) -> list[str]:
    return [one.id for one, _ in found]


def numbered(*numbers: int) -> list[str]:
    return [f"id-{number}" for number in numbers]


def test_a_hundred_looks_lose_nothing_and_keep_the_order(bus):
    fill_with(bus, 40)
    notes: list[str] = []
    queue = failed_queue_of(bus, notice=notes.append)
    for _ in range(100):
        assert ids(queue.records(EVERYTHING)) == numbered(*range(40))
    assert bus.depth(bus.failed_queue) == 40
    assert notes == []


def test_looks_in_several_windows_see_everything_in_order(bus, monkeypatch):
    monkeypatch.setattr(looks, "FIRST_WINDOW", 8)
    monkeypatch.setattr(looks, "LARGEST_WINDOW", 32)
    fill_with(bus, 150)
    queue = failed_queue_of(bus)
    seen: list[tuple[int, int]] = []
    for _ in range(3):
        assert ids(queue.records(EVERYTHING, lambda at, of: seen.append((at, of)))) == numbered(*range(150))
    assert seen[:150] == [(number, 150) for number in range(1, 151)]


def test_a_look_at_an_empty_queue_sees_nothing(bus):
    assert failed_queue_of(bus).records(EVERYTHING) == []


def test_looks_at_the_same_time_take_turns_and_see_everything(bus):
    fill_with(bus, 60)
    notes: list[str] = []
    found: list[list[str]] = []
    waiting = failed_queue_of(bus, notice=notes.append)
    with failed_queue_of(bus).scan(EVERYTHING) as look:
        assert next(iter(look)).parked.id == "id-0"
        other = threading.Thread(target=lambda: found.append(ids(waiting.records(EVERYTHING))))
        other.start()
        wait_until(lambda: notes, what="the other to wait for its turn")
        assert found == []
    other.join(30)
    # What the first look gave back may come after the rest: the broker promises no order there.
    assert [sorted(each) for each in found] == [sorted(numbered(*range(60)))]


def test_without_a_lock_looks_at_the_same_time_are_told_and_lose_nothing(bus):
    fill_with(bus, 60)
    notes: list[str] = []
    with failed_queue_of(bus, take_turns=False).scan(EVERYTHING) as look:
        next(iter(look))
        seen = ids(failed_queue_of(bus, take_turns=False, notice=notes.append).records(EVERYTHING))
        assert len(seen) < 60
        assert "Another process" in notes[0]
    assert sorted(ids(failed_queue_of(bus).records(EVERYTHING))) == sorted(numbered(*range(60)))


def test_a_holder_that_does_not_let_go_is_waited_for_only_so_long(bus, monkeypatch):
    monkeypatch.setattr(failed, "TURN_SECONDS", 0.3)
    fill_with(bus, 3)
    notes: list[str] = []
    with failed_queue_of(bus).scan(EVERYTHING):
        assert ids(failed_queue_of(bus, notice=notes.append).records(EVERYTHING)) == numbered(0, 1, 2)
    assert "waiting" in notes[0]


def test_a_look_that_ends_in_an_exception_gives_everything_back(bus):
    fill_with(bus, 20)

    def stumble(_number: int, _of: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failed_queue_of(bus).records(EVERYTHING, stumble)
    assert ids(failed_queue_of(bus).records(EVERYTHING)) == numbered(*range(20))


def test_a_replay_takes_out_what_it_sent_and_leaves_the_rest_in_order(bus, monkeypatch):
    monkeypatch.setattr(looks, "FIRST_WINDOW", 8)
    fill_with(bus, 40)
    chosen = FailureSelection(nvrs=("build-?-1.0-1", "build-3*"))
    with Replay(where(bus.url), bus.queue) as replay:
        sent = [one.id for one in failed_queue_of(bus).replay(chosen, replay)]
    assert sent == numbered(*range(10), *range(30, 40))
    assert ids(failed_queue_of(bus).records(EVERYTHING)) == numbered(*range(10, 30))
    assert [body["build_id"] for body in bodies(bus, bus.queue)] == [*range(10), *range(30, 40)]


def test_a_replay_ends_though_everything_fails_again_at_once(bus):
    fill_with(bus, 30)
    with Replay(where(bus.url), bus.queue) as replay:
        count = 0
        for one in failed_queue_of(bus).replay(EVERYTHING, replay):
            count += 1
            bus.publish(build_body(count), exchange="", topic=bus.failed_queue, message_id=one.id)
    assert count == 30
    assert bus.depth(bus.failed_queue) == bus.depth() == 30


def test_a_discard_destroys_only_what_was_shown(bus):
    fill_with(bus, 10)
    queue = failed_queue_of(bus)
    shown = frozenset(mark for one, mark in queue.records(EVERYTHING) if one.id in numbered(2, 3, 4))
    fill(bus, [(parked(11), build_body(11))])
    assert [one.id for one in queue.discard(EVERYTHING, only=shown)] == numbered(2, 3, 4)
    assert ids(queue.records(EVERYTHING)) == numbered(0, 1, 5, 6, 7, 8, 9, 11)


def test_copies_of_one_id_are_all_meant(bus):
    fill(bus, [(parked(number, message_id="same"), build_body(number)) for number in range(3)])
    fill_with(bus, 2)
    queue = failed_queue_of(bus)
    assert len(queue.details(FailureSelection(frozenset({"same"})))) == 3
    assert len(list(queue.discard(FailureSelection(frozenset({"same"}))))) == 3
    assert ids(queue.records(EVERYTHING)) == numbered(0, 1)


def doubled(bus) -> None:
    """A message that was parked twice, another of the same id that is none of its doubles, and one of its own."""
    twice = [(parked(number, message_id="same", **{"omps-targets": ["org"]}), build_body(1)) for number in (1, 2)]
    other = [(parked(3, message_id="same", **{"omps-targets": ["elsewhere"]}), build_body(1))]
    fill(bus, [*twice, *other, (parked(4), build_body(4))])


def test_what_was_parked_twice_is_told_and_kept_as_one(bus):
    doubled(bus)
    queue = failed_queue_of(bus)
    assert ids(queue.records(EVERYTHING)) == ["same", "same", "id-4"]
    assert [one["targets"] for one in queue.details(EVERYTHING)] == [("org",), ("elsewhere",), None]
    assert [parked.id for parked, _ in queue.dumps(EVERYTHING)] == ["same", "same", "id-4"]
    assert bus.depth(bus.failed_queue) == 4, "looking changes nothing"


def test_what_was_parked_twice_is_sent_once(bus):
    doubled(bus)
    with Replay(where(bus.url), bus.queue) as replay:
        assert [one.id for one in failed_queue_of(bus).replay(EVERYTHING, replay)] == ["same", "same", "id-4"]
    sent = bus.take(bus.queue, 3)
    assert [got.headers.get("omps-targets") for got in sent] == [["org"], ["elsewhere"], None]
    assert bus.depth(bus.failed_queue) == 0


def test_what_was_parked_twice_is_shown_once_and_destroyed_whole(bus):
    doubled(bus)
    queue = failed_queue_of(bus)
    shown = frozenset(mark for one, mark in queue.records(FailureSelection(frozenset({"same"}))))
    assert [one.id for one in queue.discard(EVERYTHING, only=shown)] == ["same", "same"]
    assert bus.depth(bus.failed_queue) == 1


def of_error(name: str, number: int = 1, message_id: str = "same", **more) -> Delivery:
    """Message ``number``, delivered again."""
    properties = BasicProperties(message_id=message_id, headers=more)
    return Delivery(DeliveryTag(0, 1), "amq.topic", TOPIC, True, properties, build_body(number), None)


def test_whether_a_failure_is_parked_already_is_seen_in_the_queue(bus, monkeypatch):
    doubled(bus)
    before = AlreadyParked(where(bus.url), topology(bus.queue))
    error = "QuayCourierError"
    assert before(of_error(error), error, ["org"])
    assert before(of_error(error, 4, "id-4"), error, ["any"]), "it is parked for all targets"
    assert not before(of_error(error), error, None), "it is parked for some"
    assert not before(of_error(error), error, ["org", "elsewhere"])
    assert not before(of_error(error), "KojiError", ["org"])
    assert not before(of_error(error, 2), error, ["org"]), "another message under the same id"
    assert not before(of_error(error, **{"omps-replayed": 1}), error, ["org"])
    monkeypatch.setattr(already_parked, "LARGEST_SCAN", 3)
    assert not before(of_error(error), error, ["org"]), "too many to look at: it is parked again"
    assert bus.depth(bus.failed_queue) == 4


def test_where_others_declare_the_queue_nothing_is_worn_out_by_looks_for_doubles(bus):
    doubled(bus)
    before = AlreadyParked(where(bus.url), topology(bus.queue, passive=True))
    assert not before(of_error("QuayCourierError"), "QuayCourierError", ["org"])
    assert not AlreadyParked(where("amqp://127.0.0.1:1"), topology(bus.queue))(of_error("E"), "E", None)


def test_a_missing_failed_queue_is_named_with_what_to_do(amqp_url):
    with pytest.raises(BrokerRefused, match=r"queue omps-worker\.failed does not exist.*omps-worker run"):
        failed_queue_of(Bus(amqp_url)).records(EVERYTHING)


def test_a_missing_queue_stops_a_replay_before_it_begins(bus):
    fill_with(bus, 1)
    with bus.channel() as channel:
        channel.queue_delete(bus.queue)
    with pytest.raises(BrokerRefused, match="no queue 'omps-worker'"), Replay(where(bus.url), bus.queue):
        pass
    assert bus.depth(bus.failed_queue) == 1


def test_a_queue_that_takes_nothing_leaves_the_failure_where_it_is(amqp_url):
    bus = Bus(amqp_url)
    with bus.channel() as channel:
        channel.queue_declare(bus.failed_queue, durable=True)
        channel.queue_declare(bus.queue, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    fill_with(bus, 5)
    with Replay(where(bus.url), bus.queue) as replay:
        sent = []
        with pytest.raises(BrokerRefused, match="full"):
            sent.extend(one.id for one in failed_queue_of(bus).replay(EVERYTHING, replay))
    assert bus.depth() == 2
    assert ids(failed_queue_of(bus).records(EVERYTHING)) == numbered(2, 3, 4)


def test_what_the_broker_dead_lettered_is_explained_from_what_the_broker_knows(bus):
    bus.publish(build_body(7), message_id="killer", delivery_mode=2)
    for _ in range(21):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    wait_until(lambda: bus.depth(bus.failed_queue) == 1, what="the dead letter")
    ((found, _),) = failed_queue_of(bus).records(EVERYTHING)
    assert (found.id, found.nvr, found.attempts) == ("killer", "published-1.0-1", 1)
    assert found.error == "DeadLettered"
    assert found.message.startswith(
        "Workers died, or lost the broker, with it in flight until the delivery limit of 20 was reached."
    )
    assert found.topic == "org.fedoraproject.prod.buildsys.build.state.change"
    assert found.parked_at is not None
    (details,) = failed_queue_of(bus).details(EVERYTHING)
    assert details["exchange"] == "amq.topic"
    assert [(death["queue"], death["reason"]) for death in details["deaths"]] == [(bus.queue, "delivery_limit")]

    with Replay(where(bus.url), bus.queue) as replay:
        list(failed_queue_of(bus).replay(EVERYTHING, replay))
    (again,) = bus.take(bus.queue, 1)
    assert again.headers.get("x-delivery-count", 0) == 0, "the queue's own counter begins anew"
    ours = {"omps-topic", "omps-exchange", "omps-replayed-at", "omps-replayed", "omps-deaths"}
    assert set(again.headers) <= {*ours, "x-delivery-count"}
    assert again.headers["omps-deaths"] == 1, "it stays a suspect"
    assert (again.headers["omps-topic"], again.headers["omps-exchange"]) == (found.topic, "amq.topic")


@pytest.mark.parametrize(("how", "words"), [("rejected", "rejected it"), ("expired", "expired in the queue")])
def test_other_dead_letters_are_explained_too(bus, how, words):
    bus.publish(build_body(7), expiration="1" if how == "expired" else None)
    if how == "rejected":
        with bus.channel() as channel:
            wait_until(lambda: bus.depth() == 1, what="the message")
            method, _, _ = channel.basic_get(bus.queue)
            channel.basic_reject(method.delivery_tag, requeue=False)
    wait_until(lambda: bus.depth(bus.failed_queue) == 1, what="the dead letter")
    ((found, _),) = failed_queue_of(bus).records(EVERYTHING)
    assert found.error == "DeadLettered"
    assert words in found.message


def test_a_message_without_any_header_can_be_listed_and_replayed(bus):
    fill(bus, [(BasicProperties(), b"\x00\xffnoise")])
    ((found, _),) = failed_queue_of(bus).records(EVERYTHING)
    assert (found.nvr, found.error, found.message, found.parked_at, found.attempts) == (None, None, None, None, 1)
    with Replay(where(bus.url), bus.queue) as replay:
        assert [one.id for one in failed_queue_of(bus).replay(EVERYTHING, replay)] == [found.id]
    (again,) = bus.take(bus.queue, 1)
    assert again.body == b"\x00\xffnoise"
    assert again.properties.message_id == found.id
