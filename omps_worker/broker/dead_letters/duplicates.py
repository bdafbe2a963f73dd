# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of one failure that lie in the failed queue twice: how they come, how they are kept out, how they are told.

A worker that dies between the broker's confirmation of a parked copy and its ack leaves the copy and the
message. The message is handed over again, fails again, and would be parked again. So before the failure of a
message that was redelivered is parked, the failed queue is looked at. That look may miss something: somebody else
may have the messages in hand, or there may be too many. Then a double is parked, for nothing may be lost; who looks
at failures takes such doubles for one.

A double is a copy with the same id, body, error and number of replays, for no other targets. Everything else that
shares an id is another fact, and stays.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from omps_worker.broker import headers
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.broker.delivery import Delivery


class SeenFailures:
    """Which failures were met already."""

    def __init__(self) -> None:
        self._targets: defaultdict[bytes, list[frozenset[str] | None]] = defaultdict(list)

    def has(self, message: ParkedMessage) -> bool:
        """Whether this one is a double of one that was added."""
        return self._has(_key(message.delivery, message.parked.error), headers.open_targets(message.delivery.headers))

    def add(self, message: ParkedMessage) -> None:
        """Remember one."""
        targets = headers.open_targets(message.delivery.headers)
        key = _key(message.delivery, message.parked.error)
        self._targets[key].append(None if targets is None else frozenset(targets))

    def has_failure(self, delivery: Delivery, error: str, targets: Sequence[str] | None) -> bool:
        """Whether the copy that would be parked of a message is a double of one that was added."""
        if targets is None:
            targets = headers.open_targets(delivery.headers)
        return self._has(_key(delivery, error), targets)

    def _has(self, key: bytes, targets: Sequence[str] | None) -> bool:
        return any(
            known is None or (targets is not None and known.issuperset(targets)) for known in self._targets.get(key, ())
        )


def _key(delivery: Delivery, error: str | None) -> bytes:
    facts = (delivery.message_id, error, headers.replayed(delivery.headers))
    digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape"))
    digest.update(delivery.body)
    return digest.digest()
