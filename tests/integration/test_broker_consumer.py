# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal

import pika
import pytest

from omps_worker.broker.connection.header_values import RawValue
from omps_worker.common.errors import BrokerRefused
from omps_worker.messages import events
from tests.support.bus import PREFIX, TOPIC, Bus, build_body
from tests.support.waiting import wait_until
from tests.support.workers import Worker


@pytest.fixture
def bus(amqp_url) -> Bus:
    return Bus(amqp_url).listen()


def statuses(results) -> list[str]:
    return sorted(result.json["status"] for result in results)


def test_a_build_message_becomes_a_result_and_is_acked(bus):
    with Worker(bus.url) as worker:
        bus.publish(build_body(42), message_id="the-id")
        (result,) = bus.results(1)
        assert result.topic == f"{PREFIX}.omps.release.published"
        assert result.json["source"] == {"message_id": "the-id", "topic": TOPIC, "replayed": 0}
        assert result.json["attempt"] == 1
        assert result.properties.delivery_mode == 2
        assert (result.properties.content_type, result.properties.content_encoding) == ("application/json", "utf-8")
        assert result.headers["fedora_messaging_schema"] == "omps.ReleasePublishedV1"
        assert worker.stop() == 0
    bus.wait_until_empty()
    assert bus.take_all(bus.failed_queue) == []


def test_a_build_is_a_first_attempt_unless_its_headers_say_otherwise(bus):
    with Worker(bus.url) as worker:
        bus.publish(build_body(1))
        bus.publish(build_body(2), headers={"omps-attempt": 3})
        bus.publish(build_body(3), headers={"omps-attempt": "many"})
        bus.publish(build_body(4), headers={"omps-replayed-at": "2026-11-20T10:00:00+00:00"})
        bus.results(4)
    begun = {build: (attempt.number, attempt.interrupted) for build, attempt in worker.script.begun}
    assert begun == {1: (1, False), 2: (3, True), 3: (1, False), 4: (1, True)}


def test_a_failure_is_parked_with_its_error_and_everything_it_came_with(bus):
    headers = {
        "plain": "text", "half": 0.5, "price": Decimal("1.25"), "bytes": b"\xff", "list": [1, None, True],
        "table": {"when": datetime(2026, 11, 20, tzinfo=timezone.utc)}, "CC": [], "x-death": [{"count": 1}],
    }  # fmt: skip
    body = build_body(42, "failed")
    before = datetime.now(timezone.utc).isoformat()
    with Worker(bus.url):
        bus.publish(body, message_id="the-id", headers=headers, content_type="application/json", priority=3,
                    expiration="60000", type="amqp-1.0", user_id="guest")  # fmt: skip
        (copy,) = bus.parked(1)
        (result,) = bus.results(1)
    assert copy.body == body
    assert result.json["error"]["name"] == copy.headers["omps-error"] == "QuayCourierError"
    assert copy.headers["omps-error-message"] == "The registry did not take it."
    assert copy.headers["omps-targets"] == ["community/etcd"]
    assert copy.headers["omps-topic"] == TOPIC
    assert copy.headers["omps-exchange"] == "amq.topic"
    assert copy.headers["omps-attempt"] == 1
    assert before <= copy.headers["omps-first-seen"] <= copy.headers["omps-parked-at"]
    for name in set(headers) - {"CC"}:
        assert copy.headers[name] == headers[name]
    properties = copy.properties
    assert (properties.message_id, properties.content_type, properties.priority) == ("the-id", "application/json", 3)
    assert (properties.type, properties.expiration, properties.user_id) == ("amqp-1.0", None, None)
    bus.wait_until_empty()


@pytest.mark.parametrize("name", ["failed", "transient"])
def test_every_failure_is_parked_at_once(bus, name):
    with Worker(bus.url):
        bus.publish(build_body(1, name))
        (copy,) = bus.parked(1)
        assert statuses(bus.results(1)) == ["failed"]
    assert copy.headers["omps-error"] == {"failed": "QuayCourierError", "transient": "KojiError"}[name]
    bus.wait_until_empty()


