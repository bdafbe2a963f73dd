# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package: one holder at a time over all connections, and nobody looks too early."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.locks import lock as broker_lock
from omps_worker.broker.locks.lock import BrokerLock, BrokerLockWithFallback
from omps_worker.common.errors import BrokerRefused, BrokerUnavailable, PackageBusy
from omps_worker.common.locks.package_lock import ProcessLock
from tests.support.bus import Bus, where
from tests.support.proxy import Proxy
from tests.support.site import edit
from tests.support.waiting import wait_until

REGISTRY = "https://registry.example.com"
ETCD = (REGISTRY, "community", "etcd")
HASH = hashlib.sha256(b"https://registry.example.com/community/etcd").hexdigest()[:32]
LOCK, MARK = f"omps-worker.lock.{HASH}", f"omps-worker.pushing.{HASH}"


@pytest.fixture(autouse=True)
def quick_registries(monkeypatch):
    monkeypatch.setattr(broker_lock, "STORING_SECONDS", 0.2)


@pytest.fixture
def replica(amqp_url):
    """Makes locks, each with a connection of its own."""
    with ExitStack() as made:

        def make(url=amqp_url, push_seconds=1.0, **options):
            return made.enter_context(closing(BrokerLock(where(url), push_seconds, **options)))

        yield make


@pytest.fixture
def bus(amqp_url):
    return Bus(amqp_url)


def exclusive(bus, queue):
    with bus.channel() as channel:
        try:
            channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker as error:
            return error.reply_code == 405
        return False


def missing(bus, queue):
    """Whether the queue is gone; does not prolong its life as a passive declare would."""
    with bus.channel() as channel:
        try:
            channel.queue_purge(queue)
        except ChannelClosedByBroker as error:
            return error.reply_code == 404
        return False


def held(lock):
    with lock.hold(*ETCD):
        return True


def test_the_queues_have_the_names_and_the_nature_of_the_contract(replica, bus):
    with replica(push_seconds=30).hold(*ETCD) as hold:
        assert exclusive(bus, LOCK)
        assert missing(bus, MARK)
        hold.begin_push()
        with bus.channel() as channel:
            channel.queue_declare(MARK, durable=True, arguments={"x-expires": 30_200})
        hold.end_push()
        assert not missing(bus, MARK), "the mark stands until the package is released"
    assert missing(bus, MARK)
    assert missing(bus, LOCK)


def test_a_catalog_has_the_queues_of_its_image_and_a_mark_that_lasts_as_long_as_its_own_registry_may_take(replica, bus):
    key = hashlib.sha256(b"quay.example.com/community/catalog:latest").hexdigest()[:32]
    with replica(push_seconds=30).hold_catalog("quay.example.com/community/catalog:latest", 60.0) as hold:
        assert exclusive(bus, f"omps-worker.lock.{key}")
        hold.begin_push()
        with bus.channel() as channel:
            channel.queue_declare(f"omps-worker.pushing.{key}", durable=True, arguments={"x-expires": 60_200})
        hold.end_push()
    assert missing(bus, f"omps-worker.pushing.{key}")


def test_a_push_leaves_no_error_in_the_log_of_the_broker(replica, shared_rabbit, amqp_url):
    lock = replica()
    with lock.hold(*ETCD) as hold:
        hold.begin_push()
        hold.end_push()
    lock.close()
    vhost = amqp_url.rpartition("/")[2]

    def logged():
        files = (shared_rabbit.node.directory / "log").glob("*.log")
        lines = "".join(path.read_text(errors="replace") for path in files).splitlines()
        return [line for line in lines if f"'{vhost}'" in line]

    wait_until(lambda: any("closing AMQP connection" in line for line in logged()), 30, "the end of the log")
    assert [line for line in logged() if "[error]" in line or "exception" in line] == []


def test_a_package_that_another_replica_holds_is_waited_for(replica):
    one, other = replica(), replica()
    order = []
    with ThreadPoolExecutor() as threads:
        with one.hold(*ETCD):
            waiting = threads.submit(lambda: (held(other), order.append("other")))
            order.append("one")
        waiting.result(10)
    assert order == ["one", "other"]


def test_a_package_that_is_not_free_in_time_is_left_for_later_and_others_are_not(replica):
    one, other = replica(), replica(patience=0.3)
    with one.hold(*ETCD), pytest.raises(PackageBusy, match="community/etcd") as caught:
        held(other)
    assert caught.value.transient
    assert not caught.value.counts
    with one.hold(*ETCD), other.hold(REGISTRY, "community", "prometheus"):
        pass
    assert held(other)


