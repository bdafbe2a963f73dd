# SPDX-License-Identifier: GPL-3.0-or-later
"""The depths of the worker's queues, queried on a separate connection and kept between queries."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.queues.topology import Topology, failed_queue, retry_queue

MAIN, RETRY, FAILED = "main", "retry", "failed"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The number of messages in a queue that are ready; messages that a consumer has in flight do not count."""

    queue: str
    kind: str
    messages: int


class QueueDepths:
    """Queries the depths of the worker's queues.

    Call ``refresh`` and ``close`` in one thread only. ``known`` and ``seen_at`` may be read in any thread.
    """

    def __init__(self, access: BrokerAccess, topology: Topology) -> None:
        self._access = access
        self._queues = [
            (topology.queue, MAIN),
            *((retry_queue(topology.queue, delay), RETRY) for delay in topology.delays),
            (failed_queue(topology.queue), FAILED),
        ]
        self._connection: BlockingConnection | None = None
        self.known: tuple[QueueDepth, ...] = ()
        """The depths found by the last query; empty while the broker is away."""
        self.seen_at = 0.0
        """When that query was made, in seconds since the epoch; 0: never."""

    def refresh(self) -> None:
        """Query all queues. Raises BrokerUnavailable and BrokerRefused."""
        try:
            self._query()
        except (AMQPError, AMQPConnectorException, OSError) as error:
            self.known = ()
            self.close()
            raise self._access.as_broker_error(error) from None

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _query(self) -> None:
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = self._access.connect()
        channel: Any = connection.channel()
        found = []
        for queue, kind in self._queues:
            try:
                ready = channel.queue_declare(queue, passive=True).method.message_count
            except ChannelClosedByBroker:
                # The queue is missing or has no leader at the moment. The consumer reports this.
                channel = connection.channel()
                continue
            found.append(QueueDepth(queue, kind, ready))
        channel.close()
        self.known, self.seen_at = tuple(found), time.time()