def test_one_copy_names_all_targets_that_failed(bus):
    with Worker(bus.url):
        bus.publish(build_body(1, "half"))
        assert statuses(bus.results(3)) == ["failed", "failed", "published"]
        (copy,) = bus.parked(1)
    assert copy.headers["omps-targets"] == ["community/bad", "community/slow"]
    assert copy.headers["omps-error"] == "KojiError"


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff garbage", b"[" * 100_000, b'{"attribute": "state", "new": 1}', b"1" * 15 * 2**20],
    ids=["empty", "garbage", "deep", "nameless", "large"],
)  # fmt: skip
def test_what_cannot_be_read_is_parked_and_told_of(bus, body):
    with Worker(bus.url):
        bus.publish(body)
        (copy,) = bus.parked(1)
        (result,) = bus.results(1)
    assert copy.body == body
    assert copy.headers["omps-error"] == "MessageError"
    assert copy.properties.message_id == events.message_id_for(None, body)
    assert "omps-targets" not in copy.headers
    assert (result.json["status"], result.json["organization"], result.json["repo"]) == ("failed", None, None)
    assert result.json["source"]["message_id"] == copy.properties.message_id
    bus.wait_until_empty()


@pytest.mark.parametrize("name", ["raise", "exit", "dismiss-raises", "odd-results"])
def test_a_handler_that_raises_anything_parks_the_message_and_goes_on(bus, name, caplog):
    with Worker(bus.url) as worker:
        bus.publish(build_body(1, name))
        (copy,) = bus.parked(1)
        assert copy.headers["omps-error"] == "UnexpectedError"
        assert "a secret of the handler" not in copy.headers["omps-error-message"]
        assert "Traceback" in caplog.text
        (result,) = bus.results(1)
        assert result.json["error"]["name"] == "UnexpectedError"
        for number in range(8):
            bus.publish(build_body(10 + number))
        bus.results(8)
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_a_build_that_nobody_asked_for_is_acked_in_silence(bus):
    with Worker(bus.url) as worker:
        bus.publish(build_body(1, "elsewhere"), build_body(2, "late-ignored"), build_body(3, new=3), b'{"tag": "f43"}')
        wait_until(lambda: sum(worker.consumer.counts.values()) == 4, what="four messages")
        assert worker.consumer.counts == {
            "ignored:no_rule": 2, "ignored:not_complete": 1, "ignored:not_a_build_message": 1
        }  # fmt: skip
    bus.wait_until_empty()
    assert bus.results(0) == []
    assert bus.take_all(bus.failed_queue) == []


@pytest.mark.parametrize("prefetch", [1, 2, 8, 64])
def test_a_thousand_irrelevant_messages_with_relevant_ones_between_are_all_acked(bus, prefetch):
    bus.set_up()
    bodies = [build_body(n, "skipped" if n % 100 == 50 else "elsewhere") for n in range(1000)]
    bus.publish(*bodies)
    with Worker(bus.url, prefetch=prefetch) as worker:
        bus.results(10)
        wait_until(lambda: sum(worker.consumer.counts.values()) == 1000, 60, "all messages")
        assert worker.consumer.counts == {"ignored:no_rule": 990, "skipped": 10}
        assert worker.stop() == 0
    bus.wait_until_empty()
    assert [attempt.interrupted for _, attempt in worker.script.begun] == [False] * 10


def test_irrelevant_messages_pass_by_work_that_takes_long(bus):
    with Worker(bus.url, prefetch=3) as worker:
        bus.publish(build_body(1, "wait"), *[build_body(n, "elsewhere") for n in range(2, 202)])
        wait_until(lambda: worker.consumer.counts["ignored:no_rule"] == 200, what="200 irrelevant messages")
        assert worker.consumer.counts["published"] == 0
        worker.script.gate.set()
        bus.results(1)
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_concurrency_and_prefetch_are_respected(bus):
    bus.set_up()
    bus.publish(*[build_body(n, "wait") for n in range(12)])
    with Worker(bus.url, concurrency=3, prefetch=5) as worker:
        wait_until(lambda: worker.script.at_once == 3, what="three builds at once")
        wait_until(lambda: bus.depth() == 6, what="five messages in hand, and the one that came first")
        worker.script.gate.set()
        bus.results(12)
        assert worker.script.most_at_once == 3
        bus.publish(*[build_body(n, "published") for n in range(12, 24)])
        bus.results(12)
        worker.script.gate.clear()
        bus.publish(*[build_body(n, "wait") for n in range(24, 36)])
        wait_until(lambda: bus.depth() == 7, what="five messages in hand")
        worker.script.gate.set()
        bus.results(12)
    bus.wait_until_empty()


