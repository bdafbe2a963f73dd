# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal

import pytest
from click.testing import CliRunner

from omps_worker.bootstrap import Site
from omps_worker.broker_site import BrokerSite
from omps_worker.cli import main
from omps_worker.cli.interrupts import Interrupts
from omps_worker.configuration.settings import units


def sent(interrupts: Interrupts, number: signal.Signals, times: int, done: list[str]) -> None:
    with interrupts.uninterrupted():
        for _ in range(times):
            signal.raise_signal(number)
        done.append("whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_what_is_done_whole_and_a_second_one_does_not(number):
    done: list[str] = []
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        sent(interrupts, number, 1, done)
    assert done == ["whole"]
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        sent(interrupts, number, 2, done)
    assert done == ["whole"]


def test_outside_of_that_it_comes_at_once():
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_the_handlers_of_before_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["failed", "replay", "--all"], "0 messages replayed"),
        (["failed", "discard", "--all", "--yes"], "0 messages discarded"),
        (["failed", "export", "kept"], "0 messages exported"),
        (["replay", __file__], "sent 0 messages"),
        (["catch-up", "--since", "1d"], "0 builds checked, 0 sent"),
    ],
)
def test_what_is_interrupted_before_it_began_says_that_nothing_was_done(monkeypatch, number, words, told):
    for site in (BrokerSite, Site):
        monkeypatch.setattr(site, "from_file", lambda _path: signal.raise_signal(number))
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 1
    assert f"ended early: {told}" in ran.output


def test_so_does_what_is_interrupted_while_its_options_are_read(monkeypatch):
    monkeypatch.setattr(units.Duration, "parse", lambda _text: signal.raise_signal(signal.SIGTERM))
    ran = CliRunner().invoke(main, ["failed", "replay", "--older-than", "1d"])
    assert (ran.exit_code, ran.output.count("ended early: 0 messages replayed")) == (1, 1)


def test_so_does_what_is_interrupted_while_it_connects(monkeypatch):
    class Connecting:
        def failed_queue(self, *_: object) -> None:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BrokerSite, "from_file", lambda _path: Connecting())
    ran = CliRunner().invoke(main, ["failed", "replay", "--all"])
    assert ran.exit_code == 1
    assert ran.output.count("ended early: 0 messages replayed") == 1
