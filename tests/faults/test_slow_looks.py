# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the failed queue over a slow link, beside others who take from it, and at a broker that hands over nothing.

Each sees everything that was there when it began, however long that takes, or says that it did not.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from omps_worker.broker.dead_letters import scan as looks
from omps_worker.broker.dead_letters.replay import Replay
from omps_worker.common.errors import BrokerUnavailable
from omps_worker.messages.dead_letter import FailureSelection
from tests.support.bus import Bus, build_body, where
from tests.support.parked import failed_queue_of, fill, fill_with, parked
from tests.support.proxy import LateChannel, Slowness
from tests.support.waiting import wait_until

EVERYTHING = FailureSelection()
DELIVERY = b"\x00\x3c\x00\x3c"
"""How AMQP's method basic.deliver begins."""

LATE = [0.7, 1.3, 4.0]
"""Seconds: less and more than a look waits before it asks whether something is on its way."""


@pytest.fixture
def bus(site) -> Bus:
    return Bus(site.amqp_url).set_up()


@contextmanager
def another_consumer(bus: Bus, prefetch: int) -> Iterator[None]:
    """Somebody who has ``prefetch`` messages in hand and does not let go."""
    with bus.channel() as channel:
        before = bus.depth(bus.failed_queue)
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(bus.failed_queue, lambda *_: None)
        wait_until(lambda: bus.depth(bus.failed_queue) == before - prefetch, what="messages in somebody's hand")
        yield


def ids(found) -> list[str]:
    return [one.id for one, _ in found]


def numbered(*numbers: int) -> list[str]:
    return [f"id-{number}" for number in numbers]


