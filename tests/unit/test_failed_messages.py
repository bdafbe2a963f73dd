# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in the failed queue is understood, whatever its headers hold, and survives a stay in a file."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import fedora_messaging.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from omps_worker.broker.connection import header_values
from omps_worker.broker.connection.header_values import RawValue
from omps_worker.broker.dead_letters import message as parked_message
from omps_worker.broker.dead_letters.dumps import details, dump, json_safe, restored
from omps_worker.broker.dead_letters.duplicates import needless
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.broker.dead_letters.replay import replayed_copy
from omps_worker.common.errors import MessageError
from omps_worker.messages import files as message_files
from tests.support.bus import build_body
from tests.support.parked import BEGIN, TOPIC, parked

header_values.install()

QUEUE = "omps-worker"
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
DIED = datetime(2026, 11, 20, 11, tzinfo=timezone.utc)
ODD_HEADERS = {
    "text": "ä", "number": 2**40, "half": 0.5, "price": Decimal("1.25"), "when": DIED, "raw": b"\xff\x00",
    "nothing": None, "yes": True, "table": {"list": [1, {"deep": "x"}]}, "late": RawValue(b"T" + b"\xff" * 8),
}  # fmt: skip


def read(properties: BasicProperties, body: bytes = b"{}", limit: int | None = 20) -> ParkedMessage:
    return parked_message.read(properties, body, QUEUE, delivery_limit=limit)


def death(
    queue: str = QUEUE, reason: str = "delivery_limit", exchange: str = "amq.topic", key: str = TOPIC, **more: Any
):
    return {
        "queue": queue,
        "reason": reason,
        "exchange": exchange,
        "routing-keys": [key],
        "count": 1,
        "time": DIED,
        **more,
    }


def dead(*deaths: Any, **headers: Any) -> BasicProperties:
    return BasicProperties(headers={**headers, "x-death": list(deaths)})


def test_what_a_worker_parked_says_so_itself():
    found = read(parked(1), build_body(1, "etcd")).parked
    assert found.as_json() == {
        "id": "id-1",
        "queue": "omps-worker.failed",
        "topic": TOPIC,
        "nvr": "etcd-1.0-1",
        "error": "QuayCourierError",
        "message": "The registry did not take it (1).",
        "attempts": 3,
        "first_seen": BEGIN.isoformat(),
        "parked_at": (BEGIN + timedelta(seconds=1)).isoformat(),
    }


CRASHED = (
    "Workers died, or lost the broker, with it in flight until the delivery limit{} was reached. It may be the "
    "cause, or one of the other messages that were in flight."
)


@pytest.mark.parametrize(
    ("reason", "limit", "words"),
    [
        ("delivery_limit", 20, CRASHED.format(" of 20")),
        ("delivery_limit", None, CRASHED.format("")),
        ("rejected", 20, "A consumer of the queue omps-worker rejected it."),
        ("expired", 20, "It expired in the queue omps-worker."),
        ("maxlen", 20, "The queue omps-worker was full."),
        ("tired", 20, "The broker removed it from the queue omps-worker (tired)."),
    ],
)
def test_what_the_broker_parked_is_told_in_words(reason, limit, words):
    message = read(dead(death(reason=reason)), limit=limit)
    found = message.parked
    assert (found.error, found.message, found.parked_at) == ("DeadLettered", words, DIED)
    assert (found.topic, message.delivery.first_exchange) == (TOPIC, "amq.topic")
    assert (found.attempts, found.first_seen) == (1, None)


def test_the_reason_is_the_last_death_and_the_topic_that_of_the_bus():
    deaths = [
        death(exchange="", key=QUEUE),
        death("omps-worker.retry.10s", "expired", "", "omps-worker.retry.10s"),
        death("upstream", "expired", "amq.topic", "build.done"),
    ]
    message = read(dead(*deaths))
    assert "delivery limit" in message.parked.message
    assert (message.parked.topic, message.delivery.first_exchange) == ("build.done", "amq.topic")


