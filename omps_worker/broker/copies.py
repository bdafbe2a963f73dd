# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a message for another queue of the worker: the failed queue, or one of the retry queues.

A copy is the original message with additional ``omps-`` headers. The differences, and the reasons:

* ``expiration`` is dropped, because the copy would vanish from the queue when it runs out.
* ``user_id`` is dropped, because the broker refuses the id of another user.
* The headers ``CC`` and ``BCC`` become ``omps-cc`` and ``omps-bcc``, because the broker would send further copies to
  the queues that they name.
* ``x-delivery-count`` is dropped, because it counts deliveries from the queue that the copy leaves.
* ``delivery_mode`` is 2, persistent.
* A message without an id gets one.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, cast

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.delivery import Delivery
from omps_worker.common.errors import PoisonMessage, WorkerError
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

MESSAGE_BYTES = 1024
"""Maximum size of an error message in a header, in bytes. The result message contains all of it."""

FINDINGS_BYTES = 16 * 1024
"""Maximum size of the causes of an error in a header, in bytes."""

DEFAULT_FRAME = 131072
"""The largest frame in bytes that RabbitMQ accepts unless configured otherwise. All headers share one frame."""

_REQUIRED = {
    headers.TOPIC,
    headers.EXCHANGE,
    headers.ATTEMPT,
    headers.WAITS,
    headers.FIRST_SEEN,
    headers.ERROR,
    headers.PARKED_AT,
    headers.REPLAYED,
    headers.REPLAYED_AT,
    headers.DEATHS,
}

FRAME_OVERHEAD = 64
"""Bytes of a frame that headers cannot use: the frame's own header and end, and some room."""


def parked_copy(
    delivery: Delivery,
    error: WorkerError,
    targets: Sequence[str] | None,
    now: datetime,
    *,
    frame_max: int = DEFAULT_FRAME,
) -> BasicProperties:
    """Return the properties of the copy for the failed queue. Its body is the message's.

    ``targets`` are the targets that failed, or None if the work did not get as far as targets. Headers that cannot be
    encoded are left out, and so are the largest ones if all together do not fit in one frame of ``frame_max`` bytes.
    This is logged. With them, the copy could not be sent at all.
    """
    properties = base_copy(delivery)
    table = _table(properties)
    table[headers.ERROR] = error.name
    table[headers.ERROR_MESSAGE] = bounded(error.message, MESSAGE_BYTES)
    table[headers.PARKED_AT] = headers.iso(now)
    table.pop(headers.FINDINGS, None)
    if causes := list(_causes(error)):
        table[headers.FINDINGS] = causes
    # A worker that reports any other error has survived the message, so earlier deaths no longer count.
    table.pop(headers.DEATHS, None)
    if isinstance(error, PoisonMessage):
        table[headers.DEATHS] = error.deaths
    if targets is not None:
        table[headers.TARGETS] = list(targets)
    fit_in_frame(properties, frame_max)
    return properties


def waiting_copy(
    delivery: Delivery,
    error: WorkerError,
    targets: Sequence[str] | None,
    *,
    queue: str = "",
    counts: bool = True,
    frame_max: int = DEFAULT_FRAME,
) -> BasicProperties:
    """Return the properties of the copy for a retry queue: the next attempt, for ``targets`` alone.

    If ``targets`` is None, the targets that the message names stay as they are. If ``counts`` is False, the copy
    belongs to the same attempt, which is postponed, and ``omps-waits`` is incremented instead. Deaths of the message in
    ``queue``, the queue that the retry leads to, are removed from ``x-death``.
    """
    properties = base_copy(delivery)
    table = _table(properties)
    if counts:
        table[headers.ATTEMPT] = delivery.attempt.number + 1
    else:
        table[headers.WAITS] = headers.waits(delivery.headers) + 1
    table[headers.ERROR] = error.name
    table[headers.ERROR_MESSAGE] = bounded(error.message, MESSAGE_BYTES)
    table.pop(headers.PARKED_AT, None)
    table.pop(headers.FINDINGS, None)
    _forget_death(table, queue)
    if targets is not None:
        table[headers.TARGETS] = list(targets)
    fit_in_frame(properties, frame_max)
    return properties


