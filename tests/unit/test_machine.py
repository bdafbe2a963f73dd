# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine gives, and how it is named when it gives no more. That it does so really: tests/faults."""

from __future__ import annotations

import errno
import logging
import threading

import pytest

from omps_worker.common import machine
from omps_worker.common.errors import ResourcesExhausted, UnexpectedError, unexpected_error
from omps_worker.common.machine import KEPT_IDLE_THREADS, AbandonableCalls, ThreadPool
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("exception", "words"),
    [
        (RuntimeError("can't start new thread"), "pids"),
        (MemoryError(), "memory"),
        (OSError(errno.EMFILE, "Too many open files"), "LimitNOFILE"),
        (OSError(errno.ENFILE, "Too many open files in system"), "LimitNOFILE"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "processes"),
    ],
)
def test_what_the_machine_lacks_is_nothing_against_the_work(exception, words):
    error = unexpected_error(exception)
    assert isinstance(error, ResourcesExhausted)
    assert error.transient
    assert words in error.message


@pytest.mark.parametrize("exception", [RuntimeError("threads can only be started once"), OSError("odd"), ValueError()])
def test_nothing_else_is_taken_for_that(exception):
    assert isinstance(unexpected_error(exception), UnexpectedError)


def test_a_thread_that_was_started_before_is_a_fault_of_ours():
    thread = threading.Thread(target=bool)
    machine.start(thread)
    with pytest.raises(RuntimeError, match="once"):
        machine.start(thread)
    thread.join()


def test_a_machine_in_order_has_no_trouble():
    assert machine.trouble() is None


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")


def test_a_place_without_room_is_told_without_its_path(monkeypatch):
    monkeypatch.setattr(machine.tempfile, "TemporaryFile", full)
    assert machine.trouble() == "Temporary files cannot be written where TMPDIR points: No space left on device."
    assert "where TMPDIR points: No space" in unexpected_error(OSError(errno.ENOSPC, "", "/secret/place")).message


def test_python_that_finds_no_place_at_all_names_none(monkeypatch):
    def none(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/secret/place']")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", none)
    monkeypatch.setattr(machine.tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/somewhere")
    assert "/secret" not in (machine.trouble() or "/secret")
    assert machine.temporary_place() == "/somewhere"


@pytest.mark.parametrize(
    ("error", "stored", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), False, True),
        (OSError(errno.EMFILE, "Too many open files"), False, True),
        (PermissionError(errno.EACCES, "Permission denied"), True, True),
        (PermissionError(errno.EACCES, "Permission denied"), False, False),
        (ValueError(), True, False),
    ],
)
def test_what_the_machine_lacks_has_one_line_in_the_log_and_a_riddle_its_traceback(caplog, error, stored, told):
    machine.log_failure(logging.getLogger("here"), error, "the work on %s ended", "a build", stored=stored)
    (record,) = caplog.records
    assert record.getMessage().startswith("the work on a build ended")
    assert (record.exc_info is None) is told


def test_threads_work_until_there_is_nothing_left_to_do():
    threads, done = ThreadPool(3, "busy").begin(), threading.Semaphore(0)
    assert sum(thread.name.startswith("busy-") for thread in threading.enumerate()) == 3
    for _ in range(10):
        threads.submit(done.release)
    threads.close()
    for _ in range(10):
        assert done.acquire(timeout=10)
    wait_until(lambda: not any(thread.name.startswith("busy-") for thread in threading.enumerate()))


def test_threads_may_be_started_as_they_are_needed():
    def running() -> int:
        return sum(thread.name.startswith("some-") for thread in threading.enumerate())

    threads, gate, begun = ThreadPool(3, "some", as_needed=True).begin(), threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        gate.wait(10)

    assert running() == 1
    for expected in (1, 2, 3):
        threads.submit(work)
        assert begun.acquire(timeout=10)
        assert running() == expected
    threads.submit(work)
    assert running() == 3
    gate.set()
    assert begun.acquire(timeout=10)
    threads.close()
    wait_until(lambda: running() == 0)


def test_helpers_give_what_a_function_returns_and_raises():
    helpers = AbandonableCalls("help")
    assert helpers.call(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        helpers.call(lambda: 1 // 0, 10)


def test_a_function_that_takes_too_long_is_left_to_itself_and_holds_up_nobody():
    helpers, gate = AbandonableCalls("slow"), threading.Event()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            helpers.call(gate.wait, 0.01)
    assert helpers.call(lambda: "at once", 10) == "at once"
    gate.set()

    def left() -> int:
        return sum(thread.name == "slow" for thread in threading.enumerate())

    wait_until(lambda: left() <= KEPT_IDLE_THREADS)
    assert helpers.call(lambda: "still", 10) == "still"
    assert left() == KEPT_IDLE_THREADS, "kept for the next"
