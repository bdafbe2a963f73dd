# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal

import pytest

from omps_worker.cli.interrupts import Interrupts


def sent(interrupts: Interrupts, number: signal.Signals, times: int, done: list[str]) -> None:
    with interrupts.whole():
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
