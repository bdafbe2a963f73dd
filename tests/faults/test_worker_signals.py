# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker does when it is told to stop, in any way."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.bus import Bus, build_body
from tests.support.processes import WorkerProcess
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def bus(amqp_url) -> Bus:
    return Bus(amqp_url).listen().set_up()


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def builds(results) -> list[str]:
    return sorted(result.json["nvr"] for result in results)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_in_hand_is_finished_and_what_was_not_begun_is_given_back(bus, gate, number):
    bus.publish(*[build_body(n, "wait", version=str(n)) for n in range(4)])
    with WorkerProcess(bus.url, gate, concurrency=2, prefetch=4) as worker:
        wait_until(lambda: len(worker.said) == 2, 40, "two builds in hand")
        worker.send(number)
        wait_until(lambda: bus.depth() == 2, what="the untouched messages to come back")
        assert worker.running
        assert bus.results(0) == []
        gate.touch()
        assert worker.exit_code() == 0
        assert builds(bus.results(2)) == ["wait-0-1", "wait-1-1"]
    assert [got.properties.message_id for got in bus.take(bus.queue, 2)] == [None, None]
    bus.wait_until_empty()


def test_a_worker_without_work_stops_at_once(bus, gate):
    with WorkerProcess(bus.url, gate) as worker:
        worker.wait_until_logged("consuming from the queue")
        start = time.monotonic()
        assert worker.send(signal.SIGTERM).exit_code() == 0
        assert time.monotonic() - start < 5


def test_work_past_the_deadline_is_left_to_the_broker(bus, gate):
    bus.publish(build_body(1, "wait"))
    with WorkerProcess(bus.url, gate, shutdown_timeout=0.5) as worker:
        worker.wait_until_said("begin 1 fresh").send(signal.SIGTERM)
        assert worker.exit_code() == 1
        assert worker.logged("the shutdown timeout has passed: the broker redelivers 1 message(s)") == 1
    (again,) = bus.take(bus.queue, 1)
    assert again.redelivered


def test_a_second_signal_stops_at_once(bus, gate):
    bus.publish(build_body(1, "wait"))
    with WorkerProcess(bus.url, gate, shutdown_timeout=300) as worker:
        worker.wait_until_said("begin 1 fresh").send(signal.SIGTERM)
        worker.wait_until_logged("stopping: 1 message(s) in flight")
        assert worker.send(signal.SIGTERM).exit_code(10) == 1
    (again,) = bus.take(bus.queue, 1)
    assert again.redelivered


def test_a_silent_broker_does_not_hold_up_the_end(bus, gate, shared_rabbit):
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        with WorkerProcess(through, gate, shutdown_timeout=0.5) as worker:
            worker.wait_until_logged("consuming from the queue")
            proxy.silent.set()
            start = time.monotonic()
            assert worker.send(signal.SIGTERM).exit_code(20) == 1
            assert time.monotonic() - start < 15


def test_a_worker_that_waits_for_its_broker_can_be_stopped(gate):
    with Proxy(1) as nobody, WorkerProcess(f"amqp://guest:guest@127.0.0.1:{nobody.port}/", gate) as worker:
        worker.wait_until_logged("not consuming, trying again", times=2)
        assert worker.send(signal.SIGTERM).exit_code(10) == 0
        assert worker.logged("Traceback") == 0
        assert worker.logged("guest:guest") == 0


def test_a_hangup_reloads_and_a_reload_that_fails_does_no_harm(bus, gate):
    with WorkerProcess(bus.url, gate) as worker:
        worker.wait_until_logged("consuming from the queue")
        worker.send(signal.SIGHUP).wait_until_said("reload")
        worker.send(signal.SIGHUP).wait_until_said("reload", times=2).wait_until_logged("reloading failed")
        bus.publish(build_body(1))
        bus.results(1)
        assert worker.send(signal.SIGTERM).exit_code() == 0


def test_a_killed_worker_loses_nothing(bus, gate):
    bus.publish(*[build_body(n, "wait", version=str(n)) for n in range(6)])
    with WorkerProcess(bus.url, gate, concurrency=2, prefetch=4) as worker:
        wait_until(lambda: len(worker.said) == 2, 40, "two builds in hand")
        worker.send(signal.SIGKILL)
        assert worker.exit_code() == -signal.SIGKILL
    gate.touch()
    with WorkerProcess(bus.url, gate) as successor:
        assert builds(bus.results(6)) == [f"wait-{n}-1" for n in range(6)]
        for line in worker.said:
            successor.wait_until_said(line.replace("fresh", "interrupted"))
        assert successor.send(signal.SIGTERM).exit_code() == 0
    bus.wait_until_empty()


def test_a_refusal_at_the_start_is_told_and_ends_the_worker(bus, gate, shared_rabbit):
    with WorkerProcess(shared_rabbit.node.url("/", password="wrong"), gate) as worker:
        assert worker.exit_code() == 2
        wait_until(lambda: any("refuses the login" in line for line in worker.said), what="the reason")
        assert worker.logged("Traceback") == 0
