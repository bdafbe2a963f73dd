# SPDX-License-Identifier: GPL-3.0-or-later
"""``Watch``: follow the results on the bus, through a temporary queue that ends with its connection.

Results that are published while the connection is lost are not received. The user is told that some may be missing.
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
from omps_worker.broker.connection.failures import refusal_error
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable

PREFETCH = 20
"""How many results may be on their way at once. If the reader is slow, results wait in the queue, not in this process.
"""

TURN_SECONDS = 1.0

STEADY_SECONDS = 10.0
"""A connection that lasts this many seconds resets the backoff."""


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as it was received."""

    topic: str
    id: str | None
    headers: Mapping[str, Any]
    body: bytes


class Watch:
    """Follows what is published on ``exchange`` under ``pattern``; ``messages`` yields it.

    ``notice`` is called with texts for the user.
    """

    def __init__(self, access: BrokerAccess, exchange: str, pattern: str, *, notice: Callable[[str], object]) -> None:
        self._access = access
        self._exchange = exchange
        self._pattern = pattern
        self._notice = notice
        self._ever_connected = False

    def messages(self) -> Generator[ReceivedMessage, None, None]:
        """Yield each message as it arrives, without end, and reconnect automatically.

        Close the generator to disconnect. Raises BrokerRefused if the broker refuses the login or does not have the
        exchange, but only before the first successful connection.
        """
        backoff, noticed = Backoff(), False
        while True:
            begun = time.monotonic()
            try:
                with contextlib.closing(self._run_connection()) as arrivals:
                    for arrival in arrivals:
                        noticed = False
                        if arrival is not None:
                            yield arrival
            except (AMQPError, AMQPConnectorException, OSError, BrokerError) as error:
                found = self._access.as_broker_error(error)
                if isinstance(found, BrokerRefused) and not self._ever_connected:
                    raise found from None
                if time.monotonic() - begun > STEADY_SECONDS:
                    backoff.reset()
                if not noticed:
                    missed = " Results may be missed in the meantime." if self._ever_connected else ""
                    self._notice(f"waiting for the broker: {found.message}{missed}")
                    noticed = True
            time.sleep(backoff.next())

    def _run_connection(self) -> Generator[ReceivedMessage | None, None, None]:
        """Yield the messages of one connection.

        Also yield None at the beginning, and when nothing arrives for a while.
        """
        connection = self._access.connect()
        try:
            channel = connection.channel()
            queue = self._declare_queue(channel)
            doing = "watching again" if self._ever_connected else "watching"
            self._notice(f"{doing}: {self._pattern} on {self._access.place}")
            self._ever_connected = True
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
            raise BrokerUnavailable(f"The broker ({self._access.place}) removed the queue of this command.")
        finally:
            # An interrupted connection may be unable to close properly. The broker removes the queue in any case.
            with contextlib.suppress(Exception):
                connection.close()

    def _declare_queue(self, channel: BlockingChannel) -> str:
        channel.basic_qos(prefetch_count=PREFETCH)
        try:
            queue: str = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            channel.queue_bind(queue, self._exchange, self._pattern)
        except ChannelClosedByBroker as error:
            raise refusal_error(
                error,
                f"a temporary queue bound to the exchange {self._exchange} (publish_exchange)",
                "The exchange must exist, and the user must be allowed to configure, write and read queues named "
                f"amq.gen-…, and to read {self._exchange}, with topics like {self._pattern}. passive_declares "
                "does not change this. OMPS_WORKER_AMQP_URL can name another user.",
            ) from error
        return queue
