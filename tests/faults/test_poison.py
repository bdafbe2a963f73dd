# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that crash other consumers: each is parked or ignored, and the worker goes on."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone
from typing import Any

import pika

from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import QUEUE
from tests.support.books import COMPONENT, otter
from tests.support.waiting import wait_until

TOPIC = "org.example.buildsys.build.state.change"
DEEP = b'{"attribute": "state", "new": 1, "info": ' * 20_000 + b"1" + b"}" * 20_000
DIED = datetime(2026, 11, 20, 10, 0, tzinfo=timezone.utc)


UNREADABLE = {
    "gzip around garbage": ({"content_encoding": "gzip"}, gzip.compress(b"{")),
    "gzip that is none": ({"content_encoding": "gzip"}, b"not gzip"),
    "an encoding nobody uses": ({"content_encoding": "utf-7"}, b"\xff{"),
    "deeply nested": ({}, DEEP),
    "nothing but brackets": ({}, b"[" * 500_000),
    "a table as schema": ({"headers": {"fedora_messaging_schema": {"a": {}}}}, b"{"),
    "odd properties": ({"type": "x" * 255}, b"\x00"),
    "dead-lettered garbage": ({"headers": {"x-death": [{"queue": "other", "time": DIED, "count": 3}]}}, b"{"),
}

STRANGE_CLOTHES: tuple[dict[str, Any], ...] = (
    {"headers": None},
    {"headers": {"fedora_messaging_schema": {"nested": {"deep": [1, 2]}}}},
    {"headers": {"fedora_messaging_severity": "loud", "sent-at": DIED}},
    {"headers": {"x-death": [{"queue": "other", "reason": "expired", "time": DIED, "count": 3, "exchange": ""}]}},
    {"content_type": None, "content_encoding": None, "headers": {}},
    {"content_encoding": "gzip"},
)


def test_what_cannot_be_read_is_parked_while_the_rest_goes_on(quick, crew, books):
    builds = [quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(2)]
    first, second = map(quick.koji.message, builds)
    worker = crew.start()
    poison = [
        BusMessage(TOPIC, {**properties, "message_id": name}, body) for name, (properties, body) in UNREADABLE.items()
    ]
    quick.publish(first, *poison, second)
    books.wait_for("published", 2)
    wait_until(lambda: books.statuses().count("failed") >= len(poison), 30, "the results about the poison")
    assert worker.poll() is None
    crew.stop_all()
    failed = [told.body for told in books.told if told.status == "failed"]
    assert {(body["error"]["name"], body["error"]["transient"]) for body in failed} == {("MessageError", False)}
    assert sorted(body["source"]["message_id"] for body in failed) == sorted(UNREADABLE)
    books.balance(builds, parked=UNREADABLE)


def test_good_builds_in_strange_clothes_are_published(quick, crew, books):
    builds = []
    crew.start()
    for number, disguise in enumerate(STRANGE_CLOTHES):
        build = quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number))
        message = quick.koji.message(build)
        body = gzip.compress(message.body) if disguise.get("content_encoding") else message.body
        quick.publish(message._replace(properties={**message.properties, **disguise}, body=body))
        builds.append(build)
    books.wait_for("published", len(builds))
    crew.stop_all()
    books.balance(builds)


def test_a_message_that_the_broker_dead_lettered_is_tried_again_and_parked_with_all_its_past(quick, crew, books):
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter()[:99])
    message = quick.koji.message(build)
    with quick.channel() as channel:
        arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE}
        channel.queue_declare("somewhere", arguments=arguments, exclusive=True)
        crew.start()
        channel.basic_publish("", "somewhere", message.body, pika.BasicProperties(**message.properties))
        wait_until(lambda: "failed" in books.statuses(), 30, "the failure")
        ((properties, body),) = wait_until(lambda: quick.take(f"{QUEUE}.failed"), 30, "the copy")
    crew.stop_all()
    assert body == message.body
    (death,) = [death for death in properties.headers["x-death"] if death["queue"] == "somewhere"]
    assert isinstance(death["time"], datetime)
    assert properties.headers["omps-error"] == "OMPSUploadedFileError"
    books.balance([])


def test_a_message_without_an_id_keeps_the_one_it_is_given(quick, crew, books):
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())
    message = quick.koji.message(build)
    quick.koji.fail_calls("offline", 2)
    crew.start()
    bare = json.dumps(json.loads(message.body)).encode()
    quick.publish(BusMessage(message.routing_key, {}, bare))
    books.wait_for("published")
    crew.stop_all()
    assert books.statuses() == ["retrying", "retrying", "published"]
    assert len({told.body["source"]["message_id"] for told in books.told}) == 1
    books.balance([build])
