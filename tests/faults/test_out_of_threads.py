# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that gives no more threads: good builds are released all the same, or later, and ``/ready`` says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from omps_worker.cli.common import TRANSIENT
from tests.support.books import COMPONENT, otter
from tests.support.cramped import Room
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit
from tests.support.waiting import wait_until

BUILDS = 12


@pytest.fixture(autouse=True)
def port(quick):
    port = free_port()
    edit(quick.config, "[consumer_config]", f"[monitoring]\nport = {port}\n[consumer_config]\nconcurrency = 8")
    return port


@pytest.fixture
def builds(quick):
    return [
        quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(1, BUILDS + 1)
    ]


@contextmanager
def worker_in(room: Room, site) -> Iterator[subprocess.Popen[str]]:
    """``omps-worker run`` in the room."""
    for file in site.directory.rglob("*"):
        if file.is_file():
            room.let_in(file)
    command = [sys.executable, "-m", "omps_worker", "--config", str(site.config), "run"]
    environment = {name: value for name, value in os.environ.items() if name != "OMPS_WORKER_AMQP_URL"}
    with (site.directory / "worker.log").open("a") as log:
        worker = room.start(command, stdout=log, stderr=log, env=environment)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def end(worker):
    worker.terminate()
    assert worker.wait(40) == 0


def test_builds_are_released_though_no_thread_can_be_started_any_more(quick, books, port, builds):
    room, seen = Room(), Seen(port)
    with worker_in(room, quick) as worker:
        wait_until(lambda: seen.ready() or worker.poll() is not None, 40, "a worker that is ready")
        assert worker.poll() is None, quick.log
        with room.taken():
            wait_until(lambda: seen.misses("machine"), 10, "the shortage to be told")
            assert seen.live(), "a restart would not help"
            quick.publish(*map(quick.koji.message, builds))
            books.wait_for("published", BUILDS)
            assert worker.poll() is None, quick.log
        wait_until(seen.ready, 10, "the worker to be ready again")
        end(worker)
    assert "Traceback" not in quick.log
    books.balance(builds)


def test_a_worker_that_finds_few_threads_works_with_those_and_says_so(quick, books, builds):
    room = Room()
    # Enough for the port, the questions, the lock, the publisher and the calls, and not for eight more.
    with room.taken(leave=14), worker_in(room, quick) as worker:
        wait_until(lambda: quick.consumers() or worker.poll() is not None, 40, "a worker that consumes")
        assert worker.poll() is None, quick.log
        quick.publish(*map(quick.koji.message, builds))
        books.wait_for("published", BUILDS)
        assert "of 8 threads work" in quick.log
        end(worker)
    books.balance(builds)


def test_a_worker_that_cannot_even_start_says_why_and_may_be_started_again(quick, books, port, builds):
    room = Room()
    with room.taken(leave=3), worker_in(room, quick) as worker:
        assert worker.wait(40) == TRANSIENT, quick.log
    assert "No further thread can be started" in quick.log
    assert "Traceback" not in quick.log
    with worker_in(room, quick) as worker:
        wait_until(Seen(port).ready, 40, "a worker that is ready")
        quick.publish(*map(quick.koji.message, builds))
        books.wait_for("published", BUILDS)
        end(worker)
    books.balance(builds)
