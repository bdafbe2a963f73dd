# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords, certificates and nodes are changed while the worker runs: it comes back without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omps_worker.sandbox import broker
from omps_worker.sandbox.broker import RabbitNode
from tests.support.books import COMPONENT, Books, otter
from tests.support.certificates import issued
from tests.support.proxy import Proxy
from tests.support.site import TestSite, edit
from tests.support.waiting import wait_until


class _ByCertificate(RabbitNode):
    """A node that logs in those whose certificate names them."""

    def _write_files(self) -> None:
        super()._write_files()
        (self.directory / "enabled_plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")


@pytest.fixture
def guarded(lonely: TestSite) -> TestSite:
    """A site whose worker has an account of its own."""
    lonely.node.rabbitmqctl("await_startup")
    lonely.node.add_user("worker", "first", "/", configure=".*", write=".*", read=".*")
    return lonely


def consuming(site: TestSite) -> int:
    return site.log.count("consuming from the queue")


def comes_back(site: TestSite, node: RabbitNode, books: Books, number: int) -> None:
    """Cut all connections: the worker comes back, and check agrees that it can."""
    before = consuming(site)
    node.rabbitmqctl("close_all_connections", "a change")
    wait_until(lambda: consuming(site) > before, 60, f"the worker to consume again: {site.log[-2000:]}")
    checked = site.command("check", "--json")
    assert [part for part in checked.json if part["part"] == "broker" and part["state"] != "ok"] == []
    site.publish(site.koji.message(site.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number))))
    books.wait_for("published", number)


@pytest.mark.parametrize("place", ["password_file", "amqp_url"])
def test_a_changed_password_is_used_at_the_next_connection(guarded, place):
    books = Books(guarded)
    secret = guarded.directory / "secrets" / "broker"
    if place == "password_file":
        secret.write_text("first\n")
        edit(guarded.config, "guest:guest@", "worker@")
        edit(
            guarded.config,
            "[consumer_config.koji]",
            '[consumer_config.broker]\npassword_file = "secrets/broker"\n[consumer_config.koji]',
        )
    else:
        edit(guarded.config, "guest:guest@", "worker:first@")
    with guarded.running() as worker:
        guarded.node.rabbitmqctl("change_password", "worker", "second")
        guarded.node.rabbitmqctl("close_all_connections", "a change")
        wait_until(lambda: "refuses the login as 'worker'" in guarded.log, 30, "a refused login")
        assert guarded.command("check").code == 2
        if place == "password_file":
            secret.unlink()
            wait_until(lambda: "no longer exists" in guarded.log, 60, "a message about the missing file")
            secret.write_text("second\n")
        else:
            edit(guarded.config, "worker:first@", "worker:second@")
        wait_until(lambda: consuming(guarded) == 2, 60, "the worker to consume again")
        comes_back(guarded, guarded.node, books, 1)
        assert worker.poll() is None
    assert "second" not in guarded.log.replace("seconds", "")


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[TestSite, RabbitNode]]:
    """A site whose broker and worker know each other by certificates only."""
    for name in ("server", "client"):
        (tmp_path / name).mkdir()
        issued(tmp_path / name, "worker")
    (port,) = broker._free_ports(1)
    config = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.certfile": str(tmp_path / "server" / "certificate.pem"),
        "ssl_options.keyfile": str(tmp_path / "server" / "key.pem"),
        "ssl_options.cacertfile": str(tmp_path / "client" / "ca.pem"),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "auth_mechanisms.1": "EXTERNAL",
        "auth_mechanisms.2": "PLAIN",
        "ssl_cert_login_from": "common_name",
    }
    with _ByCertificate(config=config) as node, TestSite(tmp_path / "site", amqp_url=node.amqp_url) as site:
        node.rabbitmqctl("await_startup")  # it takes connections a moment before
        node.add_user("worker", "never used", "/", configure=".*", write=".*", read=".*")
        text = site.config.read_text().replace(node.amqp_url, f"amqps://127.0.0.1:{port}/%2F")
        tls = (
            f'[tls]\nca_cert = "{tmp_path}/server/ca.pem"\n'
            f'certfile = "{tmp_path}/client/certificate.pem"\nkeyfile = "{tmp_path}/client/key.pem"\n\n'
        )
        site.config.write_text(text.replace("[consumer_config]\n", f"{tls}[consumer_config]\n"))
        yield site, node


def test_renewed_certificates_are_used_at_the_next_connection(certified, tmp_path):
    site, node = certified
    books = Books(site)
    with site.running() as worker:
        for name in ("server", "client"):
            issued(tmp_path / name, "worker")
        node.eval("ssl:clear_pem_cache().")
        comes_back(site, node, books, 1)
        key = tmp_path / "client" / "key.pem"
        good = key.read_bytes()
        key.write_bytes(good[:20])
        node.rabbitmqctl("close_all_connections", "a change")
        wait_until(lambda: "certfile and keyfile in [tls]" in site.log, 30, "the half-written key to be told")
        before = consuming(site)
        key.write_bytes(good)
        wait_until(lambda: consuming(site) > before, 60, "the worker to consume again")
        assert worker.poll() is None


def test_the_nodes_of_a_cluster_are_tried_in_turn(site, shared_rabbit):
    books = Books(site)
    with Proxy(shared_rabbit.node.port) as first, Proxy(shared_rabbit.node.port) as second:
        first.refusing = True
        edit(site.config, f":{shared_rabbit.node.port}/", f":{first.port}/")
        hosts = f'[consumer_config.broker]\nhosts = ["127.0.0.1:{second.port}"]\n'
        edit(site.config, "[consumer_config.koji]", f"{hosts}[consumer_config.koji]")
        with site.running():
            assert f"on 127.0.0.1:{second.port}," in site.log
            assert f"using another node: The broker (127.0.0.1:{first.port}," in site.log
            assert site.command("check").code == 0
            site.publish(site.koji.message(site.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())))
            books.wait_for("published")
            first.refusing, second.refusing = False, True
            second.cut()
            wait_until(lambda: f"on 127.0.0.1:{first.port}," in site.log, 30, "the worker to move")
            listed = site.command("failed", "list", "--json")
            assert (listed.code, listed.json) == (0, [])
            site.publish(site.koji.message(site.koji.add_build(COMPONENT, "1.0", "2", manifests=otter(2))))
            books.wait_for("published", 2)
