# SPDX-License-Identifier: GPL-3.0-or-later
"""A binding that left the configuration: who names it, and how it goes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from omps_worker.broker.queues.management import check_bindings, is_bound
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.sandbox.broker import RabbitNode
from omps_worker.sandbox.site import QUEUE
from tests.support.bus import TOPIC, Bus, topology, where
from tests.support.waiting import wait_until

OLD = "org.example.old.#"


class ManagedNode(RabbitNode):
    """A node with the management plugin."""

    def _write_files(self) -> None:
        super()._write_files()
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def managed() -> Iterator[tuple[RabbitNode, str]]:
    port = free_port()
    with ManagedNode(config={"management.tcp.ip": "127.0.0.1", "management.tcp.port": str(port)}) as node:
        yield node, f"http://127.0.0.1:{port}/"


def bind(bus: Bus, key: str, **arguments) -> None:
    with bus.channel() as channel:
        channel.queue_bind(bus.queue, "amq.topic", key, arguments)


def test_the_management_api_tells_what_the_configuration_does_not_have(managed):
    """All in one, for a node takes its time to start."""
    node, url = managed
    bus = Bus(node.add_vhost("of/a site")).set_up()

    def look(amqp_url: str = bus.url, place: str = url) -> str:
        return check_bindings(place, where(amqp_url), bus.queue, topology().bindings)

    assert "no bindings except those" in look()
    assert not is_bound(url, where(bus.url), bus.queue, "amq.topic", OLD)
    bind(bus, OLD)
    bind(bus, TOPIC, of="old")
    assert is_bound(url, where(bus.url), bus.queue, "amq.topic", OLD)
    with pytest.raises(Inconclusive) as doubt:
        look()
    assert f"amq.topic '{OLD}' (`omps-worker unbind amq.topic '{OLD}'` removes it)" in str(doubt.value)
    assert f"amq.topic '{TOPIC}' with arguments" in str(doubt.value)
    bind(bus, "odd.\x1b[31m")
    with pytest.raises(Inconclusive) as doubt:
        look()
    assert r"`omps-worker unbind amq.topic $'odd.\033[31m'` removes it" in str(doubt.value)
    assert str(doubt.value).isprintable()

    node.add_user("worker", "secret-word", "of/a site", read=".*")
    with pytest.raises(Inconclusive, match="needs the tag management") as doubt:
        look(node.url("of/a site", user="worker", password="secret-word"))
    assert "secret-word" not in str(doubt.value)
    with pytest.raises(Inconclusive, match="answers 4"):
        look(place=f"{url}elsewhere")
    with pytest.raises(Inconclusive, match="cannot be reached"):
        look(place=f"http://127.0.0.1:{free_port()}")


def test_check_asks_where_the_configuration_says_where(site):
    with site.config.open("a") as file:
        file.write(f'\n[consumer_config.broker]\nmanagement_url = "http://127.0.0.1:{free_port()}"\n')
    ran = site.command("check", "--json")
    assert ran.code == 0, "a doubt is no failure"
    (finding,) = [each for each in ran.json if each["part"] == "bindings"]
    assert (finding["state"], "cannot be reached" in finding["detail"]) == ("warning", True)


def test_what_comes_by_such_a_binding_is_told_until_it_is_unbound(site):
    bus = Bus(site.amqp_url, QUEUE).set_up()
    bind(bus, OLD)
    with site.running():
        bus.publish(b"{}", topic="org.example.old.news")
        wait_until(lambda: "org.example.old.news, which no [[bindings]]" in site.log, what="the warning")
    kept = site.command("unbind", "amq.topic", "#.buildsys.build.state.change")
    assert kept.code == 2
    assert "Remove it there first" in kept.err
    dry = site.command("unbind", "amq.topic", OLD, "--dry-run")
    assert (dry.code, dry.out.split()[0]) == (0, "would")
    bus.publish(b"{}", topic="org.example.old.news")

    ran = site.command("unbind", "amq.topic", OLD, "--json")
    told = {"queue": QUEUE, "exchange": "amq.topic", "routing_key": OLD, "was_bound": None, "dry_run": False}
    assert (ran.code, ran.json) == (0, told)
    with bus.channel() as channel:
        channel.confirm_delivery()
        with pytest.raises(Exception, match="unroutable"):
            channel.basic_publish("amq.topic", "org.example.old.news", b"{}", mandatory=True)
    again = site.command("unbind", "amq.topic", OLD)
    assert (again.code, again.out) == (0, f"not bound any more: {QUEUE} from amq.topic '{OLD}'\n"), "as it should be"
    assert site.command("unbind", "no-such-exchange", OLD).code in (0, 2)
