# SPDX-License-Identifier: GPL-3.0-or-later
"""What became, or would become, of a package in a catalog: as the part of a result, and as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omps_worker.common.model import CatalogUpdate, Outcome, Status

NOTHING_KNOWN: dict[str, Any] = {
    "image": None,
    "digest": None,
    "previous": None,
    "package": None,
    "channels": {},
    "default_channel": None,
    "bundles": [],
    "dropped": [],
    "unpublished": [],
}
"""The part of a result about a catalog of which only the name is known, because the work failed or was skipped."""


def catalog_of(outcome: Outcome) -> dict[str, Any] | None:
    """Return the value of ``catalog`` in the result of ``outcome``; None if its target is not a catalog."""
    if outcome.catalog is not None:
        return outcome.catalog.as_json()
    name = outcome.catalog_name
    return None if name is None else {"name": name, **NOTHING_KNOWN, "package": outcome.repo}


def plan_text(outcome: Outcome) -> str | None:
    """Return what an update of a catalog would do, as ``explain`` and dry runs say it.

    Returns None if the outcome is not a planned update of a catalog.
    """
    update = outcome.catalog
    if update is None:
        return None
    if outcome.status is Status.UNCHANGED:
        return "unchanged"
    parts = [f"would {_change(update)}"]
    if update.bundles:
        there = sum(not bundle.created for bundle in update.bundles)
        parts.append(f"{there} of {len(update.bundles)} bundle images {'is' if there == 1 else 'are'} there")
    if update.dropped:
        parts.append(f"would drop {', '.join(update.dropped)}")
    return "; ".join(parts)


def channel_lines(update: CatalogUpdate) -> Iterator[str]:
    """Yield one line for each channel before or after the update: ``alpha: etcd.v0.9.2 -> etcd.v0.9.4``."""
    before = update.channels_before or {}
    for name in sorted({*before, *update.channels}):
        old, new = before.get(name), update.channels.get(name)
        if update.channels_before is None or old == new:
            yield f"{name}: {new}"
        else:
            yield f"{name}: {old or 'new'} -> {new or 'gone'}"


def _change(update: CatalogUpdate) -> str:
    """Return the change to the heads of channels: ``add etcd.v0.9.4 (0.9.4) as head of alpha, stable``."""
    before = update.channels_before or {}
    versions = {bundle.name: bundle.version for bundle in update.bundles}
    heads: dict[str, list[str]] = {}
    for channel, head in sorted(update.channels.items()):
        if before.get(channel) != head:
            heads.setdefault(head, []).append(channel)
    if not heads:
        return "change the package, and no head of a channel"
    named = (f"{_bundle(head, versions)} as head of {', '.join(channels)}" for head, channels in heads.items())
    return f"add {', '.join(named)}"


def _bundle(name: str, versions: dict[str, str]) -> str:
    return f"{name} ({versions[name]})" if name in versions else name
