# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import ssl

import pika
import pytest
from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
)

from omps_worker.broker.connection.backoff import FIRST_DELAY, LONGEST_DELAY, Backoff
from omps_worker.broker.connection.failures import as_broker_error, refusal_error
from omps_worker.broker.connection.parameters import prepared
from omps_worker.common.errors import BrokerRefused, BrokerUnavailable

WHERE = pika.URLParameters("amqp://worker:s3cret@broker.example.com:5672/builds")


def wrong_version() -> ssl.SSLError:
    """What Python says of a port that does not answer in TLS."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"AMQP\x00\x00\x09\x01")
    with pytest.raises(ssl.SSLError) as caught:
        context.wrap_bio(incoming, outgoing, server_hostname="broker.example.com").do_handshake()
    return caught.value


def before_it_was_open(kind: type[Exception], code: int, text: str) -> Exception:
    """What pika makes of what the broker said before a connection was open."""
    said = kind(repr(exceptions.ConnectionClosedByBroker(code, text)))
    return exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([said]))


@pytest.mark.parametrize("opening", [True, False])
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."),
        (530, "NOT_ALLOWED - vhost builds not found"),
        (530, "NOT_ALLOWED - vhost it's \"odd\"\n not found"),
        (530, "NOT_ALLOWED - access to vhost 'builds' refused for user 'worker'"),
        (530, "NOT_ALLOWED - negotiated frame_max = 4096 is lower than the minimum allowed value (8192)"),
    ],
)  # fmt: skip
def test_what_a_person_has_to_mend_is_a_refusal_in_the_brokers_own_words(code, text, opening):
    kind = exceptions.ProbableAuthenticationError if code == 403 else exceptions.ProbableAccessDeniedError
    error = before_it_was_open(kind, code, text) if opening else exceptions.ConnectionClosedByBroker(code, text)
    found = as_broker_error(error, WHERE)
    assert isinstance(found, BrokerRefused)
    assert "amqp_url" in found.message
    assert " ".join(text.split("\n")) in found.message
    assert "s3cret" not in found.message


@pytest.mark.parametrize("opening", [True, False])
@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (530, "NOT_ALLOWED - access to vhost 'builds' refused for user 'worker': "
              "connection limit (5) is reached", True),
        (530, "NOT_ALLOWED - connection refused for user 'worker': user connection limit (5) is reached", True),
        (530, "NOT_ALLOWED - connection refused: node connection limit (5) is reached", True),
        (530, "NOT_ALLOWED - access to vhost 'builds' refused for user 'worker': "
              "connection limit cannot be queried, timeout", False),
        (530, "NOT_ALLOWED - access to vhost 'builds' refused for user 'worker', "
              "backend rabbit_auth_backend_ldap returned an error: timeout", False),
        (530, "NOT_ALLOWED - number of channels opened for user 'worker' has reached "
              "the maximum allowed user limit of (1)", True),
        (530, "NOT_ALLOWED - number of channels opened on node 'rabbit@one' has reached "
              "the maximum allowed limit of 9", True),
        (541, "INTERNAL_ERROR - access to vhost 'builds' refused for user 'worker': vhost 'builds' is down", False),
        (320, "CONNECTION_FORCED - Node was put into maintenance mode", False),
        (506, "RESOURCE_ERROR - nobody has seen this one yet", False),
    ],
)  # fmt: skip
def test_what_passes_by_itself_is_an_absence_in_the_brokers_own_words(code, text, advice, opening):
    error = exceptions.ConnectionClosedByBroker(code, text)
    found = as_broker_error(
        before_it_was_open(exceptions.ProbableAccessDeniedError, code, text) if opening else error, WHERE
    )
    assert isinstance(found, BrokerUnavailable)
    assert text in found.message
    assert ("Raise this limit" in found.message) == advice


@pytest.mark.parametrize(
    "kind",
    [
        exceptions.ProbableAuthenticationError,
        exceptions.ProbableAccessDeniedError,
        exceptions.IncompatibleProtocolError,
    ],
)
def test_a_connection_lost_during_the_login_is_no_refusal(kind):
    lost = kind(repr(exceptions.StreamLostError("Stream connection lost: ConnectionResetError(104, 'reset')")))
    found = as_broker_error(exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([lost])), WHERE)
    assert isinstance(found, BrokerUnavailable)
    assert "the connection was lost" in found.message


def test_a_broker_that_offers_no_fitting_way_to_log_in_refuses():
    found = as_broker_error(exceptions.AuthenticationError("PLAIN"), WHERE)
    assert isinstance(found, BrokerRefused)
    assert "does not offer a login as 'worker'" in found.message


@pytest.mark.parametrize(
    ("code", "text", "kind", "advice"),
    [
        (406, "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received '20' "
              "but current is '5'", BrokerRefused, "Drain it."),
        (406, "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type "
              "rabbit_quorum_queue", BrokerRefused, "set in [queues], remove it there"),
        (406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (5) is reached",
         BrokerUnavailable, "Raise this limit"),
        (406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in cluster (5) is reached",
         BrokerUnavailable, "Raise this limit"),
        (404, "NOT_FOUND - no queue 'limit in vhost (5) is down or inaccessible' in vhost '/'",
         BrokerRefused, "Drain it."),
        (404, "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout",
         BrokerUnavailable, ""),
        (404, "NOT_FOUND - home node 'rabbit@two' of durable queue 'q' in vhost '/' is down or inaccessible",
         BrokerUnavailable, ""),
        (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'worker'",
         BrokerRefused, "Grant it."),
        (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'worker', "
              "backend rabbit_auth_backend_http returned an error: econnrefused", BrokerUnavailable, ""),
    ],
)  # fmt: skip
def test_the_advice_fits_what_the_broker_said_about_a_queue(code, text, kind, advice):
    found = refusal_error(
        exceptions.ChannelClosedByBroker(code, text), "to declare the queue q", "Drain it.", "Grant it."
    )
    assert type(found) is kind
    assert text in found.message
    assert advice in found.message
    assert ("Drain it." in found.message) == (advice == "Drain it.")


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
        (AMQPConnectorStackTimeout("Timeout during AMQP handshake"), "there was no answer in AMQP within 15 s"),
        (exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([wrong_version()])), "does not speak TLS"),
    ],
)  # fmt: skip
def test_a_broker_that_is_away_is_named_with_the_reason(error, reason):
    found = as_broker_error(error, WHERE)
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
    prepared(pika.URLParameters("amqp://localhost/"), {})
    assert pika.data.decode_value(b"d?\xe0\x00\x00\x00\x00\x00\x00", 0)[0] == 0.5
