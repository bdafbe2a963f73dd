# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keys ``hold`` and ``pause`` of the mapping keep back: builds for good, and organizations for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from omps_worker.common.errors import OrganizationPaused
from omps_worker.common.model import Target
from omps_worker.configuration.mapping import Mapping

Part = TypeVar("Part")

HELD = "held"
"""The reason to skip a build that the key ``hold`` names."""

LOOK_AGAIN_SECONDS = 300.0
"""After how many seconds, at the earliest, to look whether the key is gone."""


def publish_unpaused(
    mapping: Mapping,
    targets: Sequence[Target],
    publish: Callable[[Sequence[Target]], list[Part]],
    put_off: Callable[[Target, OrganizationPaused], Part],
) -> list[Part]:
    """What ``publish`` makes of those targets that are not paused, and ``put_off`` of the others, in their order."""
    paused = [mapping.pauses(target.organization) for target in targets]
    going = [target for target, waits in zip(targets, paused, strict=True) if not waits]
    done = iter(publish(going) if going else ())
    return [
        put_off(target, _paused(target.organization)) if waits else next(done)
        for target, waits in zip(targets, paused, strict=True)
    ]


def check(mapping: Mapping, organization: str) -> None:
    """Return if ``organization`` is not paused; raises OrganizationPaused."""
    if mapping.pauses(organization):
        raise _paused(organization)


def _paused(organization: str) -> OrganizationPaused:
    return OrganizationPaused(
        f"Publishing to {organization} is paused: the key pause of the mapping names it. What waits goes on by itself "
        "when it no longer does.",
        retry_after=LOOK_AGAIN_SECONDS,
    )
