# SPDX-License-Identifier: GPL-3.0-or-later
"""``Replay``: send a message to ``<queue>`` again, as if it came for the first time.

The copy goes through the default exchange, so no other consumer on the bus receives it. Its attempts count from 1
again, and so does the time until it is given up. ``omps-replayed-at`` tells the worker that earlier work may have got
further than is known. ``omps-replayed`` counts the replays, which distinguishes the results from earlier ones. The
error with which it was parked is dropped. A message that killed workers stays marked with ``omps-deaths``, so that it
is processed alone from the first delivery on.

``x-death`` is dropped, too: RabbitMQ 3 takes it for the message's own history, and silently drops a message that would
expire from a retry queue into a queue in which it died before (measured;
https://www.rabbitmq.com/docs/dlx#automatic-dead-lettering-cycles).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from pika.exceptions import ChannelClosedByBroker
from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.failures import refusal_error
from omps_worker.broker.copies import DEFAULT_FRAME, base_copy, fit_in_frame
from omps_worker.broker.dead_letters.dumps import restored
from omps_worker.broker.dead_letters.duplicates import needless
from omps_worker.broker.dead_letters.message import ParkedMessage, deaths_of_workers
from omps_worker.broker.delivery import Delivery
from omps_worker.broker.outbox import OutgoingMessage
from omps_worker.broker.publisher import ALARM_SECONDS, Publisher
from omps_worker.messages.files import StoredMessage

DROPPED_HEADERS = (
    headers.ATTEMPT,
    headers.WAITS,
    headers.FIRST_SEEN,
    headers.ERROR,
    headers.ERROR_MESSAGE,
    headers.FINDINGS,
    headers.PARKED_AT,
    headers.DEATHS,
    "x-death",
    *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("queue", "reason", "exchange")),
)
"""Headers of a parked message that its replay does not have."""


def replayed_copy(
    delivery: Delivery, now: datetime, *, queue: str = "", frame_max: int = DEFAULT_FRAME
) -> BasicProperties:
    """Return the properties of the copy for ``queue``. Its body is the message's."""
    properties = base_copy(delivery)
    kept = {name: value for name, value in (properties.headers or {}).items() if name not in DROPPED_HEADERS}
    times = headers.replayed(delivery.headers) + 1
    properties.headers = {**kept, headers.REPLAYED_AT: headers.iso(now), headers.REPLAYED: times}
    deaths = deaths_of_workers(delivery.headers, queue)
    if deaths:
        properties.headers[headers.DEATHS] = deaths
    fit_in_frame(properties, frame_max)
    return properties


class Replay:
    """Sends messages to one queue, each with a confirmation; a context manager."""

    def __init__(self, access: BrokerAccess, queue: str) -> None:
        self._access = access
        self._queue = queue
        self._publisher = Publisher(access)

    def __enter__(self) -> Replay:
        """Check that the queue exists, and begin to connect. Raises BrokerUnavailable or BrokerRefused."""
        with connected(self._access) as connection:
            try:
                connection.channel().queue_declare(self._queue, passive=True)
            except ChannelClosedByBroker as error:
                advice = "`omps-worker run` declares it; with passive_declares you have to."
                raise refusal_error(error, f"access to the queue {self._queue}", advice) from None
        self._publisher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.close()

    def read(self, stored: StoredMessage) -> ParkedMessage:
        """Return a message from a file, ready to be sent; the broker is not needed.

        Raises MessageError if it is damaged.
        """
        return restored(stored, self._queue)

    def needless(self, messages: Iterable[ParkedMessage]) -> set[int]:
        """Return the indexes of those of ``messages`` that need not be sent; see ``duplicates.needless``."""
        return needless(messages)

    def send(self, delivery: Delivery) -> None:
        """Return when the broker has confirmed that the copy is in the queue.

        Raises BrokerRefused if the copy is not in the queue, and BrokerUnavailable if it may be.
        """
        now = datetime.now(timezone.utc)
        properties = replayed_copy(delivery, now, queue=self._queue, frame_max=self._publisher.frame_max)
        copy = OutgoingMessage("", self._queue, delivery.body, properties, mandatory=True)
        self._publisher.publish(copy, alarm_seconds=ALARM_SECONDS)
