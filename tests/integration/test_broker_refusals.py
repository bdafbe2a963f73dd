# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real broker says when it lets nobody in: a mistake that is told, or something that is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable
from omps_worker.sandbox.broker import RabbitNode
from tests.support.bus import Bus, build_body, topology, where
from tests.support.proxy import Proxy
from tests.support.site import TestSite
from tests.support.waiting import wait_until
from tests.support.workers import Worker

STOP_VHOSTS = (
    "[supervisor:terminate_child(rabbit_vhost_sup_sup, P) "
    "|| {_, P, _, _} <- supervisor:which_children(rabbit_vhost_sup_sup)]."
)


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    """A node whose limits these tests set."""
    with RabbitNode() as node:
        yield node


@contextmanager
def vhost_limits(node: RabbitNode, limits: str) -> Iterator[None]:
    node.rabbitmqctl("set_vhost_limits", "-p", "/", limits)
    try:
        yield
    finally:
        node.rabbitmqctl("clear_vhost_limits", "-p", "/")


@contextmanager
def user_limits(node: RabbitNode, limits: str) -> Iterator[None]:
    node.rabbitmqctl("set_user_limits", "guest", limits)
    try:
        yield
    finally:
        node.rabbitmqctl("clear_user_limits", "guest", "all")


def told(act: Callable[[], object]) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        act()
    return caught.value


def test_a_limit_on_connections_is_waited_for(node):
    with where(node.amqp_url).connect():
        for limited in (vhost_limits, user_limits):
            with limited(node, '{"max-connections": 1}'):
                found = told(where(node.amqp_url).connect)
                assert isinstance(found, BrokerUnavailable)
                assert "connection limit (1) is reached" in found.message


def test_a_limit_on_channels_is_waited_for(node):
    access = where(node.amqp_url)
    with user_limits(node, '{"max-channels": 1}'):
        connection = access.connect()
        connection.channel()
        with pytest.raises(Exception) as caught:
            connection.channel().queue_declare("any")
    found = access.as_broker_error(caught.value)
    assert isinstance(found, BrokerUnavailable)
    assert "maximum allowed user limit of" in found.message


def test_a_limit_on_queues_is_waited_for_and_its_advice_is_not_to_drain_one(node):
    with where(node.amqp_url).connect() as connection, vhost_limits(node, '{"max-queues": 1}'):
        found = told(lambda: topology("crowded").set_up(connection))
        assert isinstance(found, BrokerUnavailable)
        assert "queue limit in vhost '/' (1) is reached" in found.message
        assert "drain" not in found.message


def test_an_argument_that_no_such_queue_can_have_is_named(node):
    ours = topology("important")
    with where(node.amqp_url).connect() as connection:
        wrong = replace(ours, arguments={**ours.arguments, "x-max-priority": 5})
        found = told(lambda: wrong.set_up(connection))
        assert isinstance(found, BrokerRefused)
        assert "does not support the argument x-max-priority" in found.message
        ours.set_up(connection)
        found = told(lambda: replace(ours, arguments={**ours.arguments, "x-delivery-limit": 5}).set_up(connection))
        assert isinstance(found, BrokerRefused)
        assert "drain and delete" in found.message


def test_a_virtual_host_that_is_down_is_waited_for_and_one_that_is_not_there_is_refused(node):
    node.eval(STOP_VHOSTS)
    try:
        found = told(where(node.amqp_url).connect)
        assert isinstance(found, BrokerUnavailable)
        assert "vhost '/' is down" in found.message
    finally:
        node.rabbitmqctl("restart_vhost", "-p", "/")
    assert isinstance(told(where(node.url("nowhere")).connect), BrokerRefused)
    node.add_vhost("not-for-all")
    node.add_user("stranger", "pw", "/")
    assert isinstance(told(where(node.url("not-for-all", user="stranger", password="pw")).connect), BrokerRefused)


def test_a_connection_that_is_lost_anywhere_in_the_login_is_waited_for(node):
    with Proxy(node.port) as proxy:
        access = where(node.amqp_url.replace(f":{node.port}/", f":{proxy.port}/"))
        with access.connect():
            whole = proxy.passed
        for length in (*range(0, whole - 40, 29), *range(whole - 40, whole - 10)):
            proxy.at_most = length
            found = told(access.connect)
            assert isinstance(found, BrokerUnavailable), (length, found)


def test_one_of_several_nodes_is_enough(node, caplog):
    with Proxy(node.port) as broken:
        broken.refusing = True
        nodes = [*where(f"amqp://127.0.0.1:{broken.port}/").nodes(), *where(node.amqp_url).nodes()]
        access = BrokerAccess(lambda: list(nodes))
        with access.connect():
            assert f"127.0.0.1:{node.port}" in access.place
        assert "using another node" in caplog.text
        with access.connect():
            assert broken.accepted == 1, "the node that answered is asked first"


def test_a_worker_waits_for_what_passes_and_begins_when_it_has(node, caplog):
    bus = Bus(node.amqp_url, "patient").listen()
    with where(node.amqp_url).connect(), user_limits(node, '{"max-connections": 1}'):
        worker = Worker(node.amqp_url, queue="patient")
        worker.thread.start()
        wait_until(lambda: caplog.text.count("connection limit (1) is reached") >= 2, 30, "two tries")
    wait_until(lambda: worker.consumer.consuming, 60, "the worker to consume")
    bus.publish(build_body())
    assert bus.results(1)
    assert worker.stop() == 0


@pytest.mark.parametrize("change", ["password", "permissions", "virtual host"])
def test_a_worker_that_was_connected_is_not_ended_by_a_refusal(own_rabbit, caplog, change):
    own_rabbit.add_user("worker", "pw", "/", configure=".*", write=".*", read=".*")
    url = own_rabbit.url("/", user="worker", password="pw")
    with Worker(url) as worker:
        if change == "password":
            own_rabbit.rabbitmqctl("change_password", "worker", "another")
        elif change == "permissions":
            own_rabbit.rabbitmqctl("clear_permissions", "-p", "/", "worker")
        else:
            own_rabbit.eval(STOP_VHOSTS)
        own_rabbit.rabbitmqctl("close_all_connections", "a change")
        wait_until(lambda: caplog.text.count("not consuming, trying again") >= 2, 60, "a refusal")
        assert worker.thread.is_alive()
        if change == "password":
            own_rabbit.rabbitmqctl("change_password", "worker", "pw")
        elif change == "permissions":
            own_rabbit.rabbitmqctl("set_permissions", "-p", "/", "worker", ".*", ".*", ".*")
        else:
            own_rabbit.rabbitmqctl("restart_vhost", "-p", "/")
        wait_until(lambda: worker.consumer.consuming, 60, "the worker to consume again")
        assert worker.stop() == 0


def test_commands_say_that_it_passes(tmp_path, node):
    with TestSite(tmp_path / "site", amqp_url=node.amqp_url) as site, where(node.amqp_url).connect():
        site.koji.add_build("etcd-operator-container", "1.0", "1")
        with user_limits(node, '{"max-connections": 1}'):
            listed = site.command("failed", "list")
            assert (listed.code, "connection limit" in listed.err) == (75, True)
            assert "BrokerUnavailable" in listed.err
            checked = site.command("check", "--json")
            broker = next(each for each in checked.json if each["part"] == "broker")
            assert (broker["error"], broker["transient"], checked.code) == ("BrokerUnavailable", True, 75)
