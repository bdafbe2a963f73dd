# SPDX-License-Identifier: GPL-3.0-or-later
"""A message of the failed queue, read: why it is there, and where it came from.

Two ways lead there. What a worker parked carries our headers. What the broker dead-lettered (the
message crashed worker after worker, or somebody rejected it) carries none that say why; the broker
tells in ``x-death``: a list of tables, the latest death first, each with queue, reason, time,
count, and the exchange and routing keys that the message had in that queue.
See https://www.rabbitmq.com/docs/dlx#effects.

Headers come from outside: whatever they hold, a message can be listed.
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
"""Stands for an error's name where the broker parked a message by itself."""

DEATHS_READ = 50
"""How many deaths of a message are looked at."""

TEXT_LIMIT = 4096
"""How many characters of a header are taken as an error's name or sentence."""


@dataclass(frozen=True)
class Death:
    """One entry of ``x-death``: the broker took the message out of ``queue``."""

    queue: str
    reason: str
    exchange: str | None
    topic: str | None
    count: int
    time: datetime | None

    def words(self, delivery_limit: int | None) -> str:
        """Why, as a sentence."""
        if self.reason == "delivery_limit":
            limit = "delivery limit" if delivery_limit is None else f"delivery limit of {delivery_limit}"
            return (
                f"Workers died, or lost the broker, with it in hand until the {limit} was reached. It may be what they "
                "died of, or one of those that were in hand beside it."
            )
        if self.reason == "rejected":
            return f"A consumer of the queue {self.queue} rejected it."
        if self.reason == "expired":
            return f"It stayed in the queue {self.queue} for longer than it may."
        if self.reason == "maxlen":
            return f"The queue {self.queue} was full."
        return f"The broker took it out of the queue {self.queue} ({self.reason or 'for no known reason'})."


@dataclass(frozen=True)
class ParkedMessage:
    """One copy. ``delivery`` is the message as a worker would have taken it from the bus."""

    delivery: Delivery
    parked: ParkedFailure
    deaths: tuple[Death, ...]
    looks: int
    """How often it was delivered from the failed queue before, which the broker may limit."""
    body: bytes = field(repr=False, default=b"")

    @property
    def properties(self) -> BasicProperties:
        """The AMQP properties, headers included, as they lie in the queue."""
        return self.delivery.properties


def read(
    properties: BasicProperties, body: bytes, queue: str, *, tag: int = 0, delivery_limit: int | None = None
) -> ParkedMessage:
    """What lies in the failed queue of ``queue``, whose delivery limit is named if it is known."""
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
    if deaths and _died_since(deaths[0], queue, parked_at):
        error, message, parked_at = DEAD_LETTERED, deaths[0].words(delivery_limit), deaths[0].time
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
        _whole(table.get("x-delivery-count")),
        body,
    )


def deaths_of_workers(table: Mapping[Any, Any], queue: str) -> int:
    """How many workers are known to have died with a parked message in hand; 1 where the broker parked it for that."""
    known = headers.deaths(table)
    if known:
        return known
    latest = next(_deaths(table), None)
    if latest is None or latest.reason != "delivery_limit":
        return 0
    return int(_died_since(latest, queue, headers.moment(table, headers.PARKED_AT)))


def event_in(properties: BasicProperties, body: bytes) -> BuildEvent | None:
    """The build that a message speaks of; None where it cannot be read or speaks of none."""
    try:
        found = events.decode(body, headers=properties.headers)
    except MessageError:
        return None
    return found if isinstance(found, BuildEvent) else None


def _died_since(death: Death, queue: str, parked_at: datetime | None) -> bool:
    # Somebody may have moved a parked message back by hand, and it died then.
    return parked_at is None or (death.queue == queue and death.time is not None and death.time > parked_at)


def _first_death(deaths: tuple[Death, ...]) -> Death | None:
    """The death that knows best where the message was published.

    It is the oldest one in which an exchange is named. In the default exchange, through which
    copies and dead letters travel, the routing key is but the name of a queue.
    """
    known = [death for death in reversed(deaths) if death.exchange and death.topic]
    return next(iter(known), deaths[-1] if deaths else None)


def _deaths(table: Mapping[Any, Any]) -> Iterator[Death]:
    value = table.get("x-death")
    for entry in value[:DEATHS_READ] if isinstance(value, list) else ():
        if not isinstance(entry, dict):
            continue
        keys = entry.get("routing-keys")
        yield Death(
            queue=_text(entry.get("queue")) or "",
            reason=_text(entry.get("reason")) or "",
            exchange=headers.short_text(entry, "exchange"),
            topic=headers.short_text({"key": keys[0]}, "key") if isinstance(keys, list) and keys else None,
            count=_whole(entry.get("count")),
            time=headers.moment(entry, "time"),
        )


def _text(value: Any) -> str | None:
    text = headers.text(value)
    return text[:TEXT_LIMIT] or None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