@pytest.mark.parametrize("seconds", LATE)
@pytest.mark.parametrize(
    "command",
    [
        ["list"], ["show", "id-0", "id-4"], ["replay", "--all", "--dry-run"], ["replay", "--all"],
        ["discard", "--all", "--dry-run", "--yes"], ["discard", "--all", "--yes"], ["export"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_sees_everything_though_the_first_delivery_is_late(
    site, bus, proxy, through, tmp_path, command, seconds
):
    fill_with(bus, 5)
    proxy.late_channel = LateChannel(DELIVERY, seconds)
    arguments = [*command, str(tmp_path / "kept")] if command == ["export"] else command
    ran = site.command("failed", *arguments, "--json", environment={"OMPS_WORKER_AMQP_URL": through})
    assert (ran.code, ran.err) == (0, "")
    assert [one["id"] for one in ran.json] == (numbered(0, 4) if command[0] == "show" else numbered(*range(5)))
    gone = command in (["replay", "--all"], ["discard", "--all", "--yes"])
    assert bus.depth(bus.failed_queue) == (0 if gone else 5)


def test_a_look_over_a_link_that_dribbles_sees_everything(bus, proxy, through):
    fill(bus, [(parked(number), build_body(number, filler="x" * 300_000)) for number in range(5)])
    proxy.slowness = Slowness(DELIVERY, bytes_per_second=250_000)
    assert ids(failed_queue_of(Bus(through)).records(EVERYTHING)) == numbered(*range(5))


def test_a_link_on_which_a_frame_takes_longer_than_the_heartbeats_is_alive(bus, proxy, through):
    """With this heartbeat a connection is dead after seven seconds of silence; here a frame takes more than eight."""
    fill(bus, [(parked(0), build_body(0, filler="x" * 250_000))])
    proxy.slowness = Slowness(DELIVERY, bytes_per_second=15_000)
    found = failed_queue_of(Bus(f"{through}?heartbeat=2")).records(EVERYTHING)
    assert ids(found) == numbered(0)


def test_a_link_on_which_nothing_comes_any_more_ends_the_look_with_try_later(site, bus, proxy, through):
    fill_with(bus, 5)
    proxy.slowness = Slowness(DELIVERY, 300)
    ran = site.command("failed", "list", environment={"OMPS_WORKER_AMQP_URL": f"{through}?heartbeat=1"})
    assert (ran.code, ran.out) == (75, "")
    assert "BrokerUnavailable" in ran.err
    wait_until(lambda: bus.depth(bus.failed_queue) == 5, what="everything to be back")


def test_large_messages_are_on_their_way_one_by_one(bus, monkeypatch):
    monkeypatch.setattr(looks, "WINDOW_BYTES", 1_000_000)
    fill(bus, [(parked(number), build_body(number, filler="x" * 700_000)) for number in range(6)])
    with failed_queue_of(bus).scan(EVERYTHING) as look:
        for number, message in enumerate(look, start=1):
            assert message.parked.id == f"id-{number - 1}"
            assert bus.depth(bus.failed_queue) == 6 - number
    assert ids(failed_queue_of(bus).records(EVERYTHING)) == numbered(*range(6))


def test_a_look_of_few_channels_sees_everything_all_the_same(bus, monkeypatch):
    monkeypatch.setattr(looks, "WINDOW_BYTES", 1)
    monkeypatch.setattr(looks, "MOST_WINDOWS", 4)
    fill_with(bus, 50)
    assert ids(failed_queue_of(bus).records(EVERYTHING)) == numbered(*range(50))


@pytest.mark.parametrize("command", [["list"], ["replay", "--all", "--dry-run"], ["replay", "--all"]], ids=" ".join)
def test_what_somebody_else_has_in_hand_is_told_and_another_exit_code(site, bus, command):
    fill_with(bus, 10)
    with another_consumer(bus, 4):
        ran = site.command("failed", *command, "--json")
        assert ran.code == 75
        assert "Another process is taking messages" in ran.err
        assert [one["id"] for one in ran.json] == numbered(*range(4, 10))


def test_an_id_that_somebody_else_has_in_hand_is_not_said_to_be_unknown(site, bus):
    fill_with(bus, 4)
    with another_consumer(bus, 2):
        ran = site.command("failed", "show", "id-0", "id-3")
    assert ran.code == 75
    assert "none of the messages that could be read has the ID id-0" in ran.err
    assert "id         id-3" in ran.out


@pytest.mark.parametrize("take_turns", [True, False])
def test_what_is_taken_in_the_middle_of_a_look_is_counted_and_told(bus, monkeypatch, take_turns):
    monkeypatch.setattr(looks, "TAKEN_SECONDS", 0.5)
    fill_with(bus, 10)
    notes: list[str] = []
    queue = failed_queue_of(bus, take_turns=take_turns, notice=notes.append)
    with queue.scan(EVERYTHING) as look:
        seen = iter(look)
        found = [next(seen).parked.id]
        with another_consumer(bus, 6):
            found += [message.parked.id for message in seen]
    assert len(found) == 4
    assert (look.seen, look.missing) == (4, 6)
    assert queue.incomplete is not None
    assert notes == [queue.incomplete]
    assert "6 of 10 message(s)" in notes[0]
    assert len(failed_queue_of(bus).records(EVERYTHING)) == 10


def test_what_is_destroyed_in_the_middle_of_a_look_is_told_too(bus, monkeypatch):
    monkeypatch.setattr(looks, "TAKEN_SECONDS", 0.5)
    fill_with(bus, 10)
    queue = failed_queue_of(bus)
    with Replay(where(bus.url), bus.queue) as replay:
        sending = queue.replay(EVERYTHING, replay)
        first = next(sending).id
        with bus.channel() as channel:
            channel.queue_purge(bus.failed_queue)
        sent = [first, *(one.id for one in sending)]
    assert bus.depth() == len(sent) < 10
    assert queue.incomplete is not None
    assert f"{10 - len(sent)} of 10" in queue.incomplete


def test_a_broker_that_hands_over_nothing_is_not_waited_for_for_ever(amqp_url, monkeypatch):
    monkeypatch.setattr(looks, "PATIENCE_SECONDS", 1.5)
    bus = Bus(amqp_url)
    only_one = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    with bus.channel() as channel:
        channel.queue_declare(bus.failed_queue, durable=True, arguments=only_one)
    fill_with(bus, 4)
    with another_consumer(bus, 1), pytest.raises(BrokerUnavailable, match=r"3 message\(s\) are parked"):
        failed_queue_of(bus, take_turns=False).records(EVERYTHING)
    wait_until(lambda: bus.depth(bus.failed_queue) == 4, what="everything to be back")


def test_a_look_right_after_one_that_was_killed_sees_everything(site, bus):
    fill_with(bus, 300)
    for _ in range(3):
        listing = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "--config", str(site.config), "failed", "list"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: bus.depth(bus.failed_queue) < 300, 30, "messages in hand")
        listing.send_signal(signal.SIGKILL)
        ran = site.command("failed", "list", "--json")
        listing.wait()
        assert (ran.code, len(json.loads(ran.out))) == (0, 300)