def test_our_own_headers_know_the_topic_better_than_the_broker():
    headers = {
        "omps-topic": "build.done",
        "omps-exchange": "koji",
        "omps-attempt": 4,
        "omps-first-seen": BEGIN.isoformat(),
    }
    message = read(dead(death(exchange="", key=QUEUE), **headers))
    assert (message.parked.topic, message.delivery.first_exchange, message.parked.attempts) == ("build.done", "koji", 4)
    assert message.parked.first_seen == BEGIN


def test_the_error_of_an_earlier_attempt_is_not_why_the_broker_parked_it():
    found = read(dead(death(), **{"omps-error": "KojiError", "omps-error-message": "away", "omps-attempt": 2})).parked
    assert (found.error, found.attempts) == ("DeadLettered", 2)


def test_a_death_before_it_was_parked_is_history_and_one_after_it_is_the_reason():
    before, after = parked(1), parked(1)
    before.headers["x-death"] = [death(time=BEGIN - timedelta(hours=1))]
    after.headers["x-death"] = [death(time=BEGIN + timedelta(hours=1))]
    assert read(before).parked.error == "QuayCourierError"
    assert read(after).parked.error == "DeadLettered"


@pytest.mark.parametrize(
    "odd", [None, True, -1, 2**63, 0.5, "", "x" * 70000, b"\xff", [1], {"a": 1}, DIED, RawValue(b"T")]
)
def test_odd_headers_do_not_break_the_list(odd):
    names = ["omps-topic", "omps-exchange", "omps-attempt", "omps-first-seen", "omps-targets", "omps-error",
             "omps-error-message", "omps-parked-at", "omps-replayed-at", "x-death", "x-delivery-count"]  # fmt: skip
    message = read(BasicProperties(headers=dict.fromkeys(names, odd), message_id=b"\xff"))
    json.dumps(message.parked.as_json())
    json.dumps(details(message))
    assert len(message.parked.error or "") <= 4096


@pytest.mark.parametrize("key", ["queue", "reason", "exchange", "routing-keys", "count", "time"])
@pytest.mark.parametrize("odd", [None, -1, "", "x" * 300, b"\xff", [], [[1]], {"a": 1}, datetime.min, RawValue(b"T")])
def test_odd_deaths_do_not_break_the_list(key, odd):
    message = read(dead(death(**{key: odd}), 5, None, ["x"]))
    json.dumps(details(message))
    assert message.parked.error == "DeadLettered"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "soon", "2026-11-20"])
def test_odd_times_are_unknown_or_right(moment):
    found = read(BasicProperties(headers={"omps-parked-at": moment})).parked
    assert found.parked_at in (None, datetime(2026, 11, 20, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"null", b"[" * 100_000, b"{}", b'{"attribute": "state", "new": 1}', b"\x1f\x8b"]
)
def test_a_body_that_names_no_build_gives_no_nvr(body):
    message = read(BasicProperties(), body)
    assert message.parked.nvr is None
    assert message.parked.id
    json.dumps(details(message))


# Replays.


def test_a_replay_begins_anew_and_keeps_what_the_message_is():
    properties = parked(
        1, **ODD_HEADERS, **{"omps-targets": ["community/etcd"], "omps-waits": 2, "x-delivery-count": 5}
    )
    properties.headers["x-death"] = [death()]
    properties.headers["x-first-death-queue"] = QUEUE
    copy = replayed_copy(read(properties, build_body()).delivery, NOW)
    assert copy.headers == {
        **ODD_HEADERS,
        "omps-topic": TOPIC,
        "omps-exchange": "amq.topic",
        "omps-targets": ["community/etcd"],
        "omps-replayed-at": NOW.isoformat(),
        "omps-replayed": 1,
    }
    assert (copy.message_id, copy.content_type, copy.content_encoding) == ("id-1", "application/json", "utf-8")
    assert copy.delivery_mode == 2


