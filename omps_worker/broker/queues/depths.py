# SPDX-License-Identifier: GPL-3.0-or-later
"""How many messages wait in the queues: asked on a connection of its own, kept between questions."""

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
    """The messages of one queue that are ready: not those that somebody has in hand."""

    queue: str
    kind: str
    messages: int


class QueueDepths:
    """Looks at the worker's queues; ``look`` belongs to one thread, ``known`` and ``seen_at`` to all."""

    def __init__(self, where: BrokerAccess, topology: Topology) -> None:
        self._where = where
        self._queues = [
            (topology.queue, MAIN),
            *((retry_queue(topology.queue, delay), RETRY) for delay in topology.delays),
            (failed_queue(topology.queue), FAILED),
        ]
        self._connection: BlockingConnection | None = None
        self.known: tuple[QueueDepth, ...] = ()
        """What the last look showed; nothing while the broker is away."""
        self.seen_at = 0.0
        """When that was, in seconds since the epoch; 0: never."""

    def look(self) -> None:
        """Look at all queues. Raises BrokerUnavailable and BrokerRefused."""
        try:
            self._look()
        except (AMQPError, AMQPConnectorException, OSError) as error:
            self.known = ()
            self.close()
            raise self._where.named(error) from None

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _look(self) -> None:
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = self._where.connect()
        channel: Any = connection.channel()
        found = []
        for queue, kind in self._queues:
            try:
                ready = channel.queue_declare(queue, passive=True).method.message_count
            except ChannelClosedByBroker:
                # It is missing, or just without a leader; the worker itself tells what that means.
                channel = connection.channel()
                continue
            found.append(QueueDepth(queue, kind, ready))
        channel.close()
        self.known, self.seen_at = tuple(found), time.time()
