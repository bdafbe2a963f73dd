# SPDX-License-Identifier: GPL-3.0-or-later
"""What a try to connect is made with: everything that may have been renewed is read for it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from pika.credentials import ExternalCredentials, PlainCredentials

from omps_worker import __version__
from omps_worker.broker.connection.access import BrokerAccess, combined_error
from omps_worker.broker.connection.parameters import CONNECT_SECONDS, HEARTBEAT_SECONDS, place
from omps_worker.common.errors import BrokerRefused, BrokerUnavailable, SettingsError
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.models import Settings
from tests.support.certificates import self_signed
from tests.support.configuration import MINIMAL, settings

URL = "amqp://worker:s3cret@one.example.com/builds?heartbeat=17"
HOSTS = "consumer_config.broker.hosts"


def password_of(access: BrokerAccess) -> str:
    credentials: Any = access.nodes()[0].credentials
    return credentials.password


def written(directory: Path, url: str) -> Settings:
    """The settings of a configuration in a file."""
    settings(directory)  # makes the mapping
    config = directory / "config.toml"
    config.write_text(MINIMAL.replace("amqp://localhost", url))
    return settings_file.load(config, environment={})


def test_each_connection_says_what_it_is_for(tmp_path):
    access = BrokerAccess.of(settings(tmp_path, {"amqp_url": URL, "client_properties": {"app": "Example"}}), "consumer")
    (node,) = access.nodes()
    assert (node.host, node.virtual_host, node.heartbeat) == ("one.example.com", "builds", 17)
    assert node.client_properties["connection_name"] == "omps-worker omps-worker consumer"
    assert node.client_properties["version"] == __version__
    assert node.client_properties["app"] == "Example"
    assert node.connection_attempts == 1
    assert access.with_heartbeat(15).nodes()[0].heartbeat == 15
    assert access.with_heartbeat(30).nodes()[0].heartbeat == 17


@pytest.mark.parametrize("url", ["amqp://worker@broker/", "amqp://w:s3cret@broker/?heartbeat=soon"])
def test_a_url_that_pika_cannot_use_is_named_without_its_password(tmp_path, url):
    with pytest.raises(SettingsError) as caught:
        BrokerAccess.of(settings(tmp_path, {"amqp_url": url}), "consumer")
    assert "amqp_url" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_further_nodes_have_their_turn_each_under_its_own_name(tmp_path):
    hosts = ["two.example.com", "three.example.com:5673", "[::1]:5674", "one.example.com"]
    ours = settings(tmp_path, {"amqp_url": URL.replace("amqp:", "amqps:"), HOSTS: hosts})
    access = BrokerAccess.of(ours, "consumer")
    nodes = access.nodes()
    assert [(node.host, node.port) for node in nodes] == [
        ("one.example.com", 5671),
        ("two.example.com", 5671),
        ("three.example.com", 5673),
        ("::1", 5674),
    ]
    assert [node.ssl_options.server_hostname for node in nodes] == [node.host for node in nodes]
    assert all(node.ssl_options.context.verify_mode is ssl.CERT_REQUIRED for node in nodes)
    assert all(node.ssl_options.context.check_hostname for node in nodes)
    assert {node.credentials.username for node in nodes if isinstance(node.credentials, PlainCredentials)} == {"worker"}
    assert sum(node.stack_timeout for node in nodes) <= CONNECT_SECONDS
    access.remember(nodes[2])
    assert [node.host for node in access.nodes()] == ["three.example.com", "::1", "one.example.com", "two.example.com"]
    assert access.place == place(nodes[2])


def test_only_where_every_node_refuses_the_broker_does(tmp_path):
    away, refused = BrokerUnavailable("one is away."), BrokerRefused("two refuses.")
    assert type(combined_error([refused, refused])) is BrokerRefused
    for answers in ([away, refused], [refused, away], [away, away]):
        found = combined_error(answers)
        assert type(found) is BrokerUnavailable
        assert all(answer.message in found.message for answer in answers)


def test_a_password_file_is_read_again_at_each_try(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("s3cret/1@é\n")
    changes = {"amqp_url": "amqp://worker@one.example.com/", "consumer_config.broker.password_file": "password"}
    access = BrokerAccess.of(settings(tmp_path, changes), "consumer")
    assert password_of(access) == "s3cret/1@é"
    secret.write_text("another\n")
    assert password_of(access) == "another"


def test_a_password_file_that_is_gone_for_a_moment_leaves_the_last_good_one(tmp_path, caplog):
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    changes = {"amqp_url": "amqp://worker@one.example.com/", "consumer_config.broker.password_file": "password"}
    access = BrokerAccess.of(settings(tmp_path, changes), "consumer")
    secret.unlink()
    assert password_of(access) == "s3cret"
    assert "consumer_config.broker.password_file: the file no longer exists" in caplog.text
    secret.write_text("another")
    assert password_of(access) == "another"
    assert "s3cret" not in caplog.text


def test_a_new_password_in_amqp_url_is_used(tmp_path, caplog):
    caplog.set_level("INFO")
    access = BrokerAccess.of(written(tmp_path, URL), "consumer")
    assert password_of(access) == "s3cret"
    written(tmp_path, URL.replace("worker:s3cret", "worker2:renewed"))
    assert password_of(access) == "renewed"
    credentials: Any = access.nodes()[0].credentials
    assert credentials.username == "worker2"
    assert "has a new login" in caplog.text
    assert "renewed" not in caplog.text


def test_a_broken_edit_of_amqp_url_is_told_once_and_leaves_the_last_good_one(tmp_path, caplog):
    access = BrokerAccess.of(written(tmp_path, URL), "consumer")
    (tmp_path / "config.toml").write_text('amqp_url = "amqp://worker:ren')
    for _ in range(3):
        assert password_of(access) == "s3cret"
    assert caplog.text.count("cannot be read again") == 1
    written(tmp_path, URL.replace("s3cret", "renewed"))
    assert password_of(access) == "renewed"


def test_another_broker_in_amqp_url_takes_a_restart(tmp_path, caplog):
    access = BrokerAccess.of(written(tmp_path, URL), "consumer")
    written(tmp_path, URL.replace("one.example.com", "elsewhere.example.com").replace("s3cret", "renewed"))
    assert access.nodes()[0].host == "one.example.com"
    assert password_of(access) == "s3cret"
    assert "now names another broker, which requires a restart" in caplog.text


def test_certificates_are_read_again_at_each_try(tmp_path):
    trusted, _ = self_signed(tmp_path)
    changes = {
        "amqp_url": URL.replace("amqp:", "amqps:"),
        "tls": {"ca_cert": str(trusted), "certfile": str(trusted), "keyfile": str(tmp_path / "key.pem")},
    }
    access = BrokerAccess.of(settings(tmp_path, changes), "consumer")

    def serials() -> set[str]:
        (node,) = access.nodes()
        assert isinstance(node.credentials, ExternalCredentials)
        return {certificate["serialNumber"] for certificate in node.ssl_options.context.get_ca_certs()}

    before = serials()
    self_signed(tmp_path)
    assert len(serials()) == 1
    assert serials() != before


@pytest.mark.parametrize("broken", ["certificate.pem", "key.pem"])
@pytest.mark.parametrize("how", ["gone", "half written", "of another"])
def test_certificates_that_are_just_being_renewed_are_waited_for(tmp_path, broken, how):
    trusted, _ = self_signed(tmp_path)
    tls = {"ca_cert": str(trusted), "certfile": str(trusted), "keyfile": str(tmp_path / "key.pem")}
    access = BrokerAccess.of(settings(tmp_path, {"amqp_url": URL.replace("amqp:", "amqps:"), "tls": tls}), "consumer")
    file = tmp_path / broken
    good = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "half written":
        file.write_bytes(good[: len(good) // 2])
    else:
        other = tmp_path / "other"
        other.mkdir()
        self_signed(other)
        file.write_bytes((other / broken).read_bytes())
    with pytest.raises(BrokerUnavailable, match=r"in \[tls\].*are read again for the next attempt"):
        access.connect()
    file.write_bytes(good)
    assert access.nodes()


@pytest.mark.parametrize(
    ("said", "heartbeat", "of_locks"), [("", 15, 15), ("?heartbeat=7", 7, 7), ("?heartbeat=60", 60, 15)]
)
def test_all_connections_have_one_heartbeat_unless_the_url_wants_a_longer_one_for_messages(
    tmp_path, said, heartbeat, of_locks
):
    access = BrokerAccess.of(settings(tmp_path, {"amqp_url": f"amqp://broker/{said}"}), "consumer")
    assert access.nodes()[0].heartbeat == heartbeat
    assert access.with_heartbeat(HEARTBEAT_SECONDS).nodes()[0].heartbeat == of_locks
