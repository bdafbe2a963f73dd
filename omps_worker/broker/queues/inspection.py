# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at the broker without changing anything, for ``omps-worker check``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from omps_worker.broker.connection import timed
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.failures import declined, may_write
from omps_worker.broker.connection.timed import Blocked, TimedConnection, takes_nothing
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.broker.queues.topology import Topology, failed_queue
from omps_worker.common.errors import BrokerRefused
from omps_worker.messages.reporting import result_topic

ANSWER_SECONDS = 10.0
"""How long one question, in all its parts, may wait for the broker."""

GOODBYE_SECONDS = 2.0
"""How long saying goodbye may take after it."""

_NOT_FOUND = 404


@contextmanager
def _asking(where: BrokerAccess) -> Iterator[BlockingConnection]:
    """The same for questions that must be answered in time. Raises BrokerBlocked in an alarm."""
    connection, goodbye = where.connect(), GOODBYE_SECONDS
    try:
        with TimedConnection(connection).to(ANSWER_SECONDS):
            yield connection
    except Blocked as blocked:
        goodbye = 0.0
        raise takes_nothing(where.place, str(blocked)) from None
    except AMQPError as error:
        raise where.named(error) from None
    finally:
        timed.close(connection, goodbye)


def look_at_broker(where: BrokerAccess, topology: Topology) -> str:
    """Whether the broker lets us in, has the exchanges, takes messages and lets us lock; what it is.

    Raises BrokerError.
    """
    with _asking(where) as connection:
        exchanges = {topology.publish_exchange, *(exchange for exchange, _ in topology.bindings)} - {""}
        for exchange in sorted(exchanges):
            channel = connection.channel()
            try:
                channel.exchange_declare(exchange, passive=True)
            except ChannelClosedByBroker as error:
                raise declined(error, f"the exchange {exchange}", "Have it declared, or name another one.") from None
        _may_tell(connection.channel(), topology)
        if topology.locks:
            queues = LockQueues(connection)
            queues.probe()
            queues.ask()
        return f"{where.place}; exchanges {', '.join(sorted(exchanges))}"


def _may_tell(channel: BlockingChannel, topology: Topology) -> None:
    """Whether results may be published: tried in a transaction that is taken back, so that nobody hears of it."""
    channel.tx_select()
    topic = result_topic(topology.topic_prefix, "published")
    try:
        channel.basic_publish(topology.publish_exchange, topic, b"")
        channel.tx_rollback()
    except ChannelClosedByBroker as error:
        raise declined(error, f"results on the exchange {topology.publish_exchange}", may_write(topic)) from None


def look_at_queue(where: BrokerAccess, topology: Topology, *, failed: bool = False) -> str:
    """Whether a queue is there and is what the worker needs. Raises BrokerError.

    A missing queue is a fault only when the worker may not declare it.
    """
    name = failed_queue(topology.queue) if failed else topology.queue
    arguments = topology.failed_arguments if failed else topology.arguments
    with _asking(where) as connection:
        try:
            depth = connection.channel().queue_declare(name, passive=True).method.message_count
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise declined(error, f"the queue {name}", "The user needs the right to use it.") from None
            if topology.passive:
                raise BrokerRefused(
                    f"The queue {name} is missing, and passive_declares forbids to declare it."
                ) from None
            return f"{name} is not there yet: `run` declares it"
        if not topology.passive:
            _same_arguments(connection.channel(), name, dict(arguments))
        return f"{name} has {depth} message(s) ready"


def _same_arguments(channel: BlockingChannel, name: str, arguments: dict[str, object]) -> None:
    # Declaring a queue that exists changes nothing: the broker compares, and complains.
    try:
        channel.queue_declare(name, durable=True, arguments=arguments)
    except ChannelClosedByBroker as error:
        raise declined(
            error,
            f"the queue {name} as the worker would declare it",
            "Drain and delete it so that it is declared anew, or set passive_declares = true to use it as it is.",
            "The user needs the right to configure it; with passive_declares = true it does not.",
        ) from None
