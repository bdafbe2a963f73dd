# SPDX-License-Identifier: GPL-3.0-or-later
"""Duplicate copies of one failure in the failed queue: how they arise, and how they are recognised.

A worker can die after the broker confirmed a parked copy and before the worker acked the original. Then the copy and
the message both exist. The message is redelivered, fails again, and would be parked again. The worker therefore scans
the failed queue before it parks the failure of a redelivered message. The scan may miss the copy, because another
process has messages in flight, or because there are too many. Then a duplicate is parked, because nothing may be lost.
The ``omps-worker failed`` commands treat duplicates as one message.

A duplicate is a copy with the same id, body, error and number of replays, for no other targets. Any other message with
the same id is a different failure, and is kept.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from omps_worker.broker import headers
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.broker.delivery import Delivery


class SeenFailures:
    """The failures that were found so far."""

    def __init__(self) -> None:
        self._targets: defaultdict[bytes, list[frozenset[str] | None]] = defaultdict(list)

    def has(self, message: ParkedMessage) -> bool:
        """Return whether this message is a duplicate of one that was added."""
        return self._has(_key(message.delivery, message.parked.error), headers.open_targets(message.delivery.headers))

    def add(self, message: ParkedMessage) -> None:
        """Add a message."""
        targets = headers.open_targets(message.delivery.headers)
        key = _key(message.delivery, message.parked.error)
        self._targets[key].append(None if targets is None else frozenset(targets))

    def has_failure(self, delivery: Delivery, error: str, targets: Sequence[str] | None) -> bool:
        """Return whether the copy that would be parked for this delivery is a duplicate of one that was added."""
        if targets is None:
            targets = headers.open_targets(delivery.headers)
        return self._has(_key(delivery, error), targets)

    def _has(self, key: bytes, targets: Sequence[str] | None) -> bool:
        return any(
            known is None or (targets is not None and known.issuperset(targets)) for known in self._targets.get(key, ())
        )


def needless(messages: Iterable[ParkedMessage]) -> set[int]:
    """Return the indexes of those messages that need not be sent, because others of ``messages`` stand for them.

    Copies of one message have the same id and body, as when a message was parked or exported several times. One of
    them is sent for all their targets: the one for the most targets, and of those the one that was parked last. Only
    if none is for all of them, several are sent.
    """
    copies: defaultdict[bytes, list[_Copy]] = defaultdict(list)
    for index, message in enumerate(messages):
        targets = headers.open_targets(message.delivery.headers)
        parked_at = headers.moment(message.delivery.headers, headers.PARKED_AT)
        copies[_digest(message.parked.id, message.delivery)].append(
            _Copy(index, None if targets is None else frozenset(targets), parked_at)
        )
    found = set()
    for same in copies.values():
        covered: set[str] = set()
        everything = False
        for each in sorted(same, key=_Copy.rank, reverse=True):
            if everything or (each.targets is not None and each.targets <= covered):
                found.add(each.index)
            everything = everything or each.targets is None
            covered |= each.targets or set()
    return found


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy of a message. ``targets`` are those that are open; None: all."""

    index: int
    targets: frozenset[str] | None
    parked_at: datetime | None

    def rank(self) -> tuple[float, float, int]:
        """Return the sort key: the copy to be sent is last."""
        number = float("inf") if self.targets is None else len(self.targets)
        return number, self.parked_at.timestamp() if self.parked_at else 0.0, self.index


def _key(delivery: Delivery, error: str | None) -> bytes:
    return _digest((delivery.message_id, error, headers.replayed(delivery.headers)), delivery)


def _digest(facts: object, delivery: Delivery) -> bytes:
    """Return the same bytes for the same facts about the same body."""
    digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape"))
    digest.update(delivery.body)
    return digest.digest()
