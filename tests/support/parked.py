# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a failed queue."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from pika.spec import BasicProperties

from omps_worker.broker.dead_letters.failed_queue import FailedQueue
from tests.support.bus import Bus, build_body, topology, where
from tests.support.waiting import wait_until

BEGIN = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)
TOPIC = "org.example.buildsys.build.state.change"


def parked(number: int, /, *, error: str = "QuayCourierError", message_id: str = "", **more: Any) -> BasicProperties:
    """Return the properties of message ``number`` as a worker parks it, one message per second from BEGIN on."""
    moment = BEGIN + timedelta(seconds=number)
    ours = {
        "omps-topic": TOPIC,
        "omps-exchange": "amq.topic",
        "omps-attempt": 3,
        "omps-first-seen": BEGIN.isoformat(),
        "omps-error": error,
        "omps-error-message": f"The registry did not take it ({number}).",
        "omps-parked-at": moment.isoformat(),
    }
    return BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=message_id or f"id-{number}",
        headers={**ours, **more},
    )


def name(number: int) -> str:
    return f"build-{number}"


def fill(bus: Bus, messages: Iterable[tuple[BasicProperties, bytes]]) -> None:
    """Put messages into the failed queue, and wait until they have arrived."""
    count = 0
    with bus.channel() as channel:
        before = channel.queue_declare(bus.failed_queue, passive=True).method.message_count
        for properties, body in messages:
            channel.basic_publish("", bus.failed_queue, body, properties)
            count += 1
        # A busy broker may lose unconfirmed messages when their channel closes.
        wait_until(lambda: bus.depth(bus.failed_queue) == before + count, 60, "the messages")


def fill_with(bus: Bus, count: int) -> None:
    fill(bus, ((parked(number), build_body(number, name(number))) for number in range(count)))


def bodies(bus: Bus, queue: str) -> list[dict[str, Any]]:
    """Take all messages of a queue, and return their bodies."""
    return [json.loads(got.body) for got in bus.take_all(queue)]


def failed_queue_of(bus: Bus, **more: Any) -> FailedQueue:
    return FailedQueue(where(bus.url), topology(bus.queue), **more)
