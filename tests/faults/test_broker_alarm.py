# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that is short of memory or disk takes nothing; then nothing is begun, and nothing is given back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.broker import RabbitNode
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import TOPIC_PREFIX
from tests.support.api import serve
from tests.support.books import COMPONENT, Books, crew_of, otter
from tests.support.bus import Bus, build_body
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit
from tests.support.waiting import wait_until
from tests.support.workers import Worker

ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.6")),
    "disk": (("set_disk_free_limit", "900GB"), ("set_disk_free_limit", "1MB")),
}
"""How each alarm is raised and ended."""


@contextmanager
def alarm(node: RabbitNode, kind: str = "memory") -> Iterator[None]:
    """An alarm of that kind, for as long as this is entered."""
    begin, end = ALARMS[kind]
    node.rabbitmqctl(*begin)
    # The broker looks at its memory and its disk now and then.
    wait_until(lambda: f"{kind}," in node.eval("rabbit_alarm:get_alarms()."), 30, "the alarm")
    try:
        yield
    finally:
        node.rabbitmqctl(*end)


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
    assert "stays un-acked, trying again" not in caplog.text, "one copy waits for the end of the alarm"
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


@pytest.mark.parametrize("kind", ALARMS)
def test_a_worker_that_starts_in_an_alarm_says_so_begins_nothing_and_goes_on_after_it(lonely, kind):
    port = free_port()
    edit(lonely.config, "[consumer_config]\n", f"[monitoring]\nport = {port}\n[consumer_config]\n")
    seen = Seen(port)
    books = Books(lonely)
    build = lonely.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())
    with lonely.running():
        pass  # it declares the queues
    lonely.publish(lonely.koji.message(build))
    with alarm(lonely.node, kind):
        worker = lonely.worker("run")
        try:
            reason = f"publisher: the broker takes no messages: low on {kind}"
            wait_until(lambda: "the broker blocks publishers" in lonely.log, 20, "the alarm in the log")
            wait_until(lambda: any(told.startswith(reason) for told in seen.reasons()), 10, "the alarm in /ready")
            assert seen.live(), "a restart would not help"
            assert "consumer: not consuming until the broker takes messages again" in seen.reasons()
            turned = lonely.log.count("the broker blocks publishers")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(10) == 0, lonely.log
            assert turned == 1, "it is said once"
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
        assert books.statuses() == []
        second = lonely.worker("run")
        wait_until(lambda: lonely.log.count("the broker blocks publishers") == 2, 20, "the alarm in the log")
    try:
        books.wait_for("published")
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    finally:
        second.kill()
        second.wait()
        second.stdout.close()


def test_a_worker_that_comes_back_in_an_alarm_begins_nothing_before_its_end(own_rabbit, caplog):
    bus = Bus(own_rabbit.amqp_url).listen()
    with Worker(own_rabbit.amqp_url) as worker:
        bus.publish(build_body(1))
        bus.results(1)
        bus.publish(build_body(2, "wait", version="2"))
        wait_until(lambda: worker.script.at_once == 1, 30, "work in hand")
        with alarm(own_rabbit):
            wait_until(lambda: worker.publisher.blocked, 15, "an idle publisher to notice the alarm")
            own_rabbit.rabbitmqctl("close_all_connections", "a change")
            wait_until(lambda: bus.depth() == 1, 30, "the message to be given back")
            worker.script.gate.set()
            wait_until(lambda: worker.publisher.blocked, 30, "the alarm to be noticed again")
            turned = worker.consumer._turned_at
            wait_until(lambda: worker.consumer._turned_at > turned + 2, 30, "some turns of the loop")
            assert bus.depth() == 1, "nothing is taken"
            assert not worker.consumer.consuming
        wait_until(lambda: worker.consumer.consuming, 30, "the worker to consume")
        assert len(bus.results(1, 60)) == 1
        assert worker.stop() == 0
    bus.wait_until_empty()


def test_commands_and_the_api_name_the_alarm_within_seconds(lonely, tmp_path):
    lonely.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())
    stored = tmp_path / "message.json"
    lonely.save(lonely.koji.message(lonely.koji.add_build(COMPONENT, "2.0", "1", manifests=otter(2))), stored)
    archive = tmp_path / "archive.zip"
    archive.write_bytes(otter(3))
    with lonely.running():
        pass  # it declares the queues
    commands = {
        "check": ["check", "--json"],
        "push": ["push", f"{COMPONENT}-1.0-1"],
        "push-zip": ["push-zip", str(archive), "--organization", "community"],
        "replay": ["replay", str(stored)],
        "catch-up": ["catch-up", "--since", "1d"],
    }
    token = (lonely.directory / "secrets" / "partners").read_text().strip()
    top = {"amqp_url": lonely.amqp_url, "topic_prefix": TOPIC_PREFIX}
    (tmp_path / "api").mkdir()
    with alarm(lonely.node), serve(tmp_path / "api", lonely.koji, lonely.registry, token, top=top) as server:
        begun = time.monotonic()
        with ThreadPoolExecutor(len(commands)) as pool:
            ended = {name: pool.submit(lonely.command, *arguments) for name, arguments in commands.items()}
            ran = {name: future.result() for name, future in ended.items()}
        for name in ("push", "push-zip", "replay", "catch-up"):
            assert "takes no messages: low on memory" in ran[name].err + ran[name].out, (name, ran[name])
            assert ran[name].code == 75, (name, ran[name])
            assert "was lost" not in ran[name].err
        broker = next(part for part in ran["check"].json if part["part"] == "broker")
        assert "takes no messages: low on memory" in broker["detail"]
        assert (broker["error"], broker["transient"], ran["check"].code) == ("BrokerBlocked", True, 75)
        assert time.monotonic() - begun < 25
        for _ in range(2):
            reply = server.upload("/v2/partners/zipfile", operators.zip_of(operators.nested_operator("otter-cache")))
            assert (reply.status_code, reply.json()["error"]) == (503, "BrokerBlocked")
        assert not lonely.registry.releases("community", "otter-cache")
    assert lonely.command("push", f"{COMPONENT}-1.0-1").code == 0
    assert lonely.command("check").code == 0
