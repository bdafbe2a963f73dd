# SPDX-License-Identifier: GPL-3.0-or-later
"""``Scan``: one pass over the failed queue: every message that was there when it began, in order.

* Messages come in windows, a channel with one consumer each, so that at most one window is on its way at a time. This
  also preserves the order: RabbitMQ 3.10 returns the messages that one consumer held in their order, but messages from
  ``basic.get`` and nacked ones in any order (measured).
* A message on its way to the scan is no longer *ready*, like a message that another process has in flight. A queue
  without a ready message therefore proves nothing. But the broker answers in order on a channel. Asked there, it
  answers after everything that it sent before, however long that takes. If a message has not arrived by then, the
  broker is not sending it.
* Nothing is cut off for being slow. Heartbeats end a link on which nothing arrives any more (``slow_link.py``), and
  ``PATIENCE_SECONDS`` limits the wait for a broker that is there and delivers nothing.
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
"""How many messages are on their way at once: first one, to see how large it is, then more, so that even a huge queue
needs only a few channels.
"""

WINDOW_BYTES = 32 * 1024 * 1024
"""About how many bytes are on their way at once, if the next messages are no larger than the largest one so far."""

MOST_WINDOWS = 500
"""Maximum number of channels of a scan. A broker allows about two thousand on a connection. Near this number, windows
grow regardless of their size in bytes.
"""

QUIET_SECONDS = 1.0
"""After how many seconds without a message the broker is asked whether one is on its way."""

TAKEN_SECONDS = 5.0
"""If for this many seconds no message is ready and none is on its way, another process has taken the rest."""

PATIENCE_SECONDS = 30.0
"""If for this many seconds messages are ready and none is on its way, the broker counts as unable to deliver them."""

RETURN_SECONDS = 5.0
"""How long to wait until the broker has everything back, in seconds. It gets everything back in any case."""

Seen = Callable[[int, int], object]
"""Called with the number of messages seen, and the number of messages to see."""


class Scan:
    """An iterator over the selected messages that were in the queue when the scan began; ``ready`` of all were ready.

    ``name`` is the queue's name: the failed queue of ``topology``, or another queue of the worker. Raises
    BrokerUnavailable if the broker delivers nothing although messages are there. If another process took some of them,
    the iterator ends, and ``missing`` is their number.
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
        """The number of messages that were ready when the scan began."""
        self._report_progress = seen
        limit = None if topology.passive else topology.arguments.get("x-delivery-limit")
        self._delivery_limit = limit if isinstance(limit, int) else None
        self._windows: list[_ScanChannel] = []
        self._arrived: deque[tuple[_ScanChannel, ParkedMessage]] = deque()
        self._current: tuple[_ScanChannel, ParkedMessage] | None = None
        self._largest = 1
        self._now = datetime.now(timezone.utc)
        self.seen = 0
        """The number of messages seen so far, selected or not."""
        self.missing = 0
        """The number of messages that could not be seen because another process had taken them."""
        self.most_deliveries = 0
        """The highest number of earlier deliveries of any message."""

    def __iter__(self) -> Iterator[ParkedMessage]:
        while self.seen < self.ready:
            if not self._arrived and not self._receive():
                self.missing = self.ready - self.seen
                return
            self._current = self._arrived.popleft()
            message = self._current[1]
            self.seen += 1
            self.most_deliveries = max(self.most_deliveries, message.deliveries)
            self._report_progress(self.seen, self.ready)
            if self._selection.matches(message.parked, self._now):
                yield message

    def remove(self, message: ParkedMessage) -> None:
        """Remove the message that was yielded last from the queue."""
        if self._current is None or self._current[1] is not message:
            raise ValueError("only the message that was yielded last can be removed")
        window = self._current[0]
        window.channel.basic_ack(message.delivery.tag.number)
        window.removed += 1

    def give_back(self) -> None:
        """Return what was not removed to the queue, in order, and wait until the broker has it."""
        control = self._connection.channel()
        end = time.monotonic() + RETURN_SECONDS
        for window in self._windows:
            # Otherwise it would receive what the other channels return, which would change the order.
            window.stop_receiving()
        for window in self._windows:
            expected = self._depth(control) + window.in_flight
            window.channel.close()
            while self._depth(control) < expected and time.monotonic() < end:
                self._connection.sleep(0.01)

    def _depth(self, channel: BlockingChannel) -> int:
        return channel.queue_declare(self._name, passive=True).method.message_count

    def _receive(self) -> bool:
        """Wait for the next messages; return False if another process took the rest."""
        if not self._windows or self._windows[-1].closed:
            self._open_window()
        window = self._windows[-1]
        none_ready_since = none_coming_since = None
        while not self._arrives(window, QUIET_SECONDS):
            # The answer may take long: it arrives after everything that is on its way.
            ready = self._depth(window.channel)
            if self._arrives(window, 0):
                break
            now = time.monotonic()
            none_coming_since = none_coming_since or now
            none_ready_since = (none_ready_since or now) if ready == 0 else None
            if none_ready_since is not None and now > none_ready_since + TAKEN_SECONDS:
                return False
            if now > none_coming_since + PATIENCE_SECONDS:
                raise BrokerUnavailable(
                    f"The broker delivers nothing, although {ready} message(s) are parked in {self._name}; "
                    "try again later."
                )
        if window.full:
            window.stop_receiving()
        return True

    def _arrives(self, window: _ScanChannel, seconds: float) -> bool:
        """Return whether a message arrives within this many seconds."""
        end = time.monotonic() + seconds
        while not self._arrived:
            self._connection.process_data_events(time_limit=max(end - time.monotonic(), 0))
            if not window.channel.is_open:
                raise BrokerUnavailable("The broker closed the channel; all parked messages are still there.")
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
    """A channel on which ``size`` messages may be in flight, and no more."""

    def __init__(self, channel: BlockingChannel, size: int) -> None:
        self.channel = channel
        self.size = size
        self.arrived = 0
        self.removed = 0
        self.consumer_tag = ""
        self.closed = False
        """Whether it receives no more messages."""

    def stop_receiving(self) -> None:
        """Receive no more messages; those in flight stay."""
        if not self.closed:
            self.closed = True
            self.channel.basic_cancel(self.consumer_tag)

    @property
    def in_flight(self) -> int:
        """The number of messages in flight."""
        return self.arrived - self.removed

    @property
    def full(self) -> bool:
        """Whether the broker sends no more messages on it."""
        return self.in_flight >= self.size
