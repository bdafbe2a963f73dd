# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of ``/live`` and ``/ready``.

``/live`` says whether the process makes any progress; if it does not, a restart helps. ``/ready`` says whether a
message that comes now would be processed completely; if it would not, a restart does not help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omps_worker.configuration.settings.models import WorkerSettings

Trouble = Callable[[], str | None]
"""Returns what is wrong with one part; None if nothing is."""


STILL_SECONDS = 60.0
"""The seconds that a loop may stand still, including a slow connection to the broker, before it counts as dead."""


def stuck_after(worker: WorkerSettings) -> float:
    """Return after how many seconds a piece of work counts as stuck: even with slow services, no work takes that long.

    Every call has a timeout. The result leaves room for the calls of several targets, for waiting for the lock and for
    unpacking. With the default settings it is less than the half hour after which RabbitMQ gives up on a consumer.
    """
    registries = max(worker.registry.timeout, *(catalog.timeout for catalog in worker.catalogs.values()), 0.0)
    return 300.0 + 20 * (worker.koji.timeout + registries)


def restart_reasons(still_for: float, longest_work: float, worker: WorkerSettings) -> list[str]:
    """Return the reasons to restart the process; an empty list if there are none.

    ``still_for`` is the time since the loop last ran, ``longest_work`` the duration of the slowest work in progress,
    both in seconds.
    """
    reasons = []
    if still_for > STILL_SECONDS:
        reasons.append(f"the main loop has not run for {still_for:.0f} s")
    if longest_work > stuck_after(worker):
        reasons.append(f"a piece of work has been in progress for {longest_work:.0f} s and is stuck")
    return reasons


class Readiness:
    """Knows the state of all parts.

    ``restart_reasons`` returns the reasons to restart the process. ``parts`` maps names to functions, each asked for
    one part. ``services`` returns the state of all services at once, by name.
    """

    def __init__(
        self,
        restart_reasons: Callable[[], list[str]],
        parts: Mapping[str, Trouble],
        services: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        self._restart_reasons = restart_reasons
        self._parts = dict(parts)
        self._services = services

    def live(self) -> list[str]:
        """Return the reasons why a restart would help; an empty list if the process is alive."""
        return self._restart_reasons()

    def ready(self) -> list[str]:
        """Return the reasons why a message that comes now would not be processed; an empty list if there are none."""
        return self.reasons(self.troubles())

    def reasons(self, troubles: Mapping[str, str | None]) -> list[str]:
        """Return the same reasons as ``ready`` for ``troubles`` that are already known."""
        of_parts = (f"{name}: {trouble}" for name, trouble in troubles.items() if trouble is not None)
        return [*self._restart_reasons(), *of_parts]

    def troubles(self) -> dict[str, str | None]:
        """Return what is wrong with each part, by name; None for a part that is well."""
        return {**{name: ask() for name, ask in self._parts.items()}, **self._services()}
