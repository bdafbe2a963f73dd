# SPDX-License-Identifier: GPL-3.0-or-later
"""``Subscription``: a consumer on a channel, with a prefetch that can be changed.

A quorum queue has no prefetch limit for a channel as a whole, and a consumer keeps the limit that it began with. A new
limit therefore requires a new consumer on the same channel. Messages that the old consumer received stay in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel


class Subscription:
    """A subscription to ``queue``; there is none at first."""

    def __init__(self, channel: BlockingChannel, queue: str, on_message: Callable[..., Any]) -> None:
        self._channel = channel
        self._queue = queue
        self._on_message = on_message
        self._tag = ""
        self.size = 0
        """How many messages the broker delivers ahead of their acks; 0: it delivers none."""

    def resize(self, size: int) -> None:
        """Receive this many messages ahead from now on. Messages received before do not count.

        pika returns messages that arrive during the change to the broker.
        """
        if self._tag:
            tag, self._tag, self.size = self._tag, "", 0
            self._channel.basic_cancel(tag)
        if size:
            self._channel.basic_qos(prefetch_count=size)
            self._tag, self.size = self._channel.basic_consume(self._queue, self._on_message), size
