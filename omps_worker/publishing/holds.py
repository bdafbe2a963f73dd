# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping's keys ``hold``, which keeps builds from being published, and ``pause``, which delays the
builds for organizations and catalogs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from omps_worker.common.errors import OrganizationPaused
from omps_worker.common.model import Outcome, Status, Target
from omps_worker.configuration.mapping.matching import Mapping

Part = TypeVar("Part")

HELD = "held"
"""The reason to skip a build that the key ``hold`` names."""

LOOK_AGAIN_SECONDS = 300.0
"""The shortest time, in seconds, before a paused message is tried again."""


def prepare_unpaused(
    mapping: Mapping,
    targets: Sequence[Target],
    prepare: Callable[[Sequence[Target]], list[Part]],
    put_off: Callable[[Target, OrganizationPaused], Part],
    *,
    waits: bool,
) -> list[Part]:
    """Call ``prepare`` for the targets that are not paused and ``put_off`` for the others.

    Return their results in the order of ``targets``. ``waits`` says whether the work waits until the pause is over,
    as messages do.
    """
    paused = [_paused(mapping, target.place, waits=waits) for target in targets]
    unpaused = [target for target, error in zip(targets, paused, strict=True) if error is None]
    done = iter(prepare(unpaused) if unpaused else ())
    return [put_off(target, error) if error else next(done) for target, error in zip(targets, paused, strict=True)]


def check(mapping: Mapping, place: str) -> None:
    """Return if ``place``, an organization or ``catalog:NAME``, is not paused. For work by hand, which does not wait.

    Raises OrganizationPaused: trying again helps once the pause is over.
    """
    entry = mapping.holds_and_pauses.pausing(place)
    if entry is not None:
        raise _error(place, entry, waits=False)


def with_pauses(mapping: Mapping, outcomes: Iterable[Outcome], *, waits: bool) -> list[Outcome]:
    """Return the outcomes of a dry run with the mapping's pauses applied, which a dry run ignores.

    Outcomes that a pause would prevent become ``retrying`` if the work ``waits``, and ``failed`` otherwise. Their
    version stays the one that the release would get now.
    """
    return [_with_pause(mapping, outcome, waits=waits) for outcome in outcomes]


def _with_pause(mapping: Mapping, outcome: Outcome, *, waits: bool) -> Outcome:
    if outcome.target is None or outcome.status not in (Status.PUBLISHED, Status.UNCHANGED):
        return outcome
    error = _paused(mapping, outcome.target.place, waits=waits)
    if error is None:
        return outcome
    if waits:
        return replace(outcome, status=Status.RETRYING, reason=error.reason, error=error)
    return replace(outcome, status=Status.FAILED, error=error)


def _paused(mapping: Mapping, place: str, *, waits: bool) -> OrganizationPaused | None:
    entry = mapping.holds_and_pauses.pausing(place)
    return None if entry is None else _error(place, entry, waits=waits)


def _error(place: str, entry: str, *, waits: bool) -> OrganizationPaused:
    gone = "when the entry is removed."
    then = f"Waiting builds continue automatically {gone}" if waits else f"Nothing was done: try again {gone}"
    message = f"Publishing to {place} is paused by {entry} of the mapping. {then}"
    return OrganizationPaused(message, retry_after=LOOK_AGAIN_SECONDS)
