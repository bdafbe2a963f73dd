# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
import time

import pytest
from pika.spec import BasicProperties

from omps_worker.broker.connection.backoff import FIRST_DELAY
from omps_worker.broker.outbox import OutgoingMessage
from omps_worker.broker.publisher import Publisher
from omps_worker.common.errors import BrokerBlocked, BrokerRefused, BrokerUnavailable
from tests.support.bus import Bus, where
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


def message(body: bytes = b"x", exchange: str = "", key: str = "box", *, mandatory: bool = False, **properties):
    return OutgoingMessage(exchange, key, body, BasicProperties(delivery_mode=2, **properties), mandatory)


def box(bus: Bus, name: str = "box", **arguments) -> Bus:
    with bus.channel() as channel:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    return bus


def test_a_published_message_is_on_the_broker_when_the_call_returns(amqp_url):
    bus = box(Bus(amqp_url))
    with Publisher(where(amqp_url)) as publisher:
        publisher.publish(message(b"one", message_id="1", headers={"half": 0.5}))
        (got,) = bus.take_all("box")
    assert (got.body, got.properties.message_id, got.headers["half"]) == (b"one", "1", 0.5)


def test_many_threads_publish_at_once_and_nothing_is_lost(amqp_url):
    bus = box(Bus(amqp_url))
    with Publisher(where(amqp_url)) as publisher:

        def many(first):
            for number in range(first, first + 50):
                publisher.publish(message(str(number).encode(), mandatory=number % 7 == 0))

        threads = [threading.Thread(target=many, args=(50 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(int(got.body) for got in bus.take_all("box")) == list(range(400))


def test_a_message_that_no_queue_takes_is_an_error_only_when_mandatory(amqp_url):
    with Publisher(where(amqp_url)) as publisher:
        publisher.publish(message(exchange="amq.topic", key="nobody.listens"))
        with pytest.raises(BrokerRefused, match="No queue takes a message to 'nowhere'"):
            publisher.publish(message(key="nowhere", mandatory=True))


def test_a_missing_exchange_is_told_to_the_one_who_named_it(amqp_url):
    box(Bus(amqp_url))
    with Publisher(where(amqp_url)) as publisher:
        errors: dict[int, Exception] = {}

        def publish(number):
            try:
                for _ in range(10):
                    publisher.publish(message(exchange="missing" if number == 3 else "", key="box"))
            except BrokerRefused as error:
                errors[number] = error

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert list(errors) == [3]
        assert "no exchange 'missing'" in str(errors[3])
        publisher.publish(message())


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(amqp_url):
    bus = box(Bus(amqp_url), **{"x-max-length": 1, "x-overflow": "reject-publish"})
    with Publisher(where(amqp_url)) as publisher:

        def full():
            try:
                publisher.publish(message())
            except BrokerRefused as error:
                return "queue is full" in error.message

        wait_until(full, what="a full queue")
        bus.take_all("box")
        wait_until(lambda: not full(), what="room in the queue")


@pytest.mark.parametrize(
    "outgoing",
    [
        message(headers={"odd": object()}),
        message(key="k" * 256),
        message(headers={"large": "x" * 200_000}),
        message(user_id="somebody-else"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once_and_does_no_harm(amqp_url, outgoing):
    bus = box(Bus(amqp_url))
    with Publisher(where(amqp_url)) as publisher:
        with pytest.raises(BrokerRefused):
            publisher.publish(outgoing, timeout=10)
        publisher.publish(message())
    assert bus.depth("box") == 1


def test_it_reconnects_and_sends_again_what_was_not_confirmed(amqp_url, shared_rabbit):
    bus = box(Bus(amqp_url))
    with Proxy(shared_rabbit.node.port) as proxy:
        through = amqp_url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        with Publisher(where(through)) as publisher:
            publisher.publish(message(b"before"))
            proxy.silent.set()  # what is sent now reaches nobody
            thread = threading.Thread(target=publisher.publish, args=(message(b"during", mandatory=True),))
            thread.start()
            proxy.refusing = True
            proxy.cut()
            wait_until(lambda: not publisher.connected, what="the loss of the connection")
            proxy.silent.clear()
            proxy.refusing = False
            thread.join(30)
            assert not thread.is_alive()
            assert [got.body for got in bus.take_all("box")] == [b"before", b"during"]


def test_a_broker_that_is_away_is_told_in_time_and_without_the_password():
    with Proxy(1) as nobody:
        parameters = where(f"amqp://guest:s3cret@127.0.0.1:{nobody.port}/")
        with Publisher(parameters, timeout=0.3) as publisher:
            start = time.monotonic()
            with pytest.raises(BrokerUnavailable) as caught:
                publisher.publish(message())
            assert time.monotonic() - start < 5
            assert "s3cret" not in str(caught.value)
            assert not publisher.connected


def test_close_waits_for_what_is_under_way(amqp_url):
    bus = box(Bus(amqp_url))
    publisher = Publisher(where(amqp_url)).start()
    threads = [threading.Thread(target=publisher.publish, args=(message(),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: publisher.connected, what="a connection")
    assert publisher.close(30)
    for thread in threads:
        thread.join(10)
    assert bus.depth("box") == 20
    with pytest.raises(BrokerUnavailable):
        publisher.publish(message())


def test_a_blocked_broker_is_waited_for(own_rabbit):
    bus = box(Bus(own_rabbit.amqp_url))
    with Publisher(where(own_rabbit.amqp_url), timeout=60) as publisher:
        publisher.publish(message(b"before"))
        own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
        thread = threading.Thread(target=publisher.publish, args=(message(b"during"),))
        thread.start()
        wait_until(lambda: publisher.blocked, what="the broker to block publishers")
        assert not publisher.connected
        with pytest.raises(BrokerBlocked, match="takes no messages: low on memory"):
            publisher.publish(message(b"abandoned"), timeout=0.2)
        own_rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        thread.join(30)
        assert not thread.is_alive()
        assert publisher.blocked is None
    assert b"during" in [got.body for got in bus.take_all("box")]


def test_a_broker_that_is_away_is_tried_less_and_less_often(caplog):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Publisher(where(f"amqp://127.0.0.1:{port}/")) as publisher:
        wait_until(lambda: publisher._backoff._delay > 4 * FIRST_DELAY, 30, "three tries")
        assert caplog.text.count("has no connection") == 3