def test_threads_that_share_a_connection_wait_for_each_other_too(replica):
    lock = replica(patience=0.3)
    with ThreadPoolExecutor() as threads, lock.hold(*ETCD), pytest.raises(PackageBusy):
        threads.submit(held, lock).result(10)


def test_forty_holders_of_three_replicas_get_their_turn_one_after_the_other(replica):
    replicas = [replica() for _ in range(3)]
    inside, most, guard = 0, 0, threading.Lock()

    def push(number):
        nonlocal inside, most
        with replicas[number % 3].hold(*ETCD) as hold:
            with guard:
                inside += 1
                most = max(most, inside)
            hold.begin_push()
            hold.end_push()
            with guard:
                inside -= 1
        return number

    with ThreadPoolExecutor(40) as threads:
        assert sorted(threads.map(push, range(40))) == list(range(40))
    assert most == 1


def test_a_push_whose_outcome_is_not_known_is_waited_out(replica, bus):
    one, other = replica(), replica()
    with one.hold(*ETCD) as hold:
        deadline = hold.begin_push()
    begun = time.monotonic()
    assert exclusive(bus, LOCK) is False
    with other.hold(*ETCD):
        assert time.monotonic() > deadline, "whoever comes next looks only when the push must be over"
        assert missing(bus, MARK)
    assert time.monotonic() - begun < 5, "and being asked about again and again does not prolong the mark"


def test_a_mark_that_outlasts_everybodys_patience_keeps_the_package_busy_and_then_goes(replica, bus):
    one, other = replica(push_seconds=1.5), replica(patience=0.2)
    with one.hold(*ETCD) as hold:
        hold.begin_push()
    with pytest.raises(PackageBusy):
        held(other)
    assert missing(bus, LOCK), "who gave up holds nothing"
    wait_until(lambda: missing(bus, MARK), what="the end of the mark")
    assert held(other)


def test_a_holder_that_took_too_long_to_get_ready_does_not_push(replica, bus):
    with replica(push_seconds=0.05).hold(*ETCD) as hold:
        latest = time.monotonic() + 0.15
        wait_until(lambda: time.monotonic() > latest)
        with pytest.raises(PackageBusy, match="nothing was pushed"):
            hold.begin_push()
        assert missing(bus, MARK)


def test_a_holder_whose_connection_is_cut_loses_the_package_and_does_not_push(replica, bus, shared_rabbit):
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        one, other = replica(through), replica()
        with one.hold(*ETCD) as hold:
            proxy.cut()
            with other.hold(*ETCD):
                with pytest.raises(BrokerUnavailable, match="nothing was pushed") as caught:
                    hold.begin_push()
                assert caught.value.transient
        assert held(one), "the next time there is a new connection"


def test_a_holder_that_is_cut_off_after_its_push_does_no_harm_to_the_next_one(replica, bus, shared_rabbit):
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        one, other = replica(through), replica()
        with one.hold(*ETCD) as hold:
            deadline = hold.begin_push()
            proxy.cut()
            with other.hold(*ETCD) as next_hold:
                assert time.monotonic() > deadline
                next_hold.begin_push()
                hold.end_push()
                hold.release()
                assert exclusive(bus, LOCK)
                assert not missing(bus, MARK)


def test_a_broker_that_falls_silent_is_not_waited_for_before_a_push(replica, bus, shared_rabbit):
    with Proxy(shared_rabbit.node.port) as proxy:
        through = bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/") + "?heartbeat=2"
        one = replica(through, answer_seconds=0.5)
        with one.hold(*ETCD) as hold:
            proxy.silent.set()
            with pytest.raises(BrokerUnavailable, match=r"has not answered|was lost"):
                hold.begin_push()
        proxy.silent.clear()
        wait_until(lambda: exclusive(bus, LOCK) is False, 20, "the end of the doubtful connection")

        def again():
            try:
                return held(one)
            except BrokerUnavailable:
                return False

        wait_until(again, 20, "a new connection")


def test_without_a_broker_there_is_no_lock_and_the_error_says_so(replica):
    with Proxy(1) as nobody:
        lock = replica(f"amqp://guest:guest@127.0.0.1:{nobody.port}/", answer_seconds=0.5)
        with pytest.raises(BrokerUnavailable) as caught:
            held(lock)
        assert caught.value.transient
        assert nobody.accepted > 1, "it was tried more than once"


