# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers by which a message remembers what the broker forgets when it moves between queues.

Headers come from outside: each reader here returns something sane whatever it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from omps_worker.common import times

TOPIC = "omps-topic"
"""The routing key that the message had on the bus."""
EXCHANGE = "omps-exchange"
"""The exchange it came from."""
ATTEMPT = "omps-attempt"
"""The number of the attempt that this delivery is; absent: 1."""
WAITS = "omps-waits"
"""How often the message was put off because its package was busy, which is no attempt; absent: 0."""
FIRST_SEEN = "omps-first-seen"
"""When a worker first took the message: ISO 8601, UTC."""
TARGETS = "omps-targets"
"""The targets that are still open, an array of ``organization/repository``; absent: all."""
ERROR = "omps-error"
"""The name of the error that decided."""
ERROR_MESSAGE = "omps-error-message"
"""What it said, one sentence of bounded length."""
FINDINGS = "omps-error-findings"
"""Where the error has several causes, such as many faults in manifests: an array of sentences."""
PARKED_AT = "omps-parked-at"
"""When the copy went to the failed queue: ISO 8601, UTC."""
REPLAYED_AT = "omps-replayed-at"
"""When somebody sent a parked message again: ISO 8601, UTC. Its attempts count from 1 again."""
REPLAYED = "omps-replayed"
"""How many times somebody has sent it again; absent: 0."""
DEATHS = "omps-deaths"
"""How many times a worker died, or lost the broker, with the message in hand, before somebody sent it again."""
CATCH_UP = "omps-catch-up"
"""When a catch-up made the message, because that of the build system may never have come: ISO 8601, UTC."""

SENDER_SELECTED = {"CC": "omps-cc", "BCC": "omps-bcc"}
"""Headers by which the broker would route a copy elsewhere, and the names that copies have them under.

See https://www.rabbitmq.com/docs/sender-selected.
"""

_DELIVERIES = "x-delivery-count"

OF_THE_QUEUE = (_DELIVERIES, "x-acquired-count")
"""Headers that a quorum queue writes on delivery; they are not the message's own."""

FINDINGS_READ = 200
"""How many causes of an error are looked at."""

LARGEST_ATTEMPT = 1_000_000
SHORT_STRING = 255
"""How many bytes a routing key or an exchange's name has at most."""


def attempt_number(headers: Mapping[Any, Any]) -> int:
    """The number of the attempt; 1 where the header is absent or nonsense."""
    return _count(headers.get(ATTEMPT), 1)


def waits(headers: Mapping[Any, Any]) -> int:
    """How often the message was put off; 0 where the header is absent or nonsense."""
    return _count(headers.get(WAITS), 0)


def replayed(headers: Mapping[Any, Any]) -> int:
    """How many times the message was sent again; at least once where a header says when."""
    return _count(headers.get(REPLAYED), 1 if REPLAYED_AT in headers else 0)


def deaths(headers: Mapping[Any, Any]) -> int:
    """How many deaths an earlier copy of the message brought; 0 where the header is absent or nonsense."""
    return _count(headers.get(DEATHS), 0)


def deliveries(headers: Mapping[Any, Any]) -> int:
    """How often a quorum queue handed over the message before, and had it back. True only of what is redelivered."""
    return _count(headers.get(_DELIVERIES), 0)


def _count(value: Any, otherwise: int) -> int:
    if isinstance(value, str) and len(value) <= 7 and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_ATTEMPT:
        return int(value)
    return otherwise


def first_seen(headers: Mapping[Any, Any]) -> datetime | None:
    """When a worker first took the message; None where that is not known, or lies in the future."""
    seen = moment(headers, FIRST_SEEN)
    return seen if seen is not None and seen <= datetime.now(timezone.utc) else None


def findings(headers: Mapping[Any, Any]) -> list[str]:
    """The causes of the error, one sentence each."""
    value = headers.get(FINDINGS)
    return [text(each) for each in value[:FINDINGS_READ]] if isinstance(value, list) else []


def moment(headers: Mapping[Any, Any], name: str) -> datetime | None:
    """A header that holds a time, as text or as AMQP knows it, in UTC; None where it does not."""
    value = headers.get(name)
    try:
        if isinstance(value, str):
            return times.moment(value)
        if not isinstance(value, datetime):
            return None
        known = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return known.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def open_targets(headers: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The targets that are still open; None, which is all, where the header is absent or nonsense."""
    value = headers.get(TARGETS)
    if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
        return tuple(value)
    return None


def short_text(headers: Mapping[Any, Any], name: str) -> str | None:
    """A header that holds a short string; None where it does not."""
    value = headers.get(name)
    if isinstance(value, str) and len(value.encode()) <= SHORT_STRING:
        return value
    return None


def text(value: Any) -> str:
    """A routing key, id or type as text: what is not UTF-8 comes as bytes, and is made readable."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def iso(moment: datetime) -> str:
    """``moment`` as ISO 8601 in UTC."""
    return moment.astimezone(timezone.utc).isoformat()
