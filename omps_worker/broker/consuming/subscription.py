# SPDX-License-Identifier: GPL-3.0-or-later
"""A consumer on a channel, whose window can be changed while it lives.

A quorum queue has no limit for a channel as a whole, and a consumer keeps the one that it began with.
So a new window means a new consumer on the same channel; what the old one received stays in hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel


class Subscription:
    """To ``queue``; at first there is none."""

    def __init__(self, channel: BlockingChannel, queue: str, on_message: Callable[..., Any]) -> None:
        self._channel = channel
        self._queue = queue
        self._on_message = on_message
        self._tag = ""
        self.size = 0
        """How many messages the broker hands over ahead of their acks; 0: it hands over none."""

    def resize(self, size: int) -> None:
        """From now on so many. What was received before does not count.

        What arrives in that very moment is given back by pika.
        """
        if self._tag:
            tag, self._tag, self.size = self._tag, "", 0
            self._channel.basic_cancel(tag)
        if size:
            self._channel.basic_qos(prefetch_count=size)
            self._tag, self.size = self._channel.basic_consume(self._queue, self._on_message), size
