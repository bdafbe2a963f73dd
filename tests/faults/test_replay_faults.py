# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks and replays that are killed, cut off, or done by several people at once lose and repeat nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest

from omps_worker.broker import copies
from omps_worker.broker.dead_letters.message import read
from omps_worker.broker.dead_letters.replay import Replay
from omps_worker.broker.queues.topology import retry_queue
from omps_worker.common.errors import BrokerUnavailable, KojiError
from omps_worker.messages.dead_letter import FailureSelection
from omps_worker.publishing.retry import RetryDelay
from omps_worker.sandbox import operators
from omps_worker.sandbox.site import QUEUE
from tests.support.bus import Bus, Got, build_body, where
from tests.support.parked import failed_queue_of, fill, fill_with, parked
from tests.support.site import edit
from tests.support.waiting import wait_until

EVERYTHING = FailureSelection()
COMPONENT = "otter-cache-operator-container"


CONSUME = b"\x00\x3c\x00\x14"
"""How AMQP's method basic.consume begins."""


@pytest.fixture
def bus(site) -> Bus:
    return Bus(site.amqp_url).set_up()


@contextmanager
def command(site, url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``omps-worker ARGUMENTS`` under way; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "--config", str(site.config), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMPS_WORKER_AMQP_URL": url},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def all_back(bus: Bus, count: int) -> None:
    wait_until(lambda: bus.depth(bus.failed_queue) == count, what="everything to be back")


def ids(messages: list[Got]) -> Counter[str]:
    return Counter(got.properties.message_id for got in messages)


def ids_left(bus: Bus) -> list[str]:
    return [one.id for one, _ in failed_queue_of(bus).records(EVERYTHING)]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_replay_of_200_that_is_killed_in_the_middle_loses_nothing(site, bus, proxy, through, arrives):
    """In the very moment in which message 120 is sent: the broker has it or not, the replay never hears of it."""
    fill_with(bus, 200)
    caught = proxy.catch(b"build-120", passed_on=arrives).caught
    with command(site, through, "failed", "replay", "--all") as replay:
        assert caught.wait(60)
        replay.kill()
        replay.wait()
    all_back(bus, 80)
    assert ids_left(bus) == [f"id-{number}" for number in range(120, 200)]
    wait_until(lambda: bus.depth() == 120 + arrives, what="what was sent")

    ran = site.command("failed", "replay", "--all", "--json")
    assert (ran.code, len(ran.json)) == (0, 80)
    sent = ids(bus.take_all(bus.queue))
    assert set(sent) == {f"id-{number}" for number in range(200)}
    assert sent["id-120"] == 1 + arrives, "twice in the queue is once in effect, as the next test shows"
    assert sent.total() == 200 + arrives
    assert bus.depth(bus.failed_queue) == 0


def test_what_was_sent_but_not_yet_taken_out_is_published_once(site, bus):
    mapping = site.directory / "mapping.yaml"
    edit(
        mapping,
        '- match: {component: "*-operator-container"',
        '- superseded: publish\n    match: {component: "*-operator-container"',
    )
    builds = []
    for number in range(4):
        content = operators.zip_of(operators.flat_operator("otter-cache", version=f"1.0.{number}"))
        builds.append(site.koji.add_build(COMPONENT, f"1.{number}", "1", manifests=content))
    messages = [site.koji.message(build) for build in builds]
    fill(bus, [(parked(n, message_id=sent.properties["message_id"]), sent.body) for n, sent in enumerate(messages)])

    def cut_short() -> None:
        with Replay(where(bus.url), bus.queue) as replay, failed_queue_of(bus).scan(EVERYTHING) as look:
            for number, message in enumerate(look):
                replay.send(message.delivery)
                if number == 2:
                    raise KeyboardInterrupt
                look.remove(message)

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert (bus.depth(), bus.depth(bus.failed_queue)) == (3, 2)
    assert site.command("failed", "replay", "--all").code == 0
    with site.watching() as watch, site.running():

        def all_told() -> bool:
            watch.poll()
            return len(watch.results) == 5

        wait_until(all_told, 60, "five results")
        wait_until(lambda: bus.depth() == 0, what="the end of the work")
    assert {body["status"] for _, body in watch.results} == {"published"}
    assert Counter(body["nvr"] for _, body in watch.results)[builds[2]["nvr"]] == 2
    versions = sorted(release.version for release in site.registry.releases("community", "otter-cache"))
    assert versions == ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
    assert bus.depth(bus.failed_queue) == 0


def test_a_listing_that_is_killed_in_the_middle_gives_everything_back(site, bus, proxy, through):
    fill_with(bus, 600)
    proxy.catch(CONSUME, passed_on=True)
    with command(site, through, "failed", "list") as listing:
        wait_until(lambda: bus.depth(bus.failed_queue) < 600, 60, "messages in hand")
        listing.kill()
        listing.wait()
    all_back(bus, 600)
    assert sorted(ids_left(bus)) == sorted(f"id-{number}" for number in range(600))


def test_listings_and_replays_at_the_same_time_send_each_message_once(site, bus):
    fill_with(bus, 60)
    with (
        command(site, bus.url, "failed", "replay", "--all", "--json") as one,
        command(site, bus.url, "failed", "replay", "--all", "--json") as other,
        command(site, bus.url, "failed", "list", "--json") as listing,
    ):
        done = []
        for process in (one, other, listing):
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            done.append(json.loads(out))
    assert len(done[0]) + len(done[1]) == 60
    assert len(done[2]) in range(61)
    assert ids(bus.take_all(bus.queue)) == Counter({f"id-{number}": 1 for number in range(60)})
    assert bus.depth(bus.failed_queue) == 0


def test_a_replay_whose_connection_is_cut_says_what_it_did_and_loses_nothing(site, bus, proxy, through):
    fill_with(bus, 200)
    caught = proxy.catch(b"build-120").caught
    with command(site, through, "failed", "replay", "--all", "--json") as replay:
        assert caught.wait(60)
        proxy.cut()
        out, err = replay.communicate(timeout=60)
    assert replay.returncode == 75
    assert "BrokerUnavailable" in err
    assert "120 messages replayed, 80 of 200 in the queue not reached" in err
    assert "Traceback" not in err
    assert [one["id"] for one in json.loads(out)] == [f"id-{number}" for number in range(120)]
    all_back(bus, 80)
    sent = ids(bus.take_all(bus.queue))
    assert set(sent) | set(ids_left(bus)) == {f"id-{number}" for number in range(200)}
    assert sent.total() in (120, 121)


def test_a_look_whose_connection_is_cut_changes_nothing(bus, proxy, through):
    fill_with(bus, 300)
    queue = failed_queue_of(Bus(through))

    def cut(number: int, _of: int) -> None:
        if number == 100:
            proxy.cut()

    with pytest.raises(BrokerUnavailable):
        queue.records(EVERYTHING, cut)
    all_back(bus, 300)
    assert sorted(ids_left(bus)) == sorted(f"id-{number}" for number in range(300))


def test_a_discard_whose_connection_is_cut_destroys_nothing_but_what_it_was_told_to(bus, proxy, through):
    fill_with(bus, 100)
    queue = failed_queue_of(Bus(through))
    chosen = FailureSelection(nvrs=("build-?-*",))

    def cut(number: int, _of: int) -> None:
        if number == 50:
            proxy.cut()

    with pytest.raises(BrokerUnavailable):
        list(queue.discard(chosen, cut))
    wait_until(lambda: bus.depth(bus.failed_queue) >= 90, what="the rest to be back")
    left = [one.id for one in failed_queue_of(bus).discard(chosen)]
    assert left == [f"id-{number}" for number in range(10 - len(left), 10)], "what was destroyed came first"
    assert sorted(ids_left(bus)) == sorted(f"id-{number}" for number in range(10, 100))


def test_a_message_that_killed_workers_can_still_wait_for_a_retry_after_its_replay(amqp_url):
    """The broker takes x-death for the message's own history: it would drop it on its way back."""
    delay = RetryDelay("100ms", 0.1)
    bus = Bus(amqp_url).set_up(delays=(delay,))
    bus.publish(build_body(7), message_id="killer", delivery_mode=2)
    for _ in range(21):
        with bus.channel() as channel:
            wait_until(lambda channel=channel: channel.basic_get(bus.queue)[0], what="the next delivery")
    wait_until(lambda: bus.depth(bus.failed_queue) == 1, what="the dead letter")
    with Replay(where(bus.url), bus.queue) as replay:
        assert [one.error for one in failed_queue_of(bus).replay(EVERYTHING, replay)] == ["DeadLettered"]
    (replayed,) = bus.take(bus.queue, 1)
    waiting = copies.waiting_copy(
        read(replayed.properties, replayed.body, QUEUE).delivery, KojiError("Koji is away."), None, queue=QUEUE
    )
    bus.publish(
        replayed.body, exchange="", topic=retry_queue(QUEUE, delay), headers=waiting.headers, message_id="killer"
    )
    (again,) = bus.take(bus.queue, 1)
    assert again.headers["omps-attempt"] == 2
    assert datetime.fromisoformat(again.headers["omps-replayed-at"]) <= datetime.now(timezone.utc)
