# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace

import pika
import pytest
from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
)
from pydantic import SecretStr

from omps_worker import __version__
from omps_worker.broker import connection
from omps_worker.broker.connection import FIRST_DELAY, LONGEST_DELAY, Backoff, named, parameters
from omps_worker.errors import BrokerRefused, BrokerUnavailable, SettingsError

WHERE = pika.URLParameters("amqp://worker:s3cret@broker.example.com:5672/builds")


def wrong_version() -> ssl.SSLError:
    """What Python says of a port that does not answer in TLS."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"AMQP\x00\x00\x09\x01")
    with pytest.raises(ssl.SSLError) as caught:
        context.wrap_bio(incoming, outgoing, server_hostname="broker.example.com").do_handshake()
    return caught.value


def settings(url: str = "amqp://worker:s3cret@broker.example.com/builds?heartbeat=17"):
    return SimpleNamespace(
        amqp_url=SecretStr(url),
        client_properties={"app": "Example"},
        queue=SimpleNamespace(name="omps-worker"),
        tls=SimpleNamespace(ca_cert=None, certfile=None, keyfile=None),
    )


def test_each_connection_says_what_it_is_for():
    found = parameters(settings(), "consumer")
    assert (found.host, found.virtual_host, found.heartbeat) == ("broker.example.com", "builds", 17)
    assert found.client_properties["connection_name"] == "omps-worker omps-worker consumer"
    assert found.client_properties["version"] == __version__
    assert found.client_properties["app"] == "Example"
    assert found.connection_attempts == 1


def test_tls_always_verifies():
    found = parameters(settings("amqps://worker:s3cret@broker.example.com/"), "consumer")
    context = found.ssl_options.context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert found.ssl_options.server_hostname == "broker.example.com"


@pytest.mark.parametrize("url", ["amqp://worker@broker/", "amqp://w:s3cret@broker/?heartbeat=soon"])
def test_a_url_that_pika_cannot_use_is_named_without_its_password(url):
    with pytest.raises(SettingsError) as caught:
        parameters(settings(url), "consumer")
    assert "amqp_url" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ProbableAuthenticationError("x"),
        exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED - Login was refused"),
        exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([exceptions.ProbableAuthenticationError("x")])),
        exceptions.ProbableAccessDeniedError("x"),
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost builds not found"),
    ],
)
def test_a_refused_login_is_told_from_an_absent_broker(error):
    found = named(error, WHERE)
    assert isinstance(found, BrokerRefused)
    assert "amqp_url" in found.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed(
            [AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "Connection refused"))])),
         "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced\nconnection closure"),
         "CONNECTION_FORCED - broker forced connection closure"),
        (exceptions.AMQPHeartbeatTimeout("no activity"), "no activity"),
        (exceptions.StreamLostError(), "StreamLostError"),
        (AMQPConnectorStackTimeout("Timeout during AMQP handshake"), "nobody spoke AMQP there within 15 s"),
        (exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([wrong_version()])), "does not speak TLS"),
    ],
)  # fmt: skip
def test_a_broker_that_is_away_is_named_with_the_reason(error, reason):
    found = named(error, WHERE)
    assert isinstance(found, BrokerUnavailable)
    assert found.transient
    assert "broker.example.com:5672, virtual host builds" in found.message
    assert reason in found.message
    assert "s3cret" not in found.message


def test_delays_double_up_to_a_cap_and_start_over():
    backoff = Backoff()
    delays = [backoff.next() for _ in range(12)]
    assert FIRST_DELAY / 2 <= delays[0] <= FIRST_DELAY
    assert all(LONGEST_DELAY / 2 <= delay <= LONGEST_DELAY for delay in delays[8:])
    backoff.reset()
    assert backoff.next() <= FIRST_DELAY


def test_odd_headers_are_taken_care_of_with_every_connection():
    connection.prepared(pika.URLParameters("amqp://localhost/"), {})
    assert pika.data.decode_value(b"d?\xe0\x00\x00\x00\x00\x00\x00", 0)[0] == 0.5