def test_a_replay_of_what_workers_died_of_is_marked_so():
    poison = parked(1, error="PoisonMessage", **{"omps-deaths": 9})
    assert replayed_copy(read(poison).delivery, NOW).headers["omps-deaths"] == 9
    by_the_broker = read(dead(death(reason="delivery_limit")))
    assert replayed_copy(by_the_broker.delivery, NOW, queue=QUEUE).headers["omps-deaths"] == 1


def test_a_replay_of_anything_else_is_not():
    for reason in ("rejected", "expired", "maxlen"):
        assert "omps-deaths" not in replayed_copy(read(dead(death(reason=reason))).delivery, NOW, queue=QUEUE).headers
    # It died once, was moved back, and was parked for another reason since.
    later = parked(1, **{"omps-parked-at": (DIED + timedelta(days=1)).isoformat()})
    later.headers["x-death"] = [death(reason="delivery_limit")]
    assert "omps-deaths" not in replayed_copy(read(later).delivery, NOW, queue=QUEUE).headers


def test_a_replay_is_sent_to_nobody_else_and_cannot_expire():
    properties = BasicProperties(headers={"CC": ["a"], "BCC": ["b"]}, expiration="5", user_id="koji")
    copy = replayed_copy(read(properties).delivery, NOW)
    assert {"CC", "BCC"} & set(copy.headers) == set()
    assert (copy.expiration, copy.user_id) == (None, None)


def test_a_replay_always_fits_in_one_frame():
    properties = BasicProperties(headers={f"header-{number}": "x" * 1000 for number in range(4)})
    copy = replayed_copy(read(properties).delivery, NOW, frame_max=4096)
    assert sum(map(len, copy.encode())) <= 4096
    assert "omps-replayed-at" in copy.headers


# Files.


def through_a_file(message: ParkedMessage, **edits: Any) -> ParkedMessage:
    text = json.dumps({**dump(message), **edits})
    (stored,) = message_files.from_dumps(text.encode())
    return restored(stored, QUEUE)


BODIES = [
    b"{}", b'{"a": 1}', b'{"a":1}', b' {"a": 1}\n', b'{"a": "\xc3\xa4"}', b'{"a": 1, "a": 2}', b"null", b'"text"',
    b"[1e400]", b"NaN", b"", b"\x00\xff", b"\x1f\x8b", b"{", b"[" * 5000, b'{"attribute": "state"}',
    b'{"a": %s}' % (b"9" * 5000),
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_a_message_comes_back_from_a_file_as_it_was(body):
    came = {"content_type": "application/json", "content_encoding": "utf-8", "priority": 4, "type": "amqp-1.0",
            "correlation_id": "c", "reply_to": "r", "app_id": "koji", "timestamp": 1700000000,
            "message_id": "id", "delivery_mode": 2}  # fmt: skip
    message = read(BasicProperties(headers={**ODD_HEADERS, "omps-topic": TOPIC}, **came), body)
    back = through_a_file(message)
    assert back.body == body
    assert back.properties == message.properties
    assert back.parked == message.parked


def test_a_dump_is_the_same_at_every_look():
    first, again = parked(1), parked(1, **{"x-delivery-count": 7})
    again.headers = dict(sorted(again.headers.items()))
    assert json.dumps(dump(read(first))) == json.dumps(dump(read(again))), "RabbitMQ sorts headers at the second look"


def copies(*messages: tuple[int, list[str] | None], body: bytes = b"{}") -> list[ParkedMessage]:
    """Copies of one message, by the second in which each was parked and its open targets."""
    made = []
    for second, targets in messages:
        headers = {} if targets is None else {"omps-targets": targets}
        made.append(read(parked(second, message_id="same", **headers), body))
    return made


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([(1, ["a"]), (1, ["a"])], [1]),
        ([(2, ["a"]), (1, ["a"])], [0]),
        ([(1, ["a", "b"]), (2, ["b"])], [0]),
        ([(1, ["a"]), (2, None)], [1]),
        ([(1, None), (2, ["a"])], [0]),
        ([(1, ["a"]), (2, ["b"]), (3, ["a"])], [1, 2]),
        ([(1, ["a"]), (2, ["b"]), (3, ["a", "b"])], [2]),
    ],
)
def test_of_several_copies_as_few_are_sent_as_have_all_targets(messages, sent):
    left_out = needless(copies(*messages))
    assert sorted(set(range(len(messages))) - left_out) == sent


