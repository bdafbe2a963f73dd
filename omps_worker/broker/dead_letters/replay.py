# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending a message to ``<queue>`` once more, as if it were the first time.

The copy goes through the default exchange, so that nobody else on the bus hears of it. Its attempts
and its time to give up count anew, and ``omps-replayed-at`` tells the worker that earlier work may
have got further than anybody knows. ``omps-replayed`` counts how often that was done, so that what comes of it
is told from what came before. The error that parked it is left behind. What workers died of
stays marked as such (``omps-deaths``), so that it is worked on alone from the first time on.

``x-death`` is left behind too: RabbitMQ 3 takes it for the message's own history and drops without a word
what would expire from a retry queue into a queue where it died before (measured;
https://www.rabbitmq.com/docs/dlx#automatic-dead-lettering-cycles).
"""

from __future__ import annotations

from datetime import datetime, timezone

from pika.exceptions import ChannelClosedByBroker
from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.failures import declined
from omps_worker.broker.copies import DEFAULT_FRAME, fit, moved
from omps_worker.broker.dead_letters.dumps import restored
from omps_worker.broker.dead_letters.message import ParkedMessage, deaths_of_workers
from omps_worker.broker.delivery import Delivery
from omps_worker.broker.outbox import OutgoingMessage
from omps_worker.broker.publisher import SOON_SECONDS, Publisher
from omps_worker.messages.files import StoredMessage

LEFT_BEHIND = (
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
    """The properties of the copy for ``queue``; its body is the message's."""
    properties = moved(delivery)
    kept = {name: value for name, value in (properties.headers or {}).items() if name not in LEFT_BEHIND}
    times = headers.replayed(delivery.headers) + 1
    properties.headers = {**kept, headers.REPLAYED_AT: headers.iso(now), headers.REPLAYED: times}
    deaths = deaths_of_workers(delivery.headers, queue)
    if deaths:
        properties.headers[headers.DEATHS] = deaths
    fit(properties, frame_max)
    return properties


class Replay:
    """Sends messages to one queue, each confirmed; a context manager."""

    def __init__(self, where: BrokerAccess, queue: str) -> None:
        self._where = where
        self._queue = queue
        self._publisher = Publisher(where)

    def __enter__(self) -> Replay:
        """Make sure that the queue is there. Raises BrokerUnavailable or BrokerRefused."""
        with connected(self._where) as connection:
            try:
                connection.channel().queue_declare(self._queue, passive=True)
            except ChannelClosedByBroker as error:
                advice = "`omps-worker run` declares it; with passive_declares it must be there."
                raise declined(error, f"messages for the queue {self._queue}", advice) from None
        self._publisher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.close()

    def read(self, stored: StoredMessage) -> ParkedMessage:
        """A message from a file, ready to be sent. Asks nobody. Raises MessageError if it is damaged."""
        return restored(stored, self._queue)

    def send(self, delivery: Delivery) -> None:
        """Return when the broker has confirmed that the copy is in the queue.

        Raises BrokerRefused, then it is not there, or BrokerUnavailable, then it may be.
        """
        now = datetime.now(timezone.utc)
        properties = replayed_copy(delivery, now, queue=self._queue, frame_max=self._publisher.frame_max)
        copy = OutgoingMessage("", self._queue, delivery.body, properties, mandatory=True)
        self._publisher.publish(copy, alarm_seconds=SOON_SECONDS)
