# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of which their workers die: they are parked, with a result that says so, and nothing else is."""

from __future__ import annotations

import json
import signal

import pytest

from omps_worker.broker.connection import backoff
from omps_worker.broker.consuming.suspects import DeathLimits
from omps_worker.broker.dead_letters.replay import Replay
from omps_worker.messages.dead_letter import FailureSelection
from omps_worker.sandbox.site import QUEUE
from tests.support.bus import RESULTS, Bus, build_body, where
from tests.support.parked import failed_queue_of
from tests.support.processes import WorkerProcess
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.workers import Worker

POISON = "wait"
"""Such a build blocks its worker's thread, until the test kills the worker: it dies in the middle of this very work."""

LIMITS = DeathLimits()


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setattr(backoff, "LONGEST_DELAY", 0.5)


@pytest.fixture
def bus(amqp_url) -> Bus:
    return Bus(amqp_url).listen().set_up()


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "never"


def send(bus: Bus, poison: set[int], count: int) -> None:
    for number in range(1, count + 1):
        name = POISON if number in poison else "published"
        bus.publish(build_body(number, name, version=str(number)), message_id=f"id-{number}")


class Results:
    """What was told so far."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.told: list[dict] = []

    def hear(self) -> list[dict]:
        self.told += [result.json for result in self._bus.take_all(RESULTS)]
        return self.told

    def done(self, status: str) -> set[str]:
        return {result["source"]["message_id"] for result in self.hear() if result["status"] == status}


def begun(worker: WorkerProcess) -> list[int]:
    return [int(line.split()[1]) for line in worker.said if line.startswith("begin ")]


def killed_until(bus: Bus, gate, poison: set[int], over, *, replicas: int = 1, most: int = 40, **options: int) -> int:
    """Workers live and die of the poison until ``over``; how many were killed."""
    kills = 0
    workers = [WorkerProcess(bus.url, gate, **options).__enter__() for _ in range(replicas)]
    try:
        while True:

            def struck() -> int | None:
                hit = (n for n, worker in enumerate(workers) if poison & set(begun(worker)))
                return next(hit, None)

            wait_until(lambda: struck() is not None or over(), 60, "a worker to be killed, or the end")
            number = struck()
            if number is None:
                for worker in workers:
                    # What is told and not yet acked would be told again.
                    worker.send(signal.SIGTERM).exit_code()
                return kills
            kills += 1
            assert kills <= most
            workers[number].__exit__(None, None, None)
            workers[number] = WorkerProcess(bus.url, gate, **options).__enter__()
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("poison", "replicas", "options"),
    [
        ({1}, 1, {"concurrency": 4, "prefetch": 8}),
        ({7}, 1, {"concurrency": 1, "prefetch": 20}),
        ({3, 4}, 1, {"concurrency": 4, "prefetch": 8}),
        ({2, 30}, 2, {"concurrency": 4, "prefetch": 8}),
    ],
    ids=["at the head", "among many in hand", "two of them", "two replicas"],
)
def test_among_fifty_innocent_builds_only_the_poison_is_parked_and_told(bus, gate, poison, replicas, options):
    send(bus, poison, 50)
    results = Results(bus)
    guilty = {f"id-{number}" for number in poison}

    def over() -> bool:
        return len(results.done("published")) + len(results.done("failed")) >= 50

    kills = killed_until(bus, gate, poison, over, replicas=replicas, **options)
    assert results.done("failed") == guilty
    assert len(results.done("published")) == 50 - len(poison)
    assert kills <= LIMITS.parked * len(poison)
    parked = bus.parked(len(poison))
    assert {got.properties.message_id for got in parked} == guilty
    for got in parked:
        assert got.headers["omps-error"] == "PoisonMessage"
        assert got.headers["omps-deaths"] >= LIMITS.parked
    failed = [result for result in results.told if result["status"] == "failed"]
    assert len({json.dumps(result, sort_keys=True) for result in failed}) == len(poison)
    for result in failed:
        assert (result["error"]["name"], result["error"]["transient"]) == ("PoisonMessage", False)
        assert result["error"]["details"]["deaths"] >= LIMITS.parked
        assert result["nvr"].startswith("wait-")
    bus.wait_until_empty()


def test_twenty_one_quick_kills_park_nothing_that_finishes_its_work(bus, gate):
    """Killed by somebody from outside, always when something is begun, whatever it is."""
    send(bus, set(), 40)
    results = Results(bus)
    for _ in range(21):
        with WorkerProcess(bus.url, gate) as worker:
            wait_until(lambda worker=worker: begun(worker) or len(results.done("published")) == 40, 40, "work")
    with Worker(bus.url) as last:
        wait_until(lambda: len(results.done("published")) == 40, 60, "all results")
        assert last.stop() == 0
    assert results.done("failed") == set()
    assert bus.take_all(bus.failed_queue) == []
    bus.wait_until_empty()


def test_a_replay_of_poison_is_alone_from_the_first_time_on_and_kills_three_more(bus, gate):
    send(bus, {1}, 1)
    results = Results(bus)
    killed_until(bus, gate, {1}, lambda: results.done("failed"), prefetch=8)
    wait_until(lambda: bus.depth(bus.failed_queue) == 1, what="the parked message")
    replay_all(bus)
    for number in range(2, 21):
        bus.publish(build_body(number, "published", version=str(number)), message_id=f"id-{number}")
    told = len(results.hear())
    kills = killed_until(
        bus, gate, {1}, lambda: "failed" in [result["status"] for result in results.hear()[told:]], prefetch=8
    )
    assert kills == LIMITS.replayed
    with Worker(bus.url):
        wait_until(lambda: len(results.done("published")) == 19, 40, "the innocent")
    (parked,) = bus.parked(1)
    assert parked.headers["omps-deaths"] >= LIMITS.parked + LIMITS.replayed
    assert "omps-replayed-at" in parked.headers


def replay_all(bus: Bus) -> None:
    with Replay(where(bus.url), bus.queue) as replay:
        assert list(failed_queue_of(bus).replay(FailureSelection(), replay))


def test_a_replay_that_is_mended_is_published_and_no_suspect_any_more(bus, gate):
    send(bus, {1}, 1)
    results = Results(bus)
    killed_until(bus, gate, {1}, lambda: results.done("failed"), prefetch=8)
    wait_until(lambda: bus.depth(bus.failed_queue) == 1, what="the parked message")
    replay_all(bus)
    with Worker(bus.url) as worker:
        worker.script.gate.set()
        wait_until(lambda: results.done("published") == {"id-1"}, 40, "the release")
    assert bus.take_all(bus.failed_queue) == []
    bus.wait_until_empty()


def test_work_that_goes_on_while_the_connection_is_lost_again_and_again_is_never_parked(bus, shared_rabbit, caplog):
    caplog.set_level("INFO")
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        with Worker(through, results_url=bus.url) as worker:
            bus.publish(build_body(1, "wait"), message_id="one")
            wait_until(lambda: worker.script.at_once == 1, what="work in hand")
            for again in range(1, LIMITS.parked + 3):
                proxy.cut()
                wait_until(lambda: caplog.text.count("still being processed") == again, 60, "the redelivery")  # noqa: B023
            worker.script.gate.set()
            (result,) = bus.results(1)
            assert worker.stop() == 0
    assert result.json["status"] == "published"
    assert len(worker.script.begun) == 1
    assert bus.take_all(bus.failed_queue) == []
    bus.wait_until_empty()


def test_a_suspect_that_is_worked_on_while_the_connection_is_lost_is_joined_or_found_done(bus, shared_rabbit):
    bus.publish(build_body(1, "wait"), message_id="one")
    for _ in range(LIMITS.alone):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        with Worker(through, results_url=bus.url) as worker:
            wait_until(lambda: worker.script.at_once == 1, what="the suspect in hand")
            bus.publish(build_body(2), message_id="two")
            proxy.cut()
            wait_until(lambda: bus.depth() == 2, 30, "both messages to be ready")
            assert len(worker.script.begun) == 1, "nothing is begun beside a suspect"
            worker.script.gate.set()
            assert [result.json["source"]["message_id"] for result in bus.results(2)] == ["one", "two"]
            assert worker.stop() == 0
    assert [build for build, _ in worker.script.begun] == [1, 2]
    bus.wait_until_empty()


def test_a_suspect_among_others_waits_until_they_are_finished_and_nothing_is_begun_beside_it(bus, caplog):
    caplog.set_level("INFO")
    bus.publish(build_body(7, "published", version="7"), message_id="suspect")
    for _ in range(LIMITS.alone):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    with bus.channel() as kept:
        wait_until(lambda: kept.basic_get(bus.queue)[0], what="the suspect, kept back")
        with Worker(bus.url, concurrency=4, prefetch=8) as worker:
            bus.publish(*[build_body(number, "wait", version=str(number)) for number in range(1, 4)])
            wait_until(lambda: worker.script.at_once == 3, what="three builds at once")
            kept.connection.close()
            wait_until(lambda: "no more messages are taken" in caplog.text, what="the suspect to wait for its turn")
            assert worker.consumer.consuming, "it is not out of order for that"
            bus.publish(*[build_body(number, "published", version=str(number)) for number in range(10, 20)])
            wait_until(lambda: bus.depth() == 10, what="that nobody takes the others")
            assert len(worker.script.begun) == 3
            worker.script.gate.set()
            bus.results(14)
            assert worker.stop() == 0
    assert [build for build, _ in worker.script.begun][3] == 7
    assert {build for build, _ in worker.script.begun} == {1, 2, 3, 7, *range(10, 20)}
    bus.wait_until_empty()


def test_a_suspect_that_is_none_of_our_business_is_acked(bus):
    bus.publish(build_body(1, "elsewhere"))
    for _ in range(LIMITS.parked + 1):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    with Worker(bus.url) as worker:
        wait_until(lambda: worker.consumer.counts["ignored:no_rule"] == 1, what="the message")
        bus.publish(build_body(2))
        bus.results(1)
        assert worker.stop() == 0
    assert bus.take_all(bus.failed_queue) == []
    bus.wait_until_empty()


def test_what_kills_while_it_is_read_is_parked_unread(bus):
    bus.publish(build_body(1, "dismiss-raises"), message_id="unreadable")
    for _ in range(LIMITS.parked + 4):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    with Worker(bus.url) as worker:
        (result,) = bus.results(1)
        (copy,) = bus.parked(1)
        assert worker.stop() == 0
    assert (result.json["error"]["name"], result.json["nvr"]) == ("PoisonMessage", None)
    assert (copy.headers["omps-error"], copy.body) == ("PoisonMessage", build_body(1, "dismiss-raises"))
    bus.wait_until_empty()


def test_a_failure_of_another_kind_ends_the_suspicion(bus):
    headers = {"omps-deaths": 9, "omps-replayed-at": "2026-11-20T10:00:00+00:00", "omps-topic": "t"}
    bus.publish(build_body(1, "failed"), exchange="", topic=QUEUE, headers=headers)
    with Worker(bus.url) as worker:
        (copy,) = bus.parked(1)
        assert worker.stop() == 0
    assert copy.headers["omps-error"] == "QuayCourierError"
    assert "omps-deaths" not in copy.headers
