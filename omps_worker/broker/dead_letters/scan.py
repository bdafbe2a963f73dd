# SPDX-License-Identifier: GPL-3.0-or-later
"""One look through the failed queue: every message that was there when it began, in order.

* Messages come in windows, a channel with one consumer each, so that neither side ever has more
  than a window on its way. The order survives, too: RabbitMQ 3.10 gives back what one consumer
  held in order, but what was got one by one (``basic.get``), or nacked, in any order (measured).
* A message on its way to us is no longer *ready*, just like one that somebody else has in hand. So
  a queue without a ready message proves nothing. What does: on one channel the broker answers in
  order. Asked there, it answers after everything that it sent before, however long that takes;
  what has not come by then, nobody is sending.
* Nothing is cut off for being slow. A link on which nothing comes any more is ended by the
  heartbeats (``slow_link.py``), a broker that is there and hands over nothing by ``PATIENCE_SECONDS``.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.spec import Basic, BasicProperties

from omps_worker.broker.dead_letters import message as parked_message
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.errors import BrokerUnavailable
from omps_worker.messages.dead_letter import FailureSelection

FIRST_WINDOW, GROWTH, LARGEST_WINDOW = 1, 16, 4000
"""How many messages are on their way at once: one, to see how large it is, then more, so that a huge queue needs
few channels."""

WINDOW_BYTES = 32 * 1024 * 1024
"""About how much is on its way at once, if the next messages are no larger than the largest so far."""

MOST_WINDOWS = 500
"""Channels of one look; a broker allows about two thousand on a connection. Beyond, windows grow whatever they hold."""

QUIET_SECONDS = 1.0
"""After how long without a message to ask the broker whether there is one on its way."""

TAKEN_SECONDS = 5.0
"""For how long no message is ready, and none on its way, until the rest counts as taken by somebody else."""

PATIENCE_SECONDS = 30.0
"""For how long messages are ready, and none on its way, until the broker counts as unable to hand them over."""

RETURN_SECONDS = 5.0
"""How long to wait until the broker has everything back; it has it sooner or later in any case."""

Seen = Callable[[int, int], object]
"""Called with how many messages were seen, and of how many."""


class Scan:
    """An iterator over the selected messages that were there when the look began, of which ``ready`` were ready.

    ``name`` is the queue's: the failed queue of ``topology``, or another one of ours. Raises BrokerUnavailable where
    the broker hands over nothing though messages are there. Where somebody else took some of them, it ends, and
    ``missing`` is how many.
    """

    def __init__(
        self,
        connection: BlockingConnection,
        topology: Topology,
        name: str,
        selection: FailureSelection,
        ready: int,
        seen: Seen,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._name = name
        self._selection = selection
        self.ready = ready
        """How many messages were ready when the look began."""
        self._report = seen
        limit = None if topology.passive else topology.arguments.get("x-delivery-limit")
        self._delivery_limit = limit if isinstance(limit, int) else None
        self._windows: list[_ScanChannel] = []
        self._arrived: deque[tuple[_ScanChannel, ParkedMessage]] = deque()
        self._at_hand: tuple[_ScanChannel, ParkedMessage] | None = None
        self._largest = 1
        self._now = datetime.now(timezone.utc)
        self.seen = 0
        """How many messages were seen, selected or not."""
        self.missing = 0
        """How many were there and could not be seen, for somebody else had taken them."""
        self.most_looks = 0
        """How often the message was delivered before that was delivered most often."""

    def __iter__(self) -> Iterator[ParkedMessage]:
        while self.seen < self.ready:
            if not self._arrived and not self._receive():
                self.missing = self.ready - self.seen
                return
            self._at_hand = self._arrived.popleft()
            message = self._at_hand[1]
            self.seen += 1
            self.most_looks = max(self.most_looks, message.looks)
            self._report(self.seen, self.ready)
            if self._selection.matches(message.parked, self._now):
                yield message

    def remove(self, message: ParkedMessage) -> None:
        """Take the message that was yielded last out of the queue."""
        if self._at_hand is None or self._at_hand[1] is not message:
            raise ValueError("only the message at hand can be removed")
        window = self._at_hand[0]
        window.channel.basic_ack(message.delivery.tag.number)
        window.removed += 1

    def give_back(self) -> None:
        """Return what was not removed, in order, and wait until the broker has it."""
        control = self._connection.channel()
        end = time.monotonic() + RETURN_SECONDS
        for window in self._windows:
            # Or it would be sent what the others give back, and so change the order.
            window.close_for_more()
        for window in self._windows:
            expected = self._depth(control) + window.kept
            window.channel.close()
            while self._depth(control) < expected and time.monotonic() < end:
                self._connection.sleep(0.01)

    def _depth(self, channel: BlockingChannel) -> int:
        return channel.queue_declare(self._name, passive=True).method.message_count

    def _receive(self) -> bool:
        """Wait for the next messages; False if somebody else took what is left."""
        if not self._windows or self._windows[-1].closed:
            self._open_window()
        window = self._windows[-1]
        none_ready_since = none_coming_since = None
        while not self._comes(window, QUIET_SECONDS):
            # The answer may take long: it comes behind everything that is on its way.
            ready = self._depth(window.channel)
            if self._comes(window, 0):
                break
            now = time.monotonic()
            none_coming_since = none_coming_since or now
            none_ready_since = (none_ready_since or now) if ready == 0 else None
            if none_ready_since is not None and now > none_ready_since + TAKEN_SECONDS:
                return False
            if now > none_coming_since + PATIENCE_SECONDS:
                raise BrokerUnavailable(
                    f"The broker hands over nothing, though {ready} message(s) are parked in {self._name}; "
                    "try again later."
                )
        if window.full:
            window.close_for_more()
        return True

    def _comes(self, window: _ScanChannel, seconds: float) -> bool:
        """Whether a message comes within so many seconds."""
        end = time.monotonic() + seconds
        while not self._arrived:
            self._connection.process_data_events(time_limit=max(end - time.monotonic(), 0))
            if not window.channel.is_open:
                raise BrokerUnavailable("The broker closed the channel; everything that is parked is still there.")
            if time.monotonic() >= end:
                break
        return bool(self._arrived)

    def _open_window(self) -> None:
        left = self.ready - self.seen
        size = min(self._windows[-1].size * GROWTH, LARGEST_WINDOW) if self._windows else FIRST_WINDOW
        size = max(
            min(size, WINDOW_BYTES // self._largest), math.ceil(left / max(MOST_WINDOWS - len(self._windows), 1))
        )
        size = min(size, left)
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=size)
        window = _ScanChannel(channel, size)
        self._windows.append(window)

        def arrived(_channel: Any, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            window.arrived += 1
            self._largest = max(self._largest, len(body))
            message = parked_message.read(
                properties,
                body,
                self._topology.queue,
                tag=method.delivery_tag or 0,
                delivery_limit=self._delivery_limit,
            )
            self._arrived.append((window, message))

        window.consumer_tag = channel.basic_consume(self._name, arrived)


class _ScanChannel:
    """A channel on which so many messages are in hand, and no more."""

    def __init__(self, channel: BlockingChannel, size: int) -> None:
        self.channel = channel
        self.size = size
        self.arrived = 0
        self.removed = 0
        self.consumer_tag = ""
        self.closed = False
        """Whether nothing more is received on it."""

    def close_for_more(self) -> None:
        """Receive nothing more; what is in hand stays there."""
        if not self.closed:
            self.closed = True
            self.channel.basic_cancel(self.consumer_tag)

    @property
    def kept(self) -> int:
        """How many are in hand."""
        return self.arrived - self.removed

    @property
    def full(self) -> bool:
        """Whether the broker sends no more on it."""
        return self.kept >= self.size