def test_two_copies_of_one_message_are_worked_on_one_after_the_other(bus):
    with Worker(bus.url) as worker:
        bus.publish(build_body(1, "wait"), build_body(1, "wait"), message_id="same")
        wait_until(lambda: worker.script.at_once == 1, what="the first copy")
        bus.publish(build_body(2))
        bus.results(1)
        assert worker.script.most_at_once <= 2
        assert [build for build, _ in worker.script.begun] == [1, 2]
        worker.script.gate.set()
        bus.results(2)
        assert [build for build, _ in worker.script.begun] == [1, 2, 1]
    bus.wait_until_empty()


def test_a_message_that_moved_through_our_queues_remembers_its_topic(bus):
    with Worker(bus.url):
        headers = {"omps-topic": "koji.build.done", "omps-exchange": "koji", "omps-attempt": 2, "omps-targets": ["a/b"],
                   "omps-first-seen": "2026-11-19T00:00:00+00:00"}  # fmt: skip
        bus.publish(b"garbage", exchange="", topic=bus.queue, headers=headers)
        (copy,) = bus.parked(1)
        (result,) = bus.results(1)
    assert result.json["source"]["topic"] == "koji.build.done"
    assert result.json["attempt"] == 2
    assert {name: copy.headers[name] for name in headers} == headers


def test_a_copy_goes_to_the_failed_queue_only(bus):
    with bus.channel() as channel:
        channel.queue_declare("somebody-elses", durable=True)
    with Worker(bus.url):
        bus.publish(build_body(1, "failed"), headers={"CC": ["somebody-elses"]})
        bus.parked(1)
        bus.results(1)
    bus.wait_until_empty()
    assert bus.take_all("somebody-elses") == []


def test_poisonous_headers_do_not_stop_the_worker(bus):
    with Worker(bus.url) as worker:
        link = pika.BlockingConnection(pika.URLParameters(bus.url))
        table = {"ms": RawValue(b"T" + (1_700_000_000_000).to_bytes(8, "big"))}
        deep: dict = {}
        inner = deep
        for _ in range(200):
            inner["x"] = {}
            inner = inner["x"]
        link.channel().basic_publish(
            "amq.topic", TOPIC, build_body(1, "failed"), pika.BasicProperties(headers={**table, "deep": deep})
        )
        (copy,) = bus.parked(1)
        link.close()
        assert copy.headers["ms"] == table["ms"]
        bus.publish(build_body(2))
        bus.results(2)
        assert worker.stop() == 0


def test_a_body_without_a_single_known_property_is_read(bus):
    with Worker(bus.url):
        bus.publish(json.dumps({"msg": {"attribute": "state", "new": 1, "info": {"build_id": 9}}}).encode())
        (result,) = bus.results(1)
    assert result.json["source"]["message_id"] == events.message_id_for(events.BuildEvent(build_id=9), b"")


def test_a_worker_without_a_monitor_works(amqp_url):
    bus = Bus(amqp_url)
    with Worker(amqp_url) as worker:
        bus.publish(build_body(1))
        wait_until(lambda: worker.consumer.counts["published"] == 1, what="the outcome")
        assert worker.stop() == 0
    bus.wait_until_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bindings": (("koji", "#"),)}, "no exchange 'koji'"),
        ({"publish_exchange": "results"}, "no exchange 'results'"),
        ({"arguments": {"x-queue-type": "classic"}}, "inequivalent arg"),
        ({"queue": "other", "passive": True}, r"no queue 'other\.failed'"),
    ],
)
def test_a_missing_exchange_or_another_queue_is_refused_at_the_start(bus, options, said):
    bus.set_up()
    with pytest.raises(BrokerRefused, match=said), Worker(bus.url, **options):
        pass


def test_a_passive_worker_uses_what_is_there(amqp_url):
    bus = Bus(amqp_url).listen()
    with bus.channel() as channel:
        for queue in (bus.queue, bus.failed_queue):
            channel.queue_declare(queue, durable=True)
        channel.queue_bind(bus.queue, "amq.topic", TOPIC)
    with Worker(amqp_url, passive=True) as worker:
        bus.publish(build_body(1), build_body(2, "failed"))
        bus.results(2)
        bus.parked(1)
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_a_refused_login_is_told_and_not_tried_again(shared_rabbit):
    with pytest.raises(BrokerRefused, match="refuses the login"), Worker(shared_rabbit.node.url("/", password="no")):
        pass
