# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a package in a catalog when a build is released to it, or a bundle is deleted from it.

Every function returns a package that opm takes, or raises PackageValidationError: a broken package would make the whole
catalog unreadable.
"""

from __future__ import annotations

import enum
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.text import printable
from omps_worker.destinations.catalog.bundles.bundle import Bundle
from omps_worker.destinations.catalog.bundles.tree import TreePlan
from omps_worker.destinations.catalog.grammars.graph import Entry, heads_of, reached_from, targets_of
from omps_worker.destinations.catalog.grammars.versions import Version
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import (
    BUNDLE,
    CHANNEL,
    PACKAGE,
    Blob,
    ChannelText,
    PackageFile,
    content_of,
    pullspec_of,
    version_of,
    version_text,
)
from omps_worker.manifests.findings import Finding

_PRESENT = "The package in the catalog is not valid"
_CONTEXT = "The package would not be valid in a catalog"
_REST = "The rest of the package would not be valid in a catalog"
_REFUSED = "The build cannot be added to the catalog"

_SHOWN = 40
"""How many characters of a name or a version a message shows where digests and advice follow."""

_Channels = dict[str, list[Entry]]


class Overwrite(str, enum.Enum):
    """What is done about a version that the catalog has with other content."""

    NEVER = "never"
    HEADS = "heads"
    """It is replaced if nothing in the catalog replaces or skips it."""


class Graph(str, enum.Enum):
    """Where the edges between bundle builds come from; the modes of ``opm registry add`` of these names."""

    REPLACES = "replaces"
    SEMVER = "semver"


@dataclass(frozen=True, slots=True)
class Merged:
    """A package after a change."""

    package: PackageFile | None
    """None if the package is no longer in the catalog."""
    dropped: tuple[str, ...] = ()
    """The names of the bundles that were in the package and are no longer."""
    superseded: bool = False
    """Whether no channel would reach the bundle that was to be added, so that nothing is changed."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A version that a catalog has with other content than a build."""

    name: str
    version: str
    present: str
    """The pullspec in the catalog; empty if the bundle there has no image, but the objects themselves."""
    new: str
    """The pullspec of the build's bundle."""
    present_name: str = field(compare=False)
    present_version: str = field(compare=False)
    followed: bool = field(compare=False)
    """Whether something in the catalog replaces or skips the present bundle."""


def check_present(current: PackageFile | None) -> None:
    """Raise PackageValidationError if the package in the catalog is not valid; an older worker may have written it."""
    if current is not None:
        rules.check(current, _PRESENT)


def conflicts(current: PackageFile | None, bundles: Iterable[Blob]) -> list[Conflict]:
    """Return which of ``bundles``, blobs of a build, are in the catalog with another digest.

    ``current`` must be valid. Bundles are the same if they have the same name, or the same version with its release.
    """
    if current is None:
        return []
    followed = {target for channel in current.channels for entry in channel["entries"] for target in targets_of(entry)}
    by_name = {each["name"]: each for each in current.bundles}
    by_version = {str(version_of(each)): each for each in current.bundles}
    found = []
    for new in bundles:
        same = (by_name.get(new["name"]), by_version.get(str(version_of(new))))
        for present in {each["name"]: each for each in same if each is not None}.values():
            if content_of(pullspec_of(present)) != content_of(new["image"]):
                name = present["name"]
                found.append(
                    Conflict(
                        new["name"],
                        version_text(new),
                        pullspec_of(present),
                        new["image"],
                        name,
                        version_text(present),
                        followed=name in followed,
                    )
                )
    return found


def merge_tree(
    current: PackageFile | None,
    plan: TreePlan,
    images: Mapping[str, str],
    overwrite: Overwrite = Overwrite.NEVER,
) -> Merged:
    """Return the package after a build of package manifests: it becomes what the tree says.

    ``images``: the pullspec of each bundle of the plan, by name. Deprecations and blobs of other schemas stay, but for
    deprecations of what is gone. Raises PackageValidationError.
    """
    check_present(current)
    made = plan.package_file(images)
    _check_overwrite(current, made.bundles, overwrite)
    return _finished(current, made)


