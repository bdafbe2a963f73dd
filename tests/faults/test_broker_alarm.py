# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that is short of memory or disk takes nothing; then nothing is begun, and nothing is given back."""

from __future__ import annotations

import threading

from omps_worker.sandbox.faults import Fault
from tests.support.books import COMPONENT, Books, crew_of, otter
from tests.support.bus import Bus, build_body
from tests.support.waiting import wait_until
from tests.support.workers import Worker


def test_in_an_alarm_nothing_is_begun_and_nothing_given_back(own_rabbit, caplog):
    caplog.set_level("INFO")
    bus = Bus(own_rabbit.amqp_url).listen().set_up()
    bus.publish(*[build_body(number, version=str(number)) for number in range(2, 7)])
    with bus.channel() as kept:
        # A broker in an alarm takes no messages, so those that are to come then are kept back here.
        for _ in range(5):
            assert kept.basic_get(bus.queue)[0]
        with Worker(own_rabbit.amqp_url, prefetch=4, publish_seconds=4) as worker:
            bus.publish(build_body(1, "wait"))
            wait_until(lambda: worker.script.at_once == 1, 30, "work in hand")
            own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
            worker.script.gate.set()
            wait_until(lambda: worker.publisher.blocked, 30, "the alarm")
            kept.basic_nack(multiple=True)
            kept.connection.process_data_events()
            wait_until(lambda: bus.depth() == 1, 30, "the worker to take as many as it may have, beside the first")
            turned = worker.consumer._turned_at
            wait_until(
                lambda: worker.consumer._turned_at > turned + 5, 30, "the alarm to outlast the publisher's patience"
            )
            assert [build for build, _ in worker.script.begun] == [1], "nothing is begun"
            assert bus.depth() == 1, "nothing is given back"
            own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
            results = bus.results(6, 60)
            assert worker.stop() == 0
    assert len({result.properties.message_id for result in results}) == 6
    assert sorted(build for build, _ in worker.script.begun) == [1, 2, 3, 4, 5, 6]
    assert "kept un-acked, tried again" not in caplog.text, "one copy waits for the end of the alarm"
    bus.wait_until_empty()


def test_a_consumer_that_is_timed_out_in_an_alarm_comes_back_after_it(own_rabbit, caplog):
    caplog.set_level("INFO")
    own_rabbit.eval("application:set_env(rabbit, channel_tick_interval, 300).")
    own_rabbit.eval("application:set_env(rabbit, consumer_timeout, 2000).")
    bus = Bus(own_rabbit.amqp_url).listen().set_up()
    with Worker(own_rabbit.amqp_url, concurrency=1, prefetch=4) as worker:
        bus.publish(*[build_body(number, "wait", version=str(number)) for number in range(1, 5)])
        wait_until(lambda: worker.script.at_once == 1, 30, "work in hand")
        own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
        worker.script.gate.set()
        wait_until(lambda: "timed out" in caplog.text, 60, "the broker to close the channel")
        wait_until(lambda: bus.depth() == 4, 30, "the messages to be ready")
        assert bus.consumers() == 0
        assert not worker.consumer.consuming
        own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
        results = bus.results(4, 60)
        assert sorted(result.json["nvr"] for result in results) == [f"wait-{number}-1" for number in range(1, 5)]
        assert bus.consumers() == 1
        assert worker.stop() == 0
    assert sorted(build for build, _ in worker.script.begun) == [1, 2, 3, 4]
    bus.wait_until_empty()


def test_a_site_whose_broker_raises_an_alarm_publishes_everything_once_it_is_over(lonely):
    books = Books(lonely)
    # The alarm takes its time, and the push is to wait for it.
    lonely.config.write_text(lonely.config.read_text().replace("1500ms", "60s"))
    builds = [lonely.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(6)]
    held = lonely.registry.faults.add(Fault("POST /cnr/", hold=threading.Event()))
    with crew_of(lonely) as crew:
        crew.start()
        lonely.publish(*map(lonely.koji.message, builds))
        wait_until(lambda: lonely.registry.faults.fired(held), 30, "a push")
        lonely.node.rabbitmqctl("set_disk_free_limit", "900GB")
        held.hold.set()
        wait_until(lambda: "the broker blocks publishers: low on disk" in lonely.log, 30, "the alarm")
        lonely.node.rabbitmqctl("set_disk_free_limit", "1MB")
        books.wait_for("published", len(builds))
        crew.stop_all()
    assert len({told.id for told in books.told}) == len(books.told), "each outcome is told once"
    books.balance(builds)
