# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told: a real socket hears it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omps_worker.monitoring.systemd import SystemdNotifier
from tests.support.systemd import Systemd, listening
from tests.support.waiting import wait_until


@pytest.fixture
def systemd(tmp_path) -> Iterator[Systemd]:
    with listening(str(tmp_path / "notify")) as made:
        yield made


def alive() -> list[str]:
    return []


def test_it_is_told_of_the_beginning_of_life_and_of_the_end(systemd):
    with SystemdNotifier(alive, systemd.environment()):
        systemd.wait_for_a_sign()
        systemd.wait_for_a_sign()
    systemd.wait_for("STOPPING=1")
    assert systemd.heard[0] == "READY=1"
    assert systemd.heard[-1] == "STOPPING=1"


def test_an_abstract_socket_is_heard_as_well(tmp_path):
    with listening(f"@omps-worker-{os.getpid()}-{tmp_path.name}") as systemd:
        with SystemdNotifier(alive, systemd.environment(None)):
            systemd.wait_for("READY=1")
        systemd.wait_for("STOPPING=1")


def test_who_is_not_well_gives_no_sign_until_he_is(systemd, caplog):
    reasons: list[str] = []
    asked: list[int] = []

    def vital() -> list[str]:
        asked.append(systemd.signs)
        return list(reasons)

    with SystemdNotifier(vital, systemd.environment()):
        systemd.wait_for_a_sign()
        reasons.append("the loop has not turned for 99 s")
        wait_until(lambda: "the loop has not turned for 99 s" in caplog.text, 30)
        asked.clear()
        wait_until(lambda: len(asked) > 6, 30, "twice the time that systemd waits")
        assert len(set(asked[1:])) == 1
        reasons.clear()
        systemd.wait_for_a_sign()
    assert caplog.text.count("no more watchdog notifications") == 1


@pytest.mark.parametrize(
    "environment",
    [{"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}],
)
def test_no_signs_are_given_that_nobody_wants(systemd, environment):
    with SystemdNotifier(alive, systemd.environment(None, **environment)):
        assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    systemd.wait_for("STOPPING=1")
    assert systemd.heard == ["READY=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "relative/socket", "vsock:2:1234"])
def test_without_a_supervisor_nothing_happens(address, caplog):
    with SystemdNotifier(alive, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"}):
        assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    assert caplog.text == ""


def test_a_socket_that_is_gone_does_not_stop_the_service(tmp_path, caplog):
    with SystemdNotifier(alive, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        pass
    assert "cannot send READY=1 to systemd: No such file or directory" in caplog.text


PROGRAM = """
import re, threading
from omps_worker.monitoring.systemd import SystemdNotifier
with SystemdNotifier(list):
    re.match("(a+)+b", "a" * 40) if FREEZE else threading.Event().wait()
"""


@contextmanager
def program(systemd: Systemd, freeze: bool) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **systemd.environment(0.3)}
    text = PROGRAM.replace("FREEZE", str(freeze))
    process = subprocess.Popen([sys.executable, "-c", text], env=environment, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_process_in_which_nothing_goes_on_gives_no_sign_and_tells_where_it_was(systemd):
    """It holds Python's lock, so that no thread of it runs, whatever ``vital`` would say."""
    with program(systemd, freeze=True) as process:
        systemd.wait_for("READY=1")
        wait_until(lambda: processor_seconds(process) > 1.5, 60, "a time that systemd would not wait")
        before = systemd.signs
        wait_until(lambda: processor_seconds(process) > 2.5, 60, "the same again")
        assert systemd.signs == before
        process.send_signal(signal.SIGABRT)
        assert process.wait(30) == -signal.SIGABRT
        assert b"Current thread" in process.stderr.read()


def test_a_process_that_goes_on_again_gives_signs_again(systemd):
    with program(systemd, freeze=False) as process:
        systemd.wait_for_a_sign()
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: " T " in _state(process), 10, "the process to stand still")
        process.send_signal(signal.SIGCONT)
        systemd.wait_for_a_sign()


def processor_seconds(process) -> float:
    """How long it has computed."""
    fields = _state(process).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _state(process) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text()