def add_bundle(
    current: PackageFile | None,
    bundle: Bundle,
    image: str,
    graph: Graph = Graph.REPLACES,
    overwrite: Overwrite = Overwrite.NEVER,
) -> Merged:
    """Return the package after ``bundle``, which is ``image``, was added to its channels.

    With ``Graph.REPLACES``, the head of a channel is the higher version of the present head and the bundle, and the
    channel is what the head reaches; the rest is dropped. With ``Graph.SEMVER``, each version in a channel replaces the
    one below it, and nothing is dropped. The default channel is the bundle's if the bundle is the highest version and
    the channel exists; else it stays, and a new package has the first of its channels by name.

    Raises PackageValidationError.
    """
    check_present(current)
    blob = bundle.blob(image)
    if current is not None and bundle.package != current.name:
        _refuse(f"bundle {bundle.name} is of package {bundle.package}, not of {current.name}")
    if not bundle.package or not bundle.channels or not all(bundle.channels):
        _refuse(f"bundle {bundle.name} has no package or no channels in its annotations")
    _check_overwrite(current, [blob], overwrite)
    gone = {conflict.present_name for conflict in conflicts(current, [blob])} - {bundle.name}
    bundles = {each["name"]: each for each in (current.bundles if current else ()) if each["name"] not in gone}
    channels = {
        each["name"]: [entry for entry in each["entries"] if entry["name"] not in gone]
        for each in (current.channels if current else ())
    }
    bundles[bundle.name] = blob
    addition = _Addition(bundle, bundles, channels)
    added = addition.to_chain if graph is Graph.SEMVER else addition.to_reached
    text = ChannelText()
    for channel in dict.fromkeys(bundle.channels):
        channels[channel] = added(channel, channels.get(channel, ()))
        if fault := text.fault_with(channels[channel]):
            _refuse(fault)
    channels = {name: entries for name, entries in channels.items() if entries}
    reached = {entry["name"] for entries in channels.values() for entry in entries}
    if bundle.name not in reached:
        return Merged(current, superseded=True)
    package = _package_blob(current, bundle, bundles, channels)
    kept = [each for name, each in bundles.items() if name in reached]
    return _finished(current, PackageFile.of([package, *_channel_blobs(bundle.package, channels), *kept]))


def bundles_of(package: PackageFile, version: str) -> list[str]:
    """Return the names of the bundles of a version; ``version`` may also be the name, or have the release added."""
    return [
        str(each.get("name"))
        for each in package.bundles
        if version in (each.get("name"), version_text(each), str(version_of(each)))
    ]


def without(current: PackageFile, names: Sequence[str]) -> Merged:
    """Return the package without some of its bundles; without the last one, the package is gone.

    Raises PackageValidationError if the rest would not be valid, as when others are reached through a bundle only.
    """
    check_present(current)
    kept = [each for each in current.bundles if each["name"] not in names]
    if not kept:
        return Merged(None, tuple(each["name"] for each in current.bundles))
    channels = {
        each["name"]: [entry for entry in each["entries"] if entry["name"] not in names] for each in current.channels
    }
    return _finished(current, PackageFile.of([current.package, *_channel_blobs(current.name, channels), *kept]), _REST)


def _finished(current: PackageFile | None, made: PackageFile, context: str = _CONTEXT) -> Merged:
    """Carry over from ``current`` what builds know nothing of, and validate the result."""
    if current is not None:
        carried = (*_deprecations(current, made), *current.others)
        made = PackageFile.of([*made.blobs(), *carried])
    rules.check(made, context)
    present = {each["name"] for each in made.bundles}
    before = current.bundles if current else ()
    return Merged(made, tuple(each["name"] for each in before if each["name"] not in present))


def _deprecations(current: PackageFile, made: PackageFile) -> list[Blob]:
    """Return the deprecations without those of bundles and channels that are gone."""
    there = {(BUNDLE, each["name"]) for each in made.bundles} | {(CHANNEL, each["name"]) for each in made.channels}
    kept: list[Blob] = []
    for blob in current.deprecations:
        entries = [
            entry
            for entry in blob.get("entries") or ()
            if entry["reference"]["schema"] == PACKAGE
            or (entry["reference"]["schema"], entry["reference"].get("name")) in there
        ]
        if entries:
            kept.append({**blob, "entries": entries})
    return kept


