# SPDX-License-Identifier: GPL-3.0-or-later
"""``Acks``: which deliveries of a channel are acked, and when. It sends as few acks as possible, and none too early.

An ack with ``multiple`` covers every delivery up to its tag, so it must stay below the oldest tag whose work is not
finished.
"""

from __future__ import annotations

from typing import Protocol


class AckChannel(Protocol):
    """The part of a channel that ``Acks`` uses."""

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> object:
        """Ack one delivery, or all deliveries up to it."""
        ...


class Acks:
    """The deliveries of one channel, whose tags grow.

    Each delivery is either held while its work runs, or settled immediately. Settled deliveries are acked.
    """

    def __init__(self, channel: AckChannel, batch_size: int) -> None:
        self._channel = channel
        self._batch_size = max(batch_size, 1)
        self._held: dict[int, None] = {}
        self._settled: list[int] = []

    @property
    def held(self) -> int:
        """The number of deliveries that are in flight."""
        return len(self._held)

    def hold(self, tag: int) -> None:
        """Register a delivery whose work takes time."""
        self._held[tag] = None

    def drop(self, tag: int) -> None:
        """Forget a delivery that was held and is returned to the broker."""
        self._held.pop(tag, None)

    def settle(self, tag: int) -> None:
        """Register a delivery that is finished, whether it was held before or not; it is acked with the next batch."""
        self._held.pop(tag, None)
        self._settled.append(tag)
        if len(self._settled) >= self._batch_size:
            self.flush()

    def flush(self) -> None:
        """Ack everything that is settled."""
        if not self._settled:
            return
        settled, self._settled = self._settled, []
        oldest = next(iter(self._held), None)
        below = [tag for tag in settled if oldest is None or tag < oldest]
        if below:
            self._channel.basic_ack(max(below), multiple=len(below) > 1)
        for tag in settled:
            if oldest is not None and tag > oldest:
                self._channel.basic_ack(tag)
