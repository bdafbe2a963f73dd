# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the results on the bus, on a queue of one's own that ends with its connection.

What the broker had no queue for while we were away is gone: it is told that something may be missing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker

from omps_worker.broker import headers
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.backoff import Backoff
from omps_worker.broker.connection.failures import declined
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable

PREFETCH = 20
"""How many results are on their way at once: a slow reader holds up the queue, not this process."""

TURN_SECONDS = 1.0

STEADY_SECONDS = 10.0
"""A connection that lived that long is no part of a series of failures."""


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as it came."""

    topic: str
    id: str | None
    headers: Mapping[str, Any]
    body: bytes


class Watch:
    """``messages`` gives what is published on ``exchange`` under ``pattern`` from now on.

    ``notice`` is told what a person should know.
    """

    def __init__(self, where: BrokerAccess, exchange: str, pattern: str, *, notice: Callable[[str], object]) -> None:
        self._where = where
        self._exchange = exchange
        self._pattern = pattern
        self._notice = notice
        self._ever_there = False

    def messages(self) -> Generator[ReceivedMessage, None, None]:
        """Each message, as it comes; ends never. Reconnects by itself. To be closed, which ends the connection.

        Raises BrokerRefused if the broker lets nobody in, or has no such exchange, at the first time.
        """
        backoff, told = Backoff(), False
        while True:
            begun = time.monotonic()
            try:
                with contextlib.closing(self._converse()) as arrivals:
                    for arrival in arrivals:
                        told = False
                        if arrival is not None:
                            yield arrival
            except (AMQPError, AMQPConnectorException, OSError, BrokerError) as error:
                found = self._where.named(error)
                if isinstance(found, BrokerRefused) and not self._ever_there:
                    raise found from None
                if time.monotonic() - begun > STEADY_SECONDS:
                    backoff.reset()
                if not told:
                    missed = " Results may be missed meanwhile." if self._ever_there else ""
                    self._notice(f"waiting for the broker: {found.message}{missed}")
                    told = True
            time.sleep(backoff.next())

    def _converse(self) -> Generator[ReceivedMessage | None, None, None]:
        """What comes on one connection; None now and then, also when it begins."""
        connection = self._where.connect()
        try:
            channel = connection.channel()
            queue = self._queue(channel)
            doing = "watching again" if self._ever_there else "watching"
            self._notice(f"{doing}: {self._pattern} on {self._where.place}")
            self._ever_there = True
            yield None
            for method, properties, body in channel.consume(queue, inactivity_timeout=TURN_SECONDS):
                if method is None or properties is None or body is None:
                    yield None
                    continue
                message_id = properties.message_id
                yield ReceivedMessage(
                    headers.text(method.routing_key),
                    None if message_id is None else headers.text(message_id),
                    properties.headers or {},
                    body,
                )
                channel.basic_ack(method.delivery_tag or 0)
            raise BrokerUnavailable(f"The broker ({self._where.place}) took our queue away.")
        finally:
            # An interrupted connection may be unable to say goodbye; the broker removes the queue all the same.
            with contextlib.suppress(Exception):
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
                "The exchange must exist, and the user must be allowed to configure, write and read queues named "
                f"amq.gen-…, and to read {self._exchange}, with topics like {self._pattern}; passive_declares "
                "changes nothing about that. OMPS_WORKER_AMQP_URL can name another user.",
            ) from error
        return queue
