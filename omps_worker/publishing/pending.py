# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that may still publish a package: those that wait for their next attempt, and those that are parked.

Who deletes releases has to know of them, for what comes later would publish the same content again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omps_worker.common.model import BuildEvent, Target
from omps_worker.configuration.mapping import Mapping

SHOWN = 20
"""How many of them people are shown."""


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """One such message. ``certain``: the mapping, or its header, names the package; otherwise only the organization,
    and the packageName is not known before its build is unpacked."""

    id: str
    queue: str
    nvr: str | None
    parked: bool
    certain: bool

    def as_json(self) -> dict[str, Any]:
        """One element of ``pending`` in what ``delete --json`` prints."""
        return {
            "id": self.id,
            "queue": self.queue,
            "nvr": self.nvr,
            "parked": self.parked,
            "certain": self.certain,
        }


def concerns(
    event: BuildEvent | None, labels: Sequence[str] | None, organization: str, repository: str, mapping: Mapping
) -> bool | None:
    """Whether a message about ``event`` may still publish that package: None if it may, True if it is for it.

    ``labels`` are the targets that its header names, None without one: then the mapping decides. What cannot be
    read publishes nothing, and neither does what the mapping holds.
    """
    if event is None or (event.nvr is not None and mapping.holds(event.nvr)):
        return False
    if labels is None:
        labels = [target.label for target in mapping.possible_targets(event.facts)]
    if Target(organization, repository).label in labels:
        return True
    return None if Target(organization).label in labels else False


def told(pending: Sequence[PendingMessage], what: str) -> Iterator[str]:
    """What a person is told before ``what`` is deleted, a line each; nothing where nothing is pending."""
    if not pending:
        return
    yield f"{_count(pending)} may publish {what} again:"
    for one in pending[:SHOWN]:
        certain = "" if one.certain else " (for this organization; its packageName is not known yet)"
        yield f"  {one.nvr or 'a build'}: {'parked' if one.parked else 'waits'} in {one.queue}, ID {one.id}{certain}"
    if len(pending) > SHOWN:
        yield f"  … and {len(pending) - SHOWN} more; --json has them all"
    if _any(pending, lambda one: one.parked):
        yield "What is parked publishes it when somebody replays it: `omps-worker failed discard ID` prevents that."
    if _any(pending, lambda one: not one.parked):
        yield "What waits publishes it when its time comes: `hold` with its NVR in the mapping prevents that."


def _any(pending: Iterable[PendingMessage], fits: Callable[[PendingMessage], bool]) -> bool:
    return any(fits(one) for one in pending)


def _count(pending: Sequence[PendingMessage]) -> str:
    return "1 message" if len(pending) == 1 else f"{len(pending)} messages"