def test_another_body_or_another_id_is_another_message():
    (one,), (other,) = copies((1, ["a"])), copies((1, ["a"]), body=b"[]")
    assert needless([one, other, read(parked(2, **{"omps-targets": ["a"]}))]) == set()


def test_fedora_messagings_own_tools_can_read_a_dump():
    properties = parked(1, fedora_messaging_severity=20, **{"sent-at": "2026-11-20T10:00:00+00:00", "when": DIED})
    text = json.dumps(dump(read(properties, build_body(1))))
    (message,) = fedora_messaging.message.loads(text)
    assert (message.id, message.topic, message.queue) == ("id-1", TOPIC, "omps-worker.failed")
    assert message.body == json.loads(build_body(1))


def test_what_was_edited_in_the_file_counts():
    message = read(parked(1, when=DIED), b'{"a":1}')
    assert through_a_file(message, body={"a": 2}).body == b'{"a": 2}'
    assert through_a_file(message, id="other").parked.id == "other"
    assert through_a_file(message, topic="build.done").parked.topic == "build.done"
    edited = through_a_file(message, headers={"omps-targets": ["a"]})
    assert edited.properties.headers == {"omps-targets": ["a"], "omps-topic": TOPIC}
    assert edited.properties.content_type == "application/json"


def test_where_a_dead_letter_came_from_survives_a_file_too():
    copy = replayed_copy(through_a_file(read(dead(death()), build_body())).delivery, NOW)
    assert (copy.headers["omps-topic"], copy.headers["omps-exchange"]) == (TOPIC, "amq.topic")
    assert "x-death" not in copy.headers


def test_a_plain_dump_becomes_a_message_as_fedora_messaging_sends_it():
    document = {"topic": TOPIC, "id": "abc", "headers": {"sent-at": "now", "big": 2**80}, "body": {"a": 1}}
    (stored,) = message_files.from_dumps(json.dumps(document).encode())
    copy = replayed_copy(restored(stored, QUEUE).delivery, NOW)
    assert (copy.message_id, copy.content_type) == ("abc", "application/json")
    assert copy.headers["omps-topic"] == TOPIC
    assert copy.headers["sent-at"] == "now"
    assert "big" not in copy.headers, "AMQP has no such number"


@pytest.mark.parametrize("amqp", [{"properties": "!"}, {"body": 5}, {"body": "a"}])
def test_damaged_base64_is_refused(amqp):
    with pytest.raises(MessageError, match="damaged"):
        message_files.from_dump(json.dumps({"topic": "t", "body": {}, "amqp": amqp}).encode())


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_damaged_properties_are_refused_or_harmless(noise):
    stored = message_files.StoredMessage(b"{}", properties=noise)
    try:
        copy = replayed_copy(restored(stored, QUEUE).delivery, NOW)
    except MessageError:
        return
    assert b"".join(copy.encode())


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9) | st.decimals(-1000, 1000, places=2)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(lambda time: time.replace(tzinfo=timezone.utc)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=20), _VALUES, max_size=5), st.binary(max_size=40) | st.just(b'{"x": 1}'))
def test_whatever_a_message_holds_its_dump_is_json_and_brings_it_back(headers, body):
    ordered = dict(sorted(headers.items()))
    encoded = b"".join(BasicProperties(headers=ordered, message_id="m").encode())
    message = read(BasicProperties().decode(encoded), body)
    json.dumps(json_safe(message.properties.headers), allow_nan=False)
    back = through_a_file(message)
    assert back.body == body
    assert back.parked == message.parked
    assert b"".join(back.properties.encode()) == encoded