def test_closing_lets_go_of_everything(replica, bus):
    lock = replica()
    with lock.hold(*ETCD) as hold:
        lock.close()
        assert missing(bus, LOCK)
        with pytest.raises(BrokerUnavailable):
            hold.begin_push()
    with pytest.raises(BrokerUnavailable, match="closed"):
        held(lock)


def test_a_broker_that_restarts_ends_every_hold_and_forgets_no_push(own_rabbit):
    bus = Bus(own_rabbit.amqp_url)
    with ExitStack() as made:
        slow, quick, other = (made.enter_context(closing(BrokerLock(where(bus.url), push))) for push in (60, 1.0, 1.0))
        with slow.hold(REGISTRY, "community", "prometheus") as before, quick.hold(*ETCD) as hold:
            hold.begin_push()
            own_rabbit.restart()
            assert not missing(bus, MARK)
            with pytest.raises(BrokerUnavailable):
                before.begin_push()
        assert held(other)
        assert missing(bus, MARK)


# Those whom the broker does not let lock.


@pytest.fixture
def restricted_url(amqp_url, shared_rabbit):
    """A user who may use what is there, and declare nothing."""
    vhost = pika.URLParameters(amqp_url).virtual_host
    shared_rabbit.node.add_user(f"user-of-{vhost}", "pw", vhost, configure="^$", write=".*", read=".*")
    return shared_rabbit.node.url(vhost, user=f"user-of-{vhost}", password="pw")


def test_a_user_who_may_not_declare_queues_is_told_what_to_do(replica, restricted_url):
    with pytest.raises(BrokerRefused, match='lock = "process"') as caught:
        held(replica(restricted_url))
    assert caught.value.transient, "while the worker runs, the message is worth keeping"


def test_run_refuses_to_start_where_it_may_not_lock_and_runs_with_the_lock_of_the_process(site, restricted_url):
    Bus(site.amqp_url).set_up(delays=())
    edit(site.config, 'topic_prefix = "', 'passive_declares = true\ntopic_prefix = "')
    edit(site.config, "[consumer_config.koji]", '[consumer_config.retry]\ndelays = ["1s"]\n[consumer_config.koji]')
    with site.channel() as channel:
        channel.queue_declare("omps-worker.retry.1s", durable=True)
    site.config.write_text(site.config.read_text().replace(site.amqp_url, restricted_url))
    ran = site.command("run")
    assert ran.code == 2
    assert 'lock = "process"' in ran.err
    ran = site.command("check", "--json")
    assert ran.code == 2
    assert any('lock = "process"' in finding["detail"] for finding in ran.json)
    edit(site.config, "[consumer_config]", '[consumer_config]\nlock = "process"')
    assert site.command("check").code == 0
    with site.running():
        pass


# Work by hand.


def test_by_hand_the_brokers_lock_counts_where_there_is_a_broker(replica, bus):
    with BrokerLockWithFallback(replica(), ProcessLock()).hold(*ETCD):
        assert exclusive(bus, LOCK)


def test_by_hand_a_broker_that_is_away_is_a_warning(replica, caplog):
    def warnings():
        return [message for message in caplog.messages if message.startswith("writing to ")]

    with Proxy(1) as nobody:
        first = replica(f"amqp://guest:guest@127.0.0.1:{nobody.port}/")
        begun = time.monotonic()
        lock = BrokerLockWithFallback(first, ProcessLock())
        with lock.hold(*ETCD) as hold:
            hold.begin_push()
        assert time.monotonic() - begun < 5
        (warning,) = warnings()
        assert "without a lock against other processes" in warning
        assert "two contents may get the same version" in warning
        for _ in range(2):
            with lock.hold_catalog("registry.example.com/community/catalog:latest", 1):
                pass
        (_, warning) = warnings()
        assert "writing to registry.example.com/community/catalog:latest without a lock" in warning
        assert "same version" not in warning, "in a catalog a bundle has one content, and updates get lost"
        assert "the update of one of the two may be lost" in warning


def test_by_hand_a_broker_that_refuses_is_an_error(replica, shared_rabbit):
    first = replica(shared_rabbit.node.url("/", password="wrong"))
    with pytest.raises(BrokerRefused), BrokerLockWithFallback(first, ProcessLock()).hold(*ETCD):
        pass
