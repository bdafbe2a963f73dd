# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker of a whole site dies, is cut off, or loses queues and exchanges under a worker."""

from __future__ import annotations

import signal
import threading

import pytest

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX
from tests.support.books import COMPONENT, PACKAGE, Books, crew_of, otter
from tests.support.proxy import Proxy
from tests.support.site import edit
from tests.support.waiting import wait_until


def builds_of(site, count):
    return [site.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(count)]


def test_a_broker_that_stops_and_one_that_is_killed_in_the_middle_of_a_push_lose_nothing(lonely):
    books = Books(lonely)
    builds = builds_of(lonely, 4)
    with crew_of(lonely) as crew:
        crew.start()
        # In this order: RabbitMQ 3.10 forgets a queue that was declared moments before a kill -9 and saw no restart.
        for how, part in (("stop", builds[:2]), ("kill", builds[2:])):
            held = lonely.registry.faults.add(Fault("POST /cnr/", hold_answer=threading.Event()))
            lost = lonely.log.count("not consuming, trying again")
            lonely.publish(*map(lonely.koji.message, part))
            wait_until(lambda: lonely.registry.faults.fired(held), 30, "a push")  # noqa: B023
            getattr(lonely.node, how)()
            held.hold_answer.set()
            wait_until(lambda: lonely.log.count("not consuming, trying again") > lost, 30, "the loss")  # noqa: B023
            lonely.node.start()
            books.wait_for("published", builds.index(part[-1]) + 1, 60)
            wait_until(lambda: lonely.consumers() == 1, 40, "one consumer")
            books.wait_until_idle()
        crew.stop_all()
    books.balance(builds)


def test_connections_that_are_cut_in_flight_cost_nothing(quick, crew, books, shared_rabbit):
    builds = builds_of(quick, 3)
    port = shared_rabbit.node.port
    with Proxy(port) as proxy:
        edit(quick.config, f":{port}/", f":{proxy.port}/")
        crew.start()
        for build in builds:
            held = quick.registry.faults.add(Fault("POST /cnr/", hold_answer=threading.Event()))
            quick.publish(quick.koji.message(build))
            wait_until(lambda: quick.registry.faults.fired(held), 30, "the push")  # noqa: B023
            proxy.cut()
            held.hold_answer.set()
            books.wait_for("published", builds.index(build) + 1)
        wait_until(lambda: quick.consumers() == 1, 30, "one consumer")
        books.wait_until_idle()
        crew.stop_all()
    books.balance(builds)


def test_a_queue_that_is_deleted_with_work_in_hand_comes_back(quick, crew, books):
    builds = builds_of(quick, 2)
    crew.start()
    held = quick.registry.faults.add(Fault("POST /cnr/", hold_answer=threading.Event()))
    quick.publish(quick.koji.message(builds[0]))
    wait_until(lambda: quick.registry.releases("community", PACKAGE), 30, "the release")
    with quick.channel() as channel:
        channel.queue_delete(QUEUE)
    held.hold_answer.set()
    wait_until(lambda: quick.consumers() == 1, 30, "the queue and its consumer")
    quick.publish(quick.koji.message(builds[1]))
    books.wait_for("published", 2)
    crew.stop_all()
    books.balance(builds)


def test_results_wait_for_an_exchange_that_is_deleted_while_running(quick, crew, books):
    builds = builds_of(quick, 2)
    edit(quick.config, "topic_prefix", 'publish_exchange = "results"\ntopic_prefix')
    with quick.channel() as channel:
        channel.exchange_declare("results", "topic", durable=True)
        channel.exchange_bind("amq.topic", "results", "#")
    worker = crew.start()
    with quick.channel() as channel:
        channel.exchange_delete("results")
    quick.publish(*map(quick.koji.message, builds))
    wait_until(lambda: "no exchange 'results'" in quick.log, 30, "the log to name the exchange")
    assert worker.poll() is None
    assert books.statuses() == []
    # Frozen, for what comes to the new exchange before it leads to the books is told to nobody.
    worker.send_signal(signal.SIGSTOP)
    with quick.channel() as channel:
        channel.exchange_declare("results", "topic", durable=True)
        channel.exchange_bind("amq.topic", "results", f"{TOPIC_PREFIX}.#")
    worker.send_signal(signal.SIGCONT)
    books.wait_for("published", 2)
    crew.stop_all()
    books.balance(builds)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param('"amq.topic"\n', '"nowhere"\n', "no exchange 'nowhere'", id="missing exchange"),
        pytest.param("arguments = {}", 'arguments = {x-max-length = 5}', "inequivalent arg", id="another queue"),
        pytest.param("guest:guest@", "guest:wrong@", "refuses the login", id="refused login"),
    ],
)  # fmt: skip
def test_a_worker_that_can_never_start_says_why_and_ends_with_2(quick, crew, books, old, new, said):
    crew.stop(crew.start())
    edit(quick.config, old, new)
    worker = crew.begin()
    assert worker.wait(30) == 2
    assert said in quick.log
    assert "Traceback" not in quick.log
    assert "guest:" not in quick.log
