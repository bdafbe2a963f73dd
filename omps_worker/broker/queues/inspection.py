# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the broker that change nothing, for ``omps-worker check``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from omps_worker.broker.connection import timed
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.failures import refusal_error, write_advice
from omps_worker.broker.connection.timed import Blocked, TimedConnection, blocked_error
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.broker.queues.topology import Topology, failed_queue
from omps_worker.common.errors import BrokerRefused
from omps_worker.messages.reporting import result_topic

ANSWER_SECONDS = 10.0
"""Timeout in seconds of a whole check."""

CLOSE_SECONDS = 2.0
"""Timeout in seconds for closing the connection after a check."""

_NOT_FOUND = 404


@contextmanager
def _connected_with_timeout(access: BrokerAccess) -> Iterator[BlockingConnection]:
    """Provide a connection whose requests have a timeout. Raises BrokerError; BrokerBlocked during an alarm."""
    connection, close_seconds = access.connect(), CLOSE_SECONDS
    try:
        with TimedConnection(connection).limit(ANSWER_SECONDS):
            yield connection
    except Blocked as blocked:
        close_seconds = 0.0
        raise blocked_error(access.place, str(blocked)) from None
    except AMQPError as error:
        raise access.as_broker_error(error) from None
    finally:
        timed.close(connection, close_seconds)


def check_broker(access: BrokerAccess, topology: Topology) -> str:
    """Check the login, the exchanges, publishing and locking; return a description of the broker.

    Raises BrokerError.
    """
    with _connected_with_timeout(access) as connection:
        exchanges = {topology.publish_exchange, *(exchange for exchange, _ in topology.bindings)} - {""}
        for exchange in sorted(exchanges):
            channel = connection.channel()
            try:
                channel.exchange_declare(exchange, passive=True)
            except ChannelClosedByBroker as error:
                raise refusal_error(
                    error, f"the exchange {exchange}", "Declare it, or name another exchange."
                ) from None
        _check_may_publish(connection.channel(), topology)
        if topology.locks:
            queues = LockQueues(connection)
            queues.probe()
            queues.check_publishing()
        return f"{access.place}; exchanges {', '.join(sorted(exchanges))}"


def _check_may_publish(channel: BlockingChannel, topology: Topology) -> None:
    """Check that results may be published.

    The transaction is rolled back, so that no consumer receives anything.
    """
    channel.tx_select()
    topic = result_topic(topology.topic_prefix, "published")
    try:
        channel.basic_publish(topology.publish_exchange, topic, b"")
        channel.tx_rollback()
    except ChannelClosedByBroker as error:
        raise refusal_error(
            error, f"results on the exchange {topology.publish_exchange}", write_advice(topic)
        ) from None


def check_queue(access: BrokerAccess, topology: Topology, *, failed: bool = False) -> str:
    """Check that a queue exists and has the arguments that the worker needs; return a sentence about it.

    Raises BrokerError. A missing queue is an error only if the worker may not declare it.
    """
    name = failed_queue(topology.queue) if failed else topology.queue
    arguments = topology.failed_arguments if failed else topology.arguments
    with _connected_with_timeout(access) as connection:
        try:
            depth = connection.channel().queue_declare(name, passive=True).method.message_count
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise refusal_error(error, f"the queue {name}", "The user needs permission to use it.") from None
            if topology.passive:
                raise BrokerRefused(
                    f"The queue {name} is missing, and with passive_declares the worker does not declare it."
                ) from None
            return f"{name} is not there yet: `run` declares it"
        if not topology.passive:
            _check_arguments(connection.channel(), name, dict(arguments))
        return f"{name} has {depth} message(s) ready"


def _check_arguments(channel: BlockingChannel, name: str, arguments: dict[str, object]) -> None:
    # Declaring an existing queue changes nothing: the broker compares the arguments, and refuses different ones.
    try:
        channel.queue_declare(name, durable=True, arguments=arguments)
    except ChannelClosedByBroker as error:
        raise refusal_error(
            error,
            f"the queue {name} as the worker would declare it",
            "Drain and delete it, so that the worker declares it anew, or set passive_declares = true to use it as is.",
            "The user needs permission to configure it, unless passive_declares = true.",
        ) from None
