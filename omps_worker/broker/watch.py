# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the results on the bus, on a queue of one's own that ends with its connection.

What the broker had no queue for while we were away is gone: it is told that something may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker

from omps_worker.broker import headers
from omps_worker.broker.connection import Backoff, declined, named, place
from omps_worker.errors import BrokerRefused

PREFETCH = 20
"""How many results are on their way at once: a slow reader holds up the queue, not this process."""

TURN_SECONDS = 1.0


@dataclass(frozen=True)
class Arrival:
    """A message as it came."""

    topic: str
    id: str | None
    headers: Mapping[str, Any]
    body: bytes


class Watch:
    """``messages`` gives what is published on ``exchange`` under ``pattern`` from now on.

    ``notice`` is told what a person should know.
    """

    def __init__(
        self, where: pika.URLParameters, exchange: str, pattern: str, *, notice: Callable[[str], object]
    ) -> None:
        self._where = where
        self._exchange = exchange
        self._pattern = pattern
        self._notice = notice
        self._ever_there = False

    def messages(self) -> Iterator[Arrival]:
        """Each message, as it comes; ends never. Reconnects by itself.

        Raises BrokerRefused if the broker lets nobody in, or has no such exchange, at the first time.
        """
        backoff, told = Backoff(), False
        while True:
            try:
                for arrival in self._converse():
                    if told:
                        backoff.reset()
                        told = False
                    if arrival is not None:
                        yield arrival
            except (AMQPError, AMQPConnectorException, OSError, BrokerRefused) as error:
                found = named(error, self._where)
                if isinstance(found, BrokerRefused) and not self._ever_there:
                    raise found from None
                if not told:
                    missed = " Results may be missed meanwhile." if self._ever_there else ""
                    self._notice(f"waiting for the broker: {found.message}{missed}")
                    told = True
            time.sleep(backoff.next())

    def _converse(self) -> Iterator[Arrival | None]:
        """What comes on one connection; None now and then, also when it begins."""
        connection = pika.BlockingConnection(self._where)
        try:
            channel = connection.channel()
            queue = self._queue(channel)
            doing = "watching again" if self._ever_there else "watching"
            self._notice(f"{doing}: {self._pattern} on {place(self._where)}")
            self._ever_there = True
            yield None
            for method, properties, body in channel.consume(queue, inactivity_timeout=TURN_SECONDS):
                if method is None or properties is None or body is None:
                    yield None
                    continue
                message_id = properties.message_id
                yield Arrival(
                    headers.text(method.routing_key),
                    None if message_id is None else headers.text(message_id),
                    properties.headers or {},
                    body,
                )
                channel.basic_ack(method.delivery_tag or 0)
        finally:
            if connection.is_open:
                connection.close()

    def _queue(self, channel: BlockingChannel) -> str:
        channel.basic_qos(prefetch_count=PREFETCH)
        try:
            queue: str = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            channel.queue_bind(queue, self._exchange, self._pattern)
        except ChannelClosedByBroker as error:
            raise declined(
                error,
                f"a queue of our own bound to the exchange {self._exchange} (publish_exchange)",
                "The exchange must exist; the user needs to configure, write and read queues named amq.gen-….",
            ) from error
        return queue
