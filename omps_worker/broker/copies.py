# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a message that goes to another queue of ours: the failed queue, or one of the retry queues.

A copy is the message as it came, with headers of ours added. What is different, and why:

* ``expiration`` is dropped: the copy would vanish from the queue when it runs out.
* ``user_id`` is dropped: the broker refuses one that is not ours.
* The headers ``CC`` and ``BCC`` become ``omps-cc`` and ``omps-bcc``: the broker would send further
  copies to the queues they name.
* ``x-delivery-count`` is dropped: it counts deliveries from the queue that the copy leaves.
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
"""How many bytes of an error's message a header holds; the result message has all of it."""

FINDINGS_BYTES = 16 * 1024
"""How many bytes the causes of an error have in a header."""

DEFAULT_FRAME = 131072
"""The largest frame that RabbitMQ takes unless configured otherwise; all headers stand in one."""

_OURS = {
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
"""Bytes of a frame that headers cannot use: its own head and end, and some room."""


def parked_copy(
    delivery: Delivery,
    error: WorkerError,
    targets: Sequence[str] | None,
    now: datetime,
    *,
    frame_max: int = DEFAULT_FRAME,
) -> BasicProperties:
    """The properties of the copy for the failed queue; its body is the message's.

    ``targets`` are those that failed, None if the work did not get as far as targets. Headers
    that cannot be encoded, or would not fit in one frame of ``frame_max`` bytes, are left out, the
    largest first, with a line in the log: otherwise the copy would never arrive.
    """
    properties = moved(delivery)
    table = _table(properties)
    table[headers.ERROR] = error.name
    table[headers.ERROR_MESSAGE] = bounded(error.message, MESSAGE_BYTES)
    table[headers.PARKED_AT] = headers.iso(now)
    table.pop(headers.FINDINGS, None)
    if causes := list(_causes(error)):
        table[headers.FINDINGS] = causes
    # Whatever else parks it, its worker has survived the work.
    table.pop(headers.DEATHS, None)
    if isinstance(error, PoisonMessage):
        table[headers.DEATHS] = error.deaths
    if targets is not None:
        table[headers.TARGETS] = list(targets)
    fit(properties, frame_max)
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
    """The properties of the copy for a retry queue: the next attempt, for ``targets`` alone.

    ``targets`` None leaves those that the message names already, if it does. Without ``counts`` it
    is the same attempt, put off once more; a header tells such copies apart. That the message once
    died in ``queue``, where the retry leads, is left out.
    """
    properties = moved(delivery)
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
    fit(properties, frame_max)
    return properties


def _causes(error: WorkerError) -> Iterator[str]:
    """The causes of ``error``, in so many bytes as the header may have."""
    room = FINDINGS_BYTES
    findings = error.details.get("findings")
    for cause in findings if isinstance(findings, list) else ():
        sentence = bounded(str(cause), MESSAGE_BYTES)
        room -= len(sentence.encode())
        if room < 0:
            return
        yield sentence


def moved(delivery: Delivery) -> BasicProperties:
    """The properties of a copy on its way to another queue of ours."""
    properties = copy.copy(delivery.properties)
    table: dict[Any, Any] = {
        headers.SENDER_SELECTED.get(name, name): value
        for name, value in delivery.headers.items()
        if name not in headers.OF_THE_QUEUE
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
    # RabbitMQ 3 believes x-death whoever wrote it, and drops without a word what would expire into a queue where
    # it died before: https://www.rabbitmq.com/docs/dlx#automatic-dead-lettering-cycles
    deaths = table.get("x-death")
    if isinstance(deaths, list):
        kept = [death for death in deaths if not (isinstance(death, dict) and death.get("queue") == queue)]
        if len(kept) < len(deaths):
            table["x-death"] = kept


def bounded(message: str, limit: int) -> str:
    """``message`` on one line, in at most ``limit`` bytes of UTF-8."""
    line = one_line(message)
    encoded = line.encode(errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"


def fit(properties: BasicProperties, frame_max: int) -> None:
    """Leave out headers that cannot be encoded, and the largest that do not fit in a frame, with a line in the log."""
    limit = frame_max - FRAME_OVERHEAD
    table = _table(properties)
    for name in [name for name, value in table.items() if _weight(name, value) is None]:
        _leave_out(properties, name, "it cannot be encoded")
    if _size(properties) <= limit:
        return
    if headers.ERROR_MESSAGE in table:
        table[headers.ERROR_MESSAGE] = bounded(table[headers.ERROR_MESSAGE], 64)
    if _size(properties) > limit:
        table.pop(headers.TARGETS, None)
    weights = {name: (_weight(name, table[name]) or 0) - _NO_HEADERS for name in set(table) - _OURS}
    strangers = sorted(weights, key=weights.__getitem__)
    excess = _size(properties) - limit
    while excess > 0 and strangers:
        name = strangers.pop()
        excess -= weights[name]
        _leave_out(properties, name, "the headers do not fit in one frame")


def _leave_out(properties: BasicProperties, name: Any, why: str) -> None:
    del _table(properties)[name]
    header, message = bounded(headers.text(name), 100), bounded(headers.text(properties.message_id), 100)
    log.warning("the header %s of message %s is left out of its copy: %s", header, message, why)


def _table(properties: BasicProperties) -> dict[Any, Any]:
    return cast("dict[Any, Any]", properties.headers)


def _weight(name: Any, value: Any) -> int | None:
    if _is_no_number(value):
        return None
    try:
        return _size(BasicProperties(headers={name: value}))
    except Exception:
        return None


def _is_no_number(value: Any) -> bool:
    """Whether there is a NaN or an infinity in it, for which RabbitMQ breaks off the connection."""
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
"""The size of a table that is empty."""
