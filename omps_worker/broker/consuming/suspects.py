# SPDX-License-Identifier: GPL-3.0-or-later
"""Which messages may be what kills their workers, and when that is sure enough to park one. Pure.

A worker that dies leaves no word of what it died of. The broker counts, in ``x-delivery-count``, how
often it had to hand over a message again; but it counts for everything that the worker had in hand,
begun or not. So a count makes a message a *suspect*, and no more. A suspect is worked on alone: then a
further death counts for it and for nothing else. One whose workers go on dying is parked before it
is begun again, long before the broker's own limit would move it, and without a word.

How many it takes: a count grows as well where nobody is guilty (a lost connection, a worker that was
stopped with work in hand, on RabbitMQ 3 even what was given back untouched). A guilty message has a
worker die each time. An innocent one must be unlucky six times running, each time while it is alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omps_worker.broker import headers
from omps_worker.common.errors import PoisonMessage

UNREADABLE = 3
"""So many deaths beyond the last one allowed: reading the message is what kills, so it is parked unread."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message under suspicion: ``deaths`` as a copy of its own, after ``before`` of an earlier one."""

    deaths: int
    before: int
    allowed: int
    """From how many ``deaths`` on it is parked."""

    @property
    def convicted(self) -> bool:
        """Whether it is not begun again."""
        return self.deaths >= self.allowed

    @property
    def total(self) -> int:
        """All deaths that are known."""
        return self.before + self.deaths

    @property
    def readable(self) -> bool:
        """Whether looking into it is worth the risk."""
        return self.deaths < self.allowed + UNREADABLE

    @property
    def error(self) -> PoisonMessage:
        """Why it is parked."""
        error = PoisonMessage(
            f"{self.total} times a worker died, or lost the broker, with this message in hand, the last times with "
            "nothing else. It was not begun again.",
            details={"deaths": self.total},
        )
        error.deaths = self.total
        return error


@dataclass(frozen=True, slots=True)
class DeathLimits:
    """After how many deaths what becomes of a message."""

    alone: int = 3
    """It is worked on alone."""
    parked: int = 9
    """It is parked."""
    replayed: int = 3
    """It is parked again, when it was parked for that before and somebody sent it again."""

    @classmethod
    def below(cls, delivery_limit: Any) -> DeathLimits:
        """Such that all of it comes before the broker's own limit, if that is known."""
        usual = cls()
        if not isinstance(delivery_limit, int) or delivery_limit < 1:
            return usual
        parked = min(usual.parked, delivery_limit)
        return cls(min(usual.alone, max(parked // 2, 1)), parked, min(usual.replayed, parked))

    def suspect(self, table: Mapping[Any, Any] | None, redelivered: bool) -> Suspect | None:
        """What speaks against a message with these headers; None: too little."""
        if not table:
            return None
        before = headers.deaths(table)
        # What comes for the first time was not counted by this queue, whatever it says of itself.
        deaths = headers.deliveries(table) if redelivered else 0
        if not before and deaths < self.alone:
            return None
        return Suspect(deaths, before, self.replayed if before else self.parked)
