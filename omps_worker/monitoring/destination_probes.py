# SPDX-License-Identifier: GPL-3.0-or-later
"""Periodic checks of the destinations of one kind, one after the other, and what they say about the readiness.

There may be a hundred destinations and several replicas. The destinations are therefore checked in turn, at most one
per second, and each at most every five seconds. A destination that fails is a warning. Only if nothing can be published
to any destination that the mapping names, of whatever kind, is the worker not ready.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from itertools import cycle

from omps_worker.common.errors import RegistryError, WorkerError
from omps_worker.common.text import one_line
from omps_worker.monitoring.health import EVERY_SECONDS, Probe

log = logging.getLogger(__name__)

PACE_SECONDS = 1.0
"""The shortest time between two checks, of whichever destinations of one kind, in seconds."""

LOGIN_SECONDS = 600.0
"""The seconds after which a destination is asked again whether it accepts a login that it refused."""

NOT_YET = "it has not been checked yet"


class DestinationProbes(ABC):
    """Checks the destinations ``names`` of one kind in turn, and knows what is wrong with each.

    ``kind`` is what people call one of them: ``organization``, ``catalog``. ``needed`` returns those that the mapping
    publishes to now. If it returns none, all count as needed. ``patience``: how many seconds one check may take.
    ``clock`` returns seconds.
    """

    def __init__(
        self,
        kind: str,
        names: Collection[str],
        needed: Callable[[], Collection[str]],
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._names = tuple(names)
        self._needed = needed
        self._patience = patience
        self._clock = clock
        self._turns = cycle(self._names)
        self._known: dict[str, str | None] = {}
        self.elsewhere: Callable[[], bool] = bool
        """Returns whether anything can be published to a destination of another kind."""

    def question(self) -> Probe:
        """Return the Probe for HealthChecks that checks the next destination; see ``look``."""
        pace = max(PACE_SECONDS, EVERY_SECONDS / max(len(self._names), 1))
        return Probe(self.look, every=pace, patience=self._patience)

    def troubles(self) -> dict[str, str | None]:
        """Return what is wrong with each destination that was checked, by name; None for one that is well."""
        return dict(self._known)

    def warnings(self) -> list[str]:
        """Return one sentence for each destination that has a problem."""
        return [f"{self._kind} {name}: {trouble}" for name, trouble in self.troubles().items() if trouble is not None]

    def publishable(self) -> bool:
        """Return whether a destination that the mapping names is known to be well."""
        return any(self._known.get(name, NOT_YET) is None for name in self._named)

    def look(self) -> None:
        """Check the next destination.

        Raises the error of ``nothing_publishable`` if no needed destination is known to be well, of whatever kind.
        """
        name, unknown = next(self._turns), NOT_YET
        try:
            self._record(name, self._trouble(name))
        except RegistryError as error:
            # The registry as a whole is away, which another health check reports: this destination stays as it was.
            unknown = one_line(error.message)
        needed = self._named or list(self._names)
        troubles = {each: self._known.get(each, unknown) for each in needed}
        if all(troubles.values()) and not self.elsewhere():
            example = name if name in troubles else needed[0]
            several = len(needed) > 1
            subject = f"any of {len(needed)} {self._kind}s; {example}" if several else example
            raise self.nothing_publishable(f"nothing can be published to {subject}: {troubles[example]}")

    @staticmethod
    @abstractmethod
    def nothing_publishable(message: str) -> WorkerError:
        """Return the error that says so."""

    @abstractmethod
    def _trouble(self, name: str) -> str | None:
        """Check one destination and return what is wrong with it.

        Raises RegistryError if nothing was learned about it, because the registry as a whole is away.
        """

    @property
    def _named(self) -> list[str]:
        needed = self._needed()
        return [name for name in self._names if name in needed]

    def _record(self, name: str, trouble: str | None) -> None:
        before = self._known.get(name)
        self._known[name] = trouble
        if trouble is not None and before is None:
            log.warning("nothing can be published to the %s %s: %s", self._kind, name, trouble)
        elif trouble is None and before is not None:
            log.info("builds can be published to the %s %s again", self._kind, name)


def join(one: DestinationProbes, other: DestinationProbes) -> None:
    """Let two kinds of destinations say together whether nothing can be published at all."""
    one.elsewhere, other.elsewhere = other.publishable, one.publishable
