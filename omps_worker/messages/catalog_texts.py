# SPDX-License-Identifier: GPL-3.0-or-later
"""What became, or would become, of a package in a catalog: as the part of a result, and as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omps_worker.common.model import CatalogUpdate, Outcome, Status
from omps_worker.common.text import counted, listed

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
        return "; ".join(["unchanged", *_unpublished(update)])
    parts = [f"would {change}" for change in _changes(update)]
    if update.foreign:
        text = f"would replace the image, which omps-worker did not write ({update.foreign}), with a new catalog"
        parts = [text, *parts]
    if number := len(update.bundles):
        there = sum(not bundle.created for bundle in update.bundles)
        verb = "is" if 1 in (there, number) else "are"
        parts.append(f"{there} of {counted(number, 'bundle image')} {verb} there")
    if update.dropped:
        parts.append(f"would drop {listed(update.dropped)}")
    return "; ".join([*parts, *_unpublished(update)])


def done_text(outcome: Outcome) -> str | None:
    """Return what is remarkable about an update that was made, as ``push`` says it; None if nothing is."""
    update = outcome.catalog
    if update is None:
        return None
    parts = []
    if outcome.status is Status.UNCHANGED:
        parts.append("the catalog has this content already")
    if update.foreign:
        parts.append(f"replaced an image that omps-worker did not write ({update.previous})")
    return "; ".join([*parts, *losses(update), *_unpublished(update)]) or None


def losses(update: CatalogUpdate) -> Iterator[str]:
    """Yield what clusters no longer find in the catalog since an update that was made, for tables and logs."""
    if update.replaced:
        yield f"replaced the content of {listed(update.replaced)}"
    if update.dropped:
        yield f"dropped {listed(update.dropped)}"


def channel_lines(update: CatalogUpdate) -> Iterator[str]:
    """Yield one line for each channel before or after the update: ``alpha: etcd.v0.9.2 -> etcd.v0.9.4``."""
    before = update.channels_before or {}
    for name in sorted({*before, *update.channels}):
        old, new = before.get(name), update.channels.get(name)
        if update.channels_before is None or old == new:
            yield f"{name}: {new}"
        else:
            yield f"{name}: {old or 'new'} -> {new or 'gone'}"


def _unpublished(update: CatalogUpdate) -> Iterator[str]:
    """Yield the sentence about the CSVs that are not in the catalog, if there are any."""
    if update.unpublished:
        yield f"no channel reaches {listed(update.unpublished)}"


def _changes(update: CatalogUpdate) -> Iterator[str]:
    """Yield what the update does: ``add etcd.v0.9.4 (0.9.4) as head of alpha, stable``. There is one text at least."""
    versions = {bundle.name: bundle.version for bundle in update.bundles}
    heads = _new_heads(update)
    if heads:
        named = (f"{_bundle(head, versions)} as head of {', '.join(channels)}" for head, channels in heads.items())
        yield f"add {', '.join(named)}"
    if update.replaced:
        yield f"replace the content of {listed(update.replaced)}"
    if not heads and not update.replaced:
        yield "change the package, and no head of a channel"


def _new_heads(update: CatalogUpdate) -> dict[str, list[str]]:
    """Return the channels that get another head, by that head."""
    before = update.channels_before or {}
    heads: dict[str, list[str]] = {}
    for channel, head in sorted(update.channels.items()):
        if before.get(channel) != head:
            heads.setdefault(head, []).append(channel)
    return heads


def _bundle(name: str, versions: dict[str, str]) -> str:
    return f"{name} ({versions[name]})" if name in versions else name