class _Addition:
    """A bundle on its way into channels. What is the same for all channels is found out once: there may be many."""

    def __init__(self, bundle: Bundle, bundles: Mapping[str, Blob], channels: _Channels) -> None:
        self._name, self._entry = bundle.name, bundle.entry()
        self._bundles = bundles
        self._orders = {name: _order(each) for name, each in bundles.items()}
        self._shared = {entry["name"]: entry for each in channels.values() for entry in each}

    def to_reached(self, channel: str, present: Sequence[Entry]) -> list[Entry]:  # noqa: ARG002
        """Return the entries of a channel by the rule of ``opm registry add``: what the higher head reaches."""
        # A bundle's edges are equal in all channels, unless another program wrote them. Then the channel's own count.
        entries = ChainMap({entry["name"]: entry for entry in present}, self._shared)
        entries[self._name] = self._entry
        head = max([*heads_of(present), self._name], key=lambda name: self._orders[name])
        return [entries[name] for name in reached_from(head, entries)]

    def to_chain(self, channel: str, present: Sequence[Entry]) -> list[Entry]:
        """Return the entries of a channel in the order of their versions, each replacing the one below."""
        entries = {entry["name"]: entry for entry in present}
        entries[self._name] = self._entry
        ordered = sorted(entries, key=lambda name: self._orders[name])
        chain: list[Entry] = []
        below: str | None = None
        for name in ordered:
            if below is not None and self._orders[below].precedence == self._orders[name].precedence:
                lower, higher = (version_text(self._bundles[each]) for each in (below, name))
                _refuse(
                    f"versions {lower} and {higher} of channel {channel} are "
                    "equal in precedence, so neither can replace the other; graph: semver needs an order"
                )
            entry: dict[str, Any] = {"name": name}
            if below is not None:
                entry["replaces"] = below
            if entries[name].get("skipRange"):
                entry["skipRange"] = entries[name]["skipRange"]
            chain.append(entry)
            below = name
        return chain[::-1]


def _package_blob(
    current: PackageFile | None, bundle: Bundle, bundles: Mapping[str, Blob], channels: _Channels
) -> dict[str, Any]:
    """Return the ``olm.package`` with its default channel, and the icon of that channel's head if it is the bundle."""
    default = current.default_channel if current else ""
    highest = max(bundles, key=lambda name: _order(bundles[name])) == bundle.name
    if bundle.default_channel in channels and (highest or not default):
        default = bundle.default_channel
    if not default:
        # The first bundles of a package may name a default channel in which there is no bundle yet.
        default = min(channels)
    package = {"schema": PACKAGE, "name": bundle.package, **(current.package if current else {})}
    package["defaultChannel"] = default
    if bundle.name in heads_of(channels.get(default, ())):
        package.pop("icon", None)
        if bundle.icon is not None:
            package["icon"] = dict(bundle.icon)
    return package


def _channel_blobs(package: str, channels: Mapping[str, Sequence[Entry]]) -> list[Blob]:
    return [
        {"schema": CHANNEL, "name": name, "package": package, "entries": list(entries)}
        for name, entries in channels.items()
        if entries
    ]


def _check_overwrite(current: PackageFile | None, bundles: Iterable[Blob], overwrite: Overwrite) -> None:
    refused = [
        conflict for conflict in conflicts(current, bundles) if overwrite is Overwrite.NEVER or conflict.followed
    ]
    rules.refuse([Finding(_told(conflict, overwrite)) for conflict in refused], _REFUSED)


def _told(conflict: Conflict, overwrite: Overwrite) -> str:
    present = _named(conflict.present_name, conflict.present_version)
    new = _named(conflict.name, conflict.version)
    text = (
        f"{present} is in the catalog with other content: {content_of(conflict.present) or 'no image'} there, "
        f"{content_of(conflict.new)} in this build{'' if new == present else f', as {new}'}"
    )
    advice = "give the CSV a new version"
    if overwrite is Overwrite.HEADS:
        return f"{text}. Something replaces or skips it, so that overwrite: heads keeps it: {advice}"
    never = f"{text}. overwrite: never keeps what clusters may have installed"
    if conflict.followed:
        return f"{never}, and overwrite: heads would keep it too, as something replaces or skips it: {advice}"
    return f"{never}: {advice}, or set overwrite: heads for this catalog in the mapping"


def _named(name: str, version: str) -> str:
    """Return how a message names a bundle; what comes after it must not be cut off."""
    return f"{printable(name, _SHOWN)} ({printable(version, _SHOWN)})"


def _order(bundle: Blob) -> Version:
    version = version_of(bundle)
    return version if version is not None else Version((0, 0, 0))


def _refuse(text: str) -> None:
    rules.refuse([Finding(text)], _REFUSED)
