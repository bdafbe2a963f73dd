# SPDX-License-Identifier: GPL-3.0-or-later
"""``ParkedMessage``: a message of the failed queue, decoded, with the reason why it is there and where it came from.

There are two ways into the queue. A message that a worker parked has ``omps-`` headers. A message that the broker
dead-lettered (it crashed worker after worker, or a consumer rejected it) has none that give a reason. The broker's
reason is in ``x-death``: a list of tables, the latest death first, each with queue, reason, time, count, and the
exchange and routing keys that the message had in that queue. See https://www.rabbitmq.com/docs/dlx#effects.

Headers come from outside: a message can be listed whatever they contain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.broker.queues.topology import failed_queue
from omps_worker.common.errors import MessageError
from omps_worker.common.model import BuildEvent
from omps_worker.messages import events
from omps_worker.messages.dead_letter import ParkedFailure

DEAD_LETTERED = "DeadLettered"
"""Replaces the name of the error if the broker itself parked a message."""

DEATHS_READ = 50
"""How many deaths of a message are read."""

TEXT_LIMIT = 4096
"""Maximum number of characters that are read from a header with an error's name or message."""


@dataclass(frozen=True)
class DeadLettering:
    """One entry of ``x-death``: the broker removed the message from ``queue``."""

    queue: str
    reason: str
    exchange: str | None
    topic: str | None
    count: int
    time: datetime | None

    def sentence(self, delivery_limit: int | None) -> str:
        """Return the reason as a sentence."""
        if self.reason == "delivery_limit":
            limit = "delivery limit" if delivery_limit is None else f"delivery limit of {delivery_limit}"
            return (
                f"Workers died, or lost the broker, with it in flight until the {limit} was reached. It may be the "
                "cause, or one of the other messages that were in flight."
            )
        if self.reason == "rejected":
            return f"A consumer of the queue {self.queue} rejected it."
        if self.reason == "expired":
            return f"It expired in the queue {self.queue}."
        if self.reason == "maxlen":
            return f"The queue {self.queue} was full."
        return f"The broker removed it from the queue {self.queue} ({self.reason or 'for an unknown reason'})."


@dataclass(frozen=True)
class ParkedMessage:
    """One copy in the failed queue. ``delivery`` is the message as a worker would have received it from the bus."""

    delivery: Delivery
    parked: ParkedFailure
    deaths: tuple[DeadLettering, ...]
    deliveries: int
    """How often it was delivered from the failed queue before; the broker may have a limit."""
    body: bytes = field(repr=False, default=b"")

    @property
    def properties(self) -> BasicProperties:
        """The AMQP properties, including headers, as they are in the queue."""
        return self.delivery.properties


def read(
    properties: BasicProperties, body: bytes, queue: str, *, tag: int = 0, delivery_limit: int | None = None
) -> ParkedMessage:
    """Return a message from the failed queue of ``queue``. The delivery limit of ``queue`` is named if it is known."""
    table: Mapping[Any, Any] = properties.headers or {}
    deaths = tuple(_deaths(table))
    first = _first_death(deaths)
    delivery = Delivery(
        DeliveryTag(0, tag),
        first.exchange or "" if first else "",
        first.topic or "" if first else "",
        False,
        properties,
        body,
        event_in(properties, body),
    )
    error, message = _text(table.get(headers.ERROR)), _text(table.get(headers.ERROR_MESSAGE))
    parked_at = headers.moment(table, headers.PARKED_AT)
    if deaths and _died_after_parking(deaths[0], queue, parked_at):
        error, message, parked_at = DEAD_LETTERED, deaths[0].sentence(delivery_limit), deaths[0].time
    return ParkedMessage(
        delivery,
        ParkedFailure(
            id=delivery.message_id,
            queue=failed_queue(queue),
            topic=delivery.topic,
            nvr=delivery.event.nvr if delivery.event else None,
            error=error,
            message=message,
            attempts=delivery.attempt.number,
            first_seen=headers.moment(table, headers.FIRST_SEEN),
            parked_at=parked_at,
        ),
        deaths,
        _positive_int(table.get("x-delivery-count")),
        body,
    )


def deaths_of_workers(table: Mapping[Any, Any], queue: str) -> int:
    """Return how many workers are known to have died with a parked message in flight.

    It is 1 if the broker parked the message at its delivery limit.
    """
    known = headers.deaths(table)
    if known:
        return known
    latest = next(_deaths(table), None)
    if latest is None or latest.reason != "delivery_limit":
        return 0
    return int(_died_after_parking(latest, queue, headers.moment(table, headers.PARKED_AT)))


def event_in(properties: BasicProperties, body: bytes) -> BuildEvent | None:
    """Return the build that a message is about; None if it cannot be decoded or is about none."""
    try:
        found = events.decode(body, headers=properties.headers)
    except MessageError:
        return None
    return found if isinstance(found, BuildEvent) else None


def _died_after_parking(death: DeadLettering, queue: str, parked_at: datetime | None) -> bool:
    # An operator may have moved a parked message back manually, and the broker dead-lettered it after that.
    return parked_at is None or (death.queue == queue and death.time is not None and death.time > parked_at)


def _first_death(deaths: tuple[DeadLettering, ...]) -> DeadLettering | None:
    """Return the death that best shows where the message was published.

    It is the oldest one that names an exchange. In the default exchange, through which copies and dead letters travel,
    the routing key is only the name of a queue.
    """
    known = [death for death in reversed(deaths) if death.exchange and death.topic]
    return next(iter(known), deaths[-1] if deaths else None)


def _deaths(table: Mapping[Any, Any]) -> Iterator[DeadLettering]:
    value = table.get("x-death")
    for entry in value[:DEATHS_READ] if isinstance(value, list) else ():
        if not isinstance(entry, dict):
            continue
        keys = entry.get("routing-keys")
        yield DeadLettering(
            queue=_text(entry.get("queue")) or "",
            reason=_text(entry.get("reason")) or "",
            exchange=headers.short_text(entry, "exchange"),
            topic=headers.short_text({"key": keys[0]}, "key") if isinstance(keys, list) and keys else None,
            count=_positive_int(entry.get("count")),
            time=headers.moment(entry, "time"),
        )


def _text(value: Any) -> str | None:
    text = headers.text(value)
    return text[:TEXT_LIMIT] or None


def _positive_int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