def _causes(error: WorkerError) -> Iterator[str]:
    """Yield the causes of ``error`` that fit in the header."""
    room = FINDINGS_BYTES
    findings = error.details.get("findings")
    for cause in findings if isinstance(findings, list) else ():
        sentence = bounded(str(cause), MESSAGE_BYTES)
        room -= len(sentence.encode())
        if room < 0:
            return
        yield sentence


def base_copy(delivery: Delivery) -> BasicProperties:
    """Return the properties that every copy for another queue of the worker has."""
    properties = copy.copy(delivery.properties)
    table: dict[Any, Any] = {
        headers.SENDER_SELECTED.get(name, name): value
        for name, value in delivery.headers.items()
        if name not in headers.QUEUE_HEADERS
    }
    table[headers.TOPIC] = delivery.topic
    table[headers.EXCHANGE] = delivery.first_exchange
    table[headers.ATTEMPT] = delivery.attempt.number
    table[headers.FIRST_SEEN] = headers.iso(delivery.first_seen)
    properties.headers = table
    properties.expiration = None
    properties.user_id = None
    properties.delivery_mode = 2
    if not properties.message_id:
        properties.message_id = delivery.message_id
    return properties


def _forget_death(table: dict[Any, Any], queue: str) -> None:
    # RabbitMQ 3 trusts an x-death header written by a client. It silently drops a message that would expire into a
    # queue in which it died before: https://www.rabbitmq.com/docs/dlx#automatic-dead-lettering-cycles
    deaths = table.get("x-death")
    if isinstance(deaths, list):
        kept = [death for death in deaths if not (isinstance(death, dict) and death.get("queue") == queue)]
        if len(kept) < len(deaths):
            table["x-death"] = kept


def bounded(message: str, limit: int) -> str:
    """Return ``message`` on one line, in at most ``limit`` bytes of UTF-8."""
    line = one_line(message)
    encoded = line.encode(errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"


def fit_in_frame(properties: BasicProperties, frame_max: int) -> None:
    """Drop headers that cannot be encoded, and the largest headers that do not fit in a frame, and log each of them."""
    limit = frame_max - FRAME_OVERHEAD
    table = _table(properties)
    for name in [name for name, value in table.items() if _header_size(name, value) is None]:
        _leave_out(properties, name, "it cannot be encoded")
    if _size(properties) <= limit:
        return
    if headers.ERROR_MESSAGE in table:
        table[headers.ERROR_MESSAGE] = bounded(table[headers.ERROR_MESSAGE], 64)
    if _size(properties) > limit:
        table.pop(headers.TARGETS, None)
    sizes = {name: (_header_size(name, table[name]) or 0) - _NO_HEADERS for name in set(table) - _REQUIRED}
    droppable = sorted(sizes, key=sizes.__getitem__)
    excess = _size(properties) - limit
    while excess > 0 and droppable:
        name = droppable.pop()
        excess -= sizes[name]
        _leave_out(properties, name, "the headers do not fit in one frame")


def _leave_out(properties: BasicProperties, name: Any, reason: str) -> None:
    del _table(properties)[name]
    header, message = bounded(headers.text(name), 100), bounded(headers.text(properties.message_id), 100)
    log.warning("the header %s of message %s is left out of its copy: %s", header, message, reason)


def _table(properties: BasicProperties) -> dict[Any, Any]:
    return cast("dict[Any, Any]", properties.headers)


def _header_size(name: Any, value: Any) -> int | None:
    if _has_non_finite_number(value):
        return None
    try:
        return _size(BasicProperties(headers={name: value}))
    except Exception:
        return None


def _has_non_finite_number(value: Any) -> bool:
    """Return whether ``value`` contains a NaN or an infinity: RabbitMQ closes the connection for these."""
    found = [value]
    while found:
        value = found.pop()
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list):
            found += value
        elif isinstance(value, float) and not math.isfinite(value):
            return True
    return False


def _size(properties: BasicProperties) -> int:
    return sum(map(len, properties.encode()))


_NO_HEADERS = _size(BasicProperties(headers={}))
"""The size in bytes of properties with an empty header table."""
