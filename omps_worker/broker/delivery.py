# SPDX-License-Identifier: GPL-3.0-or-later
"""``Delivery``: one message as the broker delivered it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, cast

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.common.model import Attempt, BuildEvent, Source
from omps_worker.messages import events


@dataclass(frozen=True)
class DeliveryTag:
    """The tag with which a delivery is acked. It is valid on its channel only, which ``generation`` identifies."""

    generation: int
    number: int


@dataclass
class Delivery:
    """A message that the worker received, and that the broker keeps until it is acked.

    ``event`` is None if the message was not decoded, or cannot be.
    """

    tag: DeliveryTag
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes = field(repr=False)
    event: BuildEvent | None
    received_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def headers(self) -> dict[Any, Any]:
        """The headers as they were received; never None."""
        return cast("dict[Any, Any]", self.properties.headers or {})

    @cached_property
    def message_id(self) -> str:
        """The message's id. A message without one gets the id of its build, or of its body."""
        return headers.text(self.properties.message_id) or events.message_id_for(self.event, self.body)

    @property
    def topic(self) -> str:
        """The routing key that the message had on the bus."""
        return headers.short_text(self.headers, headers.TOPIC) or self.routing_key

    @property
    def first_exchange(self) -> str:
        """The exchange to which the message was published originally."""
        known = headers.short_text(self.headers, headers.EXCHANGE)
        return self.exchange if known is None else known

    @cached_property
    def first_seen(self) -> datetime:
        """When a worker first received the message."""
        return headers.first_seen(self.headers) or self.received_at

    @property
    def source(self) -> Source:
        """The message as results name it."""
        replays = headers.replayed(self.headers)
        moment = headers.moment(self.headers, headers.REPLAYED_AT)
        return Source(self.message_id, self.topic, replays, headers.iso(moment) if moment else None)

    @property
    def attempt(self) -> Attempt:
        """The attempt that this delivery is."""
        number = headers.attempt_number(self.headers)
        replayed = headers.replayed(self.headers) > 0
        return Attempt(
            number,
            interrupted=self.redelivered or number > 1 or replayed,
            waits=headers.waits(self.headers),
            late=replayed or headers.CATCH_UP in self.headers,
            targets=headers.open_targets(self.headers),
            first_seen=self.first_seen,
        )

    @cached_property
    def key(self) -> bytes:
        """A digest that is the same for every delivery of a message, and different for its retries and replays."""
        omps_headers = sorted(
            (name, repr(value)) for name, value in self.headers.items() if str(name).startswith("omps-")
        )
        # The id as received: a generated id follows from the rest, and a message that was not decoded has none yet.
        digest = hashlib.sha256(repr((self.properties.message_id, omps_headers)).encode(errors="surrogateescape"))
        digest.update(self.body)
        return digest.digest()
