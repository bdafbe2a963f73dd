# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker does when its broker, or the way there, fails."""

from __future__ import annotations

import pytest

from omps_worker.broker.connection import backoff
from tests.support.bus import RESULTS, Bus, build_body
from tests.support.waiting import wait_until
from tests.support.workers import Worker


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setattr(backoff, "LONGEST_DELAY", 1.0)


@pytest.fixture
def bus(amqp_url) -> Bus:
    return Bus(amqp_url).listen().set_up()


def wait_for_one_consumer(bus: Bus, worker: Worker) -> None:
    wait_until(lambda: worker.consumer.consuming and bus.consumers() == 1, 30, "exactly one consumer")


def test_consuming_resumes_after_each_cut(bus, proxy, through):
    with Worker(through) as worker:
        for number in range(1, 6):
            bus.publish(build_body(number))
            bus.results(1)
            proxy.cut()
            wait_for_one_consumer(bus, worker)
        assert worker.stop() == 0
    assert [build for build, _ in worker.script.begun] == [1, 2, 3, 4, 5]
    bus.wait_until_empty()


def test_work_in_hand_is_not_done_twice_when_the_connection_is_lost(bus, proxy, through, caplog):
    caplog.set_level("INFO")
    with Worker(through) as worker:
        bus.publish(build_body(1, "wait"), message_id="one")
        wait_until(lambda: worker.script.at_once == 1, what="work in hand")
        for again in range(1, 4):
            proxy.cut()
            wait_until(lambda: caplog.text.count("still being processed") == again, 30, "the redelivery")  # noqa: B023
        worker.script.gate.set()
        bus.results(1)
        assert worker.stop() == 0
    assert len(worker.script.begun) == 1
    bus.wait_until_empty()


def test_what_was_finished_while_the_connection_was_lost_is_acked_and_not_done_again(bus, proxy, through, caplog):
    caplog.set_level("INFO")
    with Worker(through, results_url=bus.url) as worker:
        bus.publish(build_body(1, "wait"), message_id="one")
        wait_until(lambda: worker.script.at_once == 1, what="work in hand")
        proxy.refusing = True
        proxy.cut()
        wait_until(lambda: not worker.consumer.consuming, 30, "the loss of the connection")
        worker.script.gate.set()
        bus.results(1)
        proxy.refusing = False
        wait_until(lambda: "though its outcome is recorded" in caplog.text, 30, "the redelivery")
        assert worker.stop() == 0
    assert len(worker.script.begun) == 1
    bus.wait_until_empty()


def test_a_message_waits_un_acked_until_its_outcome_can_be_published(bus, proxy, through, caplog):
    with Worker(bus.url, results_url=through, publish_seconds=0.3) as worker:
        wait_until(lambda: worker.publisher.connected, what="the publisher")
        proxy.silent.set()
        bus.publish(build_body(1), build_body(2, "failed"))
        wait_until(lambda: caplog.text.count("stays un-acked, trying again") >= 4, 30, "tries to publish")
        assert worker.consumer.counts == {}
        proxy.silent.clear()
        proxy.cut()
        bus.results(2, 60)
        bus.parked(1)
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_a_full_failed_queue_keeps_the_message_until_there_is_room(amqp_url):
    bus = Bus(amqp_url).listen()
    with bus.channel() as channel:
        full = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare(bus.failed_queue, durable=True, arguments=full)
        channel.queue_declare(bus.queue, durable=True)
        channel.queue_bind(bus.queue, "amq.topic", "#.change")
        channel.confirm_delivery()
        channel.basic_publish("", bus.failed_queue, b"in the way")
    with Worker(amqp_url, passive=True) as worker:
        bus.publish(build_body(1, "failed"), message_id="kept")
        bus.results(1)
        bus.publish(build_body(2))
        bus.results(1)
        assert worker.consumer.counts["failed"] == 0, "nothing is acked before the copy is safe"
        assert [got.body for got in bus.take_all(bus.failed_queue)] == [b"in the way"]
        (copy,) = bus.parked(1)
        assert copy.properties.message_id == "kept"
        wait_until(lambda: worker.consumer.counts["failed"] == 1, what="the ack")
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_a_stop_while_the_outcome_cannot_be_recorded_leaves_the_message_to_the_broker(amqp_url):
    bus = Bus(amqp_url).listen()
    with bus.channel() as channel:
        full = {"x-max-length": 0, "x-overflow": "reject-publish"}
        channel.queue_declare(bus.failed_queue, durable=True, arguments=full)
        channel.queue_declare(bus.queue, durable=True)
    with Worker(amqp_url, passive=True, shutdown_timeout=1.0) as worker:
        bus.publish(build_body(1, "failed"), exchange="", topic=bus.queue)
        bus.results(1)
        assert worker.stop() == 1
    (again,) = bus.take(bus.queue, 1)
    assert again.redelivered


