# SPDX-License-Identifier: GPL-3.0-or-later
"""Which deliveries of one channel are acked when: as few acks as possible, none too early.

An ack for many covers everything up to a delivery tag, so it must stay below the oldest tag
whose work is still in hand.
"""

from __future__ import annotations

from typing import Protocol


class AckChannel(Protocol):
    """The part of a channel that is needed here."""

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> object:
        """Ack one delivery, or all up to it."""
        ...


class Acks:
    """The deliveries of one channel. Tags grow; each is either held, or settled, then acked."""

    def __init__(self, channel: AckChannel, at_once: int) -> None:
        self._channel = channel
        self._at_once = max(at_once, 1)
        self._held: dict[int, None] = {}
        self._settled: list[int] = []

    @property
    def held(self) -> int:
        """How many deliveries are in hand."""
        return len(self._held)

    def hold(self, tag: int) -> None:
        """A delivery that takes its time."""
        self._held[tag] = None

    def drop(self, tag: int) -> None:
        """A delivery that was held and given back to the broker."""
        self._held.pop(tag, None)

    def settle(self, tag: int) -> None:
        """A delivery that is done with, held before or not; acked soon, or at once with many others."""
        self._held.pop(tag, None)
        self._settled.append(tag)
        if len(self._settled) >= self._at_once:
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
