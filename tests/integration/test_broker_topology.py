# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import contextmanager

import pika
import pytest

from omps_worker.broker.queues import inspection
from omps_worker.broker.queues.topology import FAILED_ARGUMENTS, Topology
from omps_worker.common.errors import BrokerRefused
from tests.support.bus import Bus, build_body, topology, where
from tests.support.waiting import wait_until


@contextmanager
def connected(url):
    link = where(url).connect()
    yield link
    link.close()


def declare(url, name, arguments):
    with connected(url) as link:
        link.channel().queue_declare(name, durable=True, arguments=arguments)


def test_the_queues_of_the_contract_are_declared_and_bound(amqp_url, shared_rabbit):
    with connected(amqp_url) as link:
        topology().set_up(link)
        topology().set_up(link)
    bus = Bus(amqp_url)
    bus.publish(build_body())
    assert bus.depth() == 1
    vhost = pika.URLParameters(amqp_url).virtual_host
    listed = shared_rabbit.node.rabbitmqctl("-q", "list_queues", "-p", vhost, "name", "type", "durable", "arguments")
    assert 'x-delivery-limit",20' in listed
    assert 'x-delivery-limit",1000000' in listed
    # Declaring with exactly these arguments succeeds only where they are what the queue has.
    declare(amqp_url, "omps-worker", {
        "x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "omps-worker.failed", "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    })  # fmt: skip
    declare(amqp_url, "omps-worker.failed", {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})


def test_further_arguments_of_the_configuration_are_merged(amqp_url):
    arguments = {**topology().arguments, "x-max-length": 1000}
    with connected(amqp_url) as link:
        Topology("omps-worker", arguments).set_up(link)
    declare(amqp_url, "omps-worker", arguments)


def test_a_parked_message_survives_many_looks(amqp_url):
    bus = Bus(amqp_url).set_up()
    bus.publish(b"parked", exchange="", topic="omps-worker.failed", message_id="looked-at")
    for _ in range(30):
        with connected(amqp_url) as link:
            channel = link.channel()
            method, properties, _ = channel.basic_get("omps-worker.failed")
            assert properties.message_id == "looked-at"
            channel.basic_nack(method.delivery_tag, requeue=True)
    assert bus.depth("omps-worker.failed") == 1


def test_a_message_that_kills_its_consumers_ends_parked(amqp_url):
    bus = Bus(amqp_url).set_up()
    bus.publish(b"poison", message_id="poison")

    def die_with_it():
        with connected(amqp_url) as link:
            return link.channel().basic_get("omps-worker")[0] is None

    wait_until(die_with_it, 60, "the delivery limit")
    (parked,) = bus.parked(1)
    assert parked.properties.message_id == "poison"
    assert parked.headers["x-death"][0]["reason"] == "delivery_limit"


@pytest.mark.parametrize(
    ("queue", "arguments"),
    [
        ("omps-worker", {"x-queue-type": "classic"}),
        ("omps-worker", {"x-queue-type": "quorum", "x-delivery-limit": 5}),
        ("omps-worker.failed", {"x-queue-type": "quorum"}),
    ],
)
def test_a_queue_with_other_arguments_is_refused_by_name(amqp_url, queue, arguments):
    declare(amqp_url, queue, arguments)
    with connected(amqp_url) as link, pytest.raises(BrokerRefused) as caught:
        topology().set_up(link)
    assert f"the queue {queue} with" in caught.value.message
    assert "inequivalent arg" in caught.value.message
    assert "passive_declares" in caught.value.message


def test_a_missing_exchange_is_refused_by_name(amqp_url):
    with connected(amqp_url) as link:
        with pytest.raises(BrokerRefused, match=r"exchange koji with 'a\.b' \(\[\[bindings\]\]\).*NOT_FOUND"):
            topology(bindings=(("koji", "a.b"),)).set_up(link)
        with pytest.raises(BrokerRefused, match=r"exchange results \(publish_exchange\).*NOT_FOUND"):
            topology(publish_exchange="results").set_up(link)


def test_passive_declares_change_nothing(amqp_url):
    bus = Bus(amqp_url)
    with connected(amqp_url) as link, pytest.raises(BrokerRefused, match=r"queue omps-worker\.failed.*NOT_FOUND"):
        topology(passive=True).set_up(link)
    declare(amqp_url, "omps-worker.failed", {})
    with connected(amqp_url) as link, pytest.raises(BrokerRefused, match="queue omps-worker: NOT_FOUND"):
        topology(passive=True).set_up(link)
    declare(amqp_url, "omps-worker", {"x-queue-type": "classic"})
    with connected(amqp_url) as link:
        topology(passive=True, bindings=(("amq.topic", "#"), ("not there", "#"))).set_up(link)
    bus.publish(build_body(), routed=False)
    assert bus.depth() == 0, "a passive worker must not bind"


def test_a_refused_login_and_a_missing_virtual_host_are_told(amqp_url, shared_rabbit):
    for url, said in (
        (shared_rabbit.node.url("/", password="wrong"), "refuses the login"),
        (shared_rabbit.node.url("no-such-vhost"), "virtual host"),
    ):
        with pytest.raises(BrokerRefused) as caught:
            where(url).connect()
        assert said in caught.value.message
        assert "wrong" not in caught.value.message


def test_a_user_without_rights_is_told_which_step_failed(amqp_url, shared_rabbit):
    vhost = pika.URLParameters(amqp_url).virtual_host
    user = f"reader-{vhost}"
    shared_rabbit.node.add_user(user, "pw", vhost, read=".*")
    ours = shared_rabbit.node.url(vhost, user=user, password="pw")
    with (
        connected(ours) as link,
        pytest.raises(BrokerRefused, match=r"declare the queue omps-worker\.failed.*ACCESS_REFUSED"),
    ):
        topology().set_up(link)
    Bus(amqp_url).set_up()
    with connected(ours) as link:
        topology(passive=True).set_up(link)


def test_looking_at_the_broker_tells_what_is_there(amqp_url):
    ready = topology()
    assert "amq.topic" in inspection.check_broker(where(amqp_url), ready)
    assert "not there yet" in inspection.check_queue(where(amqp_url), ready)
    Bus(amqp_url).set_up().publish(build_body(), build_body())
    assert inspection.check_queue(where(amqp_url), ready) == "omps-worker has 2 message(s) ready"
    assert inspection.check_queue(where(amqp_url), ready, failed=True) == "omps-worker.failed has 0 message(s) ready"
    assert FAILED_ARGUMENTS["x-delivery-limit"] == 1_000_000


def test_looking_at_the_broker_finds_what_is_wrong(amqp_url):
    with pytest.raises(BrokerRefused, match="exchange nowhere"):
        inspection.check_broker(where(amqp_url), topology(publish_exchange="nowhere"))
    with pytest.raises(BrokerRefused, match="is missing"):
        inspection.check_queue(where(amqp_url), topology(passive=True))
    declare(amqp_url, "omps-worker", {"x-queue-type": "classic"})
    with pytest.raises(BrokerRefused, match="inequivalent arg"):
        inspection.check_queue(where(amqp_url), topology())