def test_a_deleted_queue_is_declared_anew(bus, caplog):
    with Worker(bus.url) as worker:
        with bus.channel() as channel:
            channel.queue_delete(bus.queue)
        wait_until(lambda: bus.exists(bus.queue) and bus.consumers() == 1, 30, "the queue and its consumer")
        bus.publish(build_body(1))
        bus.results(1)
        assert "cancelled the consumer" in caplog.text
        assert worker.stop() == 0


def test_a_deleted_failed_queue_is_declared_anew(bus):
    with Worker(bus.url) as worker:
        with bus.channel() as channel:
            channel.queue_delete(bus.failed_queue)
        bus.publish(build_body(1, "failed"), message_id="kept")
        wait_until(lambda: bus.exists(bus.failed_queue), 30, "the failed queue")
        (copy,) = bus.parked(1)
        assert copy.properties.message_id == "kept"
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_a_queue_that_is_gone_is_waited_for_by_a_passive_worker(bus, caplog):
    with Worker(bus.url, passive=True) as worker:
        with bus.channel() as channel:
            channel.queue_delete(bus.queue)
        wait_until(lambda: "no queue 'omps-worker'" in caplog.text, 30, "the fault in the log")
        assert worker.thread.is_alive()
        bus.set_up()
        bus.publish(build_body(1))
        bus.results(1)
        assert worker.stop() == 0


def test_a_channel_that_the_broker_closes_is_opened_anew(bus, caplog):
    with Worker(bus.url) as worker:
        conversation = worker.consumer._session
        # An ack for a tag that never was: the broker closes the channel with 406.
        conversation.connection.add_callback_threadsafe(lambda: conversation.channel.basic_ack(999))
        wait_until(lambda: "unknown delivery tag 999" in caplog.text, 30, "the reason in the log")
        bus.publish(build_body(1))
        bus.results(1)
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_work_that_takes_longer_than_the_broker_allows_is_not_done_twice(own_rabbit, caplog):
    caplog.set_level("INFO")
    own_rabbit.eval("application:set_env(rabbit, channel_tick_interval, 500).")
    own_rabbit.eval("application:set_env(rabbit, consumer_timeout, 5000).")
    bus = Bus(own_rabbit.amqp_url).listen()
    with Worker(own_rabbit.amqp_url) as worker:
        bus.publish(build_body(1, "wait"))
        wait_until(lambda: "still being processed" in caplog.text, 60, "the redelivery")
        assert "delivery acknowledgement on channel 1 timed out" in caplog.text
        worker.script.gate.set()
        bus.results(1)
        assert worker.stop() == 0
    assert len(worker.script.begun) == 1
    bus.wait_until_empty()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_broker_that_goes_away_and_comes_back_loses_nothing(own_rabbit, how):
    bus = Bus(own_rabbit.amqp_url).listen().set_up()
    # RabbitMQ 3.10 forgets a quorum queue that was declared moments before a kill -9, not one that saw a restart.
    own_rabbit.restart()
    with Worker(own_rabbit.amqp_url) as worker:
        bus.publish(build_body(1, "wait"), build_body(2, "failed"), delivery_mode=2)
        wait_until(lambda: worker.consumer.counts["failed"] == 1, what="the first outcome")
        wait_until(lambda: worker.script.at_once == 1, what="work in hand")
        if how == "restart":
            own_rabbit.stop()
        else:
            own_rabbit.kill()
        wait_until(lambda: not worker.consumer.consuming, 30, "the loss of the connection")
        worker.script.gate.set()
        own_rabbit.start()
        assert [result.json["status"] for result in bus.results(2, 60)] == ["failed", "published"]
        bus.publish(build_body(3), delivery_mode=2)
        bus.results(1, 60)
        assert [copy.headers["omps-error"] for copy in bus.parked(1)] == ["QuayCourierError"]
        assert worker.stop() == 0
    assert sorted(build for build, _ in worker.script.begun) == [1, 2, 3]
    bus.wait_until_empty()


def test_a_worker_may_start_before_its_broker(own_rabbit, caplog):
    own_rabbit.stop()
    worker = Worker(own_rabbit.amqp_url)
    worker.thread.start()
    wait_until(lambda: caplog.text.count("not consuming, trying again") > 1, what="tries to connect")
    own_rabbit.start()
    wait_until(lambda: worker.consumer.consuming, 60, "a consumer")
    bus = Bus(own_rabbit.amqp_url).listen()
    bus.publish(build_body(1))
    bus.results(1)
    assert worker.stop() == 0
    assert "Traceback" not in caplog.text


def test_results_are_not_lost_when_the_bus_has_no_monitor_for_a_while(bus):
    with Worker(bus.url) as worker:
        with bus.channel() as channel:
            channel.queue_delete(RESULTS)
        bus.publish(build_body(1))
        wait_until(lambda: worker.consumer.counts["published"] == 1, what="the outcome")
        bus.listen()
        bus.publish(build_body(2))
        bus.results(1)
        assert worker.stop() == 0
