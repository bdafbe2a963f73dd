# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers that record what the broker forgets when a message moves between queues.

Headers come from outside: each function here returns a valid value, whatever a header contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from omps_worker.common import times

TOPIC = "omps-topic"
"""The routing key that the message had on the bus."""
EXCHANGE = "omps-exchange"
"""The exchange to which it was published."""
ATTEMPT = "omps-attempt"
"""The number of the attempt that this delivery is; absent: 1."""
WAITS = "omps-waits"
"""How often the message was postponed because its package was locked, which is not an attempt; absent: 0."""
FIRST_SEEN = "omps-first-seen"
"""When a worker first received the message: ISO 8601, UTC."""
TARGETS = "omps-targets"
"""The targets that are still open, an array of ``organization/repository``; absent: all."""
ERROR = "omps-error"
"""The name of the error that decided what became of the message."""
ERROR_MESSAGE = "omps-error-message"
"""The message of that error, one sentence of limited length."""
FINDINGS = "omps-error-findings"
"""The causes, if the error has several, such as many faults in manifests: an array of sentences."""
PARKED_AT = "omps-parked-at"
"""When the copy was sent to the failed queue: ISO 8601, UTC."""
REPLAYED_AT = "omps-replayed-at"
"""When a parked message was replayed: ISO 8601, UTC. Its attempts count from 1 again."""
REPLAYED = "omps-replayed"
"""How many times it has been replayed; absent: 0."""
DEATHS = "omps-deaths"
"""How many times a worker died, or lost the broker, with the message in flight, before the message was replayed."""
CATCH_UP = "omps-catch-up"
"""When a catch-up created the message, because the build system's own may never have come: ISO 8601, UTC."""

SENDER_SELECTED = {"CC": "omps-cc", "BCC": "omps-bcc"}
"""Headers by which the broker would route a copy elsewhere, and the names that they have in copies.

See https://www.rabbitmq.com/docs/sender-selected.
"""

_DELIVERIES = "x-delivery-count"

QUEUE_HEADERS = (_DELIVERIES, "x-acquired-count")
"""Headers that a quorum queue sets on delivery; they do not belong to the message."""

FINDINGS_READ = 200
"""How many causes of an error are read."""

LARGEST_ATTEMPT = 1_000_000
SHORT_STRING = 255
"""Maximum length in bytes of a routing key or of an exchange's name."""


def attempt_number(headers: Mapping[Any, Any]) -> int:
    """Return the number of the attempt; 1 if the header is absent or invalid."""
    return _count(headers.get(ATTEMPT), 1)


def waits(headers: Mapping[Any, Any]) -> int:
    """Return how often the message was postponed; 0 if the header is absent or invalid."""
    return _count(headers.get(WAITS), 0)


def replayed(headers: Mapping[Any, Any]) -> int:
    """Return how many times the message was replayed; at least 1 if ``omps-replayed-at`` is present."""
    return _count(headers.get(REPLAYED), 1 if REPLAYED_AT in headers else 0)


def deaths(headers: Mapping[Any, Any]) -> int:
    """Return how many workers died with an earlier copy of the message; 0 if the header is absent or invalid."""
    return _count(headers.get(DEATHS), 0)


def deliveries(headers: Mapping[Any, Any]) -> int:
    """Return how often a quorum queue delivered the message before and got it back.

    This is reliable only for redelivered messages.
    """
    return _count(headers.get(_DELIVERIES), 0)


def _count(value: Any, otherwise: int) -> int:
    if isinstance(value, str) and len(value) <= 7 and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_ATTEMPT:
        return int(value)
    return otherwise


def first_seen(headers: Mapping[Any, Any]) -> datetime | None:
    """Return when a worker first received the message; None if that is unknown or in the future."""
    seen = moment(headers, FIRST_SEEN)
    return seen if seen is not None and seen <= datetime.now(timezone.utc) else None


def findings(headers: Mapping[Any, Any]) -> list[str]:
    """Return the causes of the error, one sentence each."""
    value = headers.get(FINDINGS)
    return [text(each) for each in value[:FINDINGS_READ]] if isinstance(value, list) else []


def moment(headers: Mapping[Any, Any], name: str) -> datetime | None:
    """Return the time in a header, as text or as an AMQP timestamp, in UTC; None if it contains no time."""
    value = headers.get(name)
    try:
        if isinstance(value, str):
            return times.parse_time(value)
        if not isinstance(value, datetime):
            return None
        known = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return known.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def open_targets(headers: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return the targets that are still open; None, which means all, if the header is absent or invalid."""
    value = headers.get(TARGETS)
    if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
        return tuple(value)
    return None


def short_text(headers: Mapping[Any, Any], name: str) -> str | None:
    """Return the short string in a header; None if it contains none."""
    value = headers.get(name)
    if isinstance(value, str) and len(value.encode()) <= SHORT_STRING:
        return value
    return None


def text(value: Any) -> str:
    """Return a routing key, id or type as text.

    pika returns bytes for one that is not UTF-8; these are decoded with replacements.
    """
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def iso(moment: datetime) -> str:
    """Return ``moment`` as ISO 8601 in UTC."""
    return moment.astimezone(timezone.utc).isoformat()
