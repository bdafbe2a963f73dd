# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise messages that may be killing workers, and decide when to park them. No I/O.

A worker that dies does not report the cause. The broker counts in ``x-delivery-count`` how often it redelivered a
message, but it does so for everything that the worker had in flight, begun or not. A high count therefore makes a
message a *suspect*, and no more. A suspect is processed alone, so a further death counts for it and for no other
message. If its workers continue to die, it is parked before it is begun again, long before the broker's own limit would
move it without a result.

Counts also grow when no message is at fault: when a connection is lost, when a worker is stopped with work in flight,
and on RabbitMQ 3 even for messages that are returned untouched. A guilty message kills a worker each time. An innocent
one would have to be in flight at six consecutive deaths, each time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omps_worker.broker import headers
from omps_worker.common.errors import PoisonMessage

UNREADABLE = 3
"""After this many deaths beyond the limit, the message is parked undecoded: decoding it is what kills workers."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message that may be killing workers.

    ``deaths``: how many workers died with this copy of it in flight; ``before``: with earlier copies, before a replay.
    """

    deaths: int
    before: int
    allowed: int
    """The number of ``deaths`` from which on the message is parked."""

    @property
    def to_be_parked(self) -> bool:
        """Whether the message is parked instead of being begun again."""
        return self.deaths >= self.allowed

    @property
    def total(self) -> int:
        """All deaths that are known."""
        return self.before + self.deaths

    @property
    def readable(self) -> bool:
        """Whether decoding the message is worth the risk."""
        return self.deaths < self.allowed + UNREADABLE

    @property
    def error(self) -> PoisonMessage:
        """The error with which the message is parked."""
        error = PoisonMessage(
            f"{self.total} times a worker died, or lost the broker, with this message in flight; the last times it was "
            "the only message in flight. It was not begun again.",
            details={"deaths": self.total},
        )
        error.deaths = self.total
        return error


@dataclass(frozen=True, slots=True)
class DeathLimits:
    """The numbers of deaths at which the treatment of a message changes."""

    alone: int = 3
    """From this number on, the message is processed alone."""
    parked: int = 9
    """From this number on, the message is parked."""
    replayed: int = 3
    """From this number on, a message that was parked for this reason and then replayed is parked again."""

    @classmethod
    def below(cls, delivery_limit: Any) -> DeathLimits:
        """Return limits that take effect before the broker's own delivery limit, if that is known."""
        usual = cls()
        if not isinstance(delivery_limit, int) or delivery_limit < 1:
            return usual
        parked = min(usual.parked, delivery_limit)
        return cls(min(usual.alone, max(parked // 2, 1)), parked, min(usual.replayed, parked))

    def suspect(self, table: Mapping[Any, Any] | None, redelivered: bool) -> Suspect | None:
        """Return a Suspect if these headers make the message one, or None if there are too few deaths."""
        if not table:
            return None
        before = headers.deaths(table)
        # On a first delivery, this queue has not counted yet: the header comes from the publisher.
        deaths = headers.deliveries(table) if redelivered else 0
        if not before and deaths < self.alone:
            return None
        return Suspect(deaths, before, self.replayed if before else self.parked)
