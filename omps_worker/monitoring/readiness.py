# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``/live`` and ``/ready`` say.

``/live``: whether the process does anything at all; when it does not, a restart helps. ``/ready``:
whether a message that came now would be worked on to its end; when not, a restart does not help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omps_worker.configuration.settings import WorkerSettings

Trouble = Callable[[], str | None]
"""Tells what is wrong with one part; None: nothing is."""


STILL_SECONDS = 60.0
"""How long a loop may stand still, connecting to a slow broker included, before it counts as dead."""


def stuck_after(worker: WorkerSettings) -> float:
    """After how many seconds a piece of work counts as stuck: none takes that long, whatever is slow.

    Every call has its time-out; this is room for the calls of several targets, the waits for the
    lock, and the unpacking. With the defaults it is less than the half hour after which RabbitMQ
    gives up on a consumer.
    """
    return 300.0 + 20 * (worker.koji.timeout + worker.registry.timeout)


def vital(still_for: float, longest_work: float, worker: WorkerSettings) -> list[str]:
    """Why a process should be started anew.

    Its loop has stood still, and its slowest work has been under way, for so many seconds.
    """
    reasons = []
    if still_for > STILL_SECONDS:
        reasons.append(f"the loop has not turned for {still_for:.0f} s")
    if longest_work > stuck_after(worker):
        reasons.append(f"a piece of work has been under way for {longest_work:.0f} s, and is stuck")
    return reasons


class Readiness:
    """Knows the state of all parts.

    ``vital`` tells why the process should be started anew. ``parts`` are asked one by one,
    ``services`` all at once; both by name.
    """

    def __init__(
        self,
        vital: Callable[[], list[str]],
        parts: Mapping[str, Trouble],
        services: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        self._vital = vital
        self._parts = dict(parts)
        self._services = services

    def live(self) -> list[str]:
        """Why a restart would help."""
        return self._vital()

    def ready(self) -> list[str]:
        """Why a message that came now would not be worked on."""
        return self.reasons(self.troubles())

    def reasons(self, troubles: Mapping[str, str | None]) -> list[str]:
        """The same, for who has asked for the ``troubles`` already."""
        told = (f"{name}: {trouble}" for name, trouble in troubles.items() if trouble is not None)
        return [*self._vital(), *told]

    def troubles(self) -> dict[str, str | None]:
        """For each part what is wrong with it, and None if nothing is."""
        return {**{name: ask() for name, ask in self._parts.items()}, **self._services()}
