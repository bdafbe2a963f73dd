# SPDX-License-Identifier: GPL-3.0-or-later
"""Several workers on one queue: they share the work, and none of it is done twice, whoever stops and when."""

from __future__ import annotations

import signal
import threading

import pytest

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.books import COMPONENT, PACKAGE, otter
from tests.support.site import edit
from tests.support.waiting import wait_until


def builds_of(site, count):
    return [site.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(count)]


def test_two_replicas_with_the_same_message_make_one_release(quick, crew, books):
    (build,) = builds_of(quick, 1)
    # Each takes one message, so that the two copies meet in different processes.
    edit(quick.config, "[consumer_config]\n", "[consumer_config]\nconcurrency = 1\nprefetch = 1\n")
    held = quick.koji.faults.add(Fault("GET /kojiroot", hold=threading.Event(), times=2))
    crew.start()
    crew.start()
    quick.publish(*[quick.koji.message(build)] * 2)
    wait_until(lambda: quick.koji.faults.fired(held) == 2, 30, "both to work on it")
    held.hold.set()
    wait_until(lambda: len(books.statuses()) >= 2, 40, "both outcomes")
    books.wait_until_idle()
    crew.stop_all()
    assert sorted(set(books.statuses()) - {"retrying"}) == ["published", "unchanged"]
    books.balance([build])


def test_rolling_restarts_with_a_backlog_lose_nothing_and_repeat_nothing(quick, crew, books):
    builds = builds_of(quick, 100)
    old = [crew.start(), crew.start()]
    quick.publish(*map(quick.koji.message, builds))
    for worker, done in zip(old, (10, 50), strict=True):
        books.wait_for("published", done, 60)
        crew.stop(worker)
        crew.start()
    books.wait_for("published", len(builds), 90)
    books.wait_until_idle()
    crew.stop_all()
    assert sorted(books.statuses()) == ["published"] * len(builds), "who stops finishes what is in hand"
    books.balance(builds)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_in_the_middle_of_a_push_ends_the_worker_at_once(quick, crew, books, second):
    (build,) = builds_of(quick, 1)
    edit(quick.config, 'timeout = "1500ms"\n\n[consumer_config.organizations.community]', 'timeout = "10s"\n\n'
         "[consumer_config.organizations.community]")  # fmt: skip
    held = quick.registry.faults.add(Fault("POST /cnr/", hold_answer=threading.Event()))
    worker = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.registry.releases("community", PACKAGE), 30, "the release")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping: 1 message(s) in flight" in quick.log, 20, "the worker to stop")
    worker.send_signal(second)
    assert worker.wait(5) == 1
    held.hold_answer.set()
    edit(quick.config, 'timeout = "10s"', 'timeout = "1500ms"')
    crew.start()
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])


def test_work_in_flight_is_finished_after_sigterm(quick, crew, books):
    (build,) = builds_of(quick, 1)
    held = quick.registry.faults.add(Fault("POST /cnr/", hold_answer=threading.Event()))
    worker = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.registry.releases("community", PACKAGE), 30, "the release")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping: 1 message(s) in flight" in quick.log, 20, "the worker to stop")
    held.hold_answer.set()
    assert worker.wait(30) == 0
    books.balance([build])


def test_work_past_the_deadline_is_finished_by_another_worker(quick, crew, books):
    (build,) = builds_of(quick, 1)
    edit(quick.config, "[consumer_config]\n", '[consumer_config]\nshutdown_timeout = "200ms"\n')
    held = quick.koji.faults.add(Fault("GET /kojiroot", hold=threading.Event(), drop=True))
    worker = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.koji.faults.fired(held), 30, "the download")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 1
    assert quick.consumers() == 0
    held.hold.set()
    crew.start()
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])
    assert quick.take(QUEUE) == []
