# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a tree of package manifests: which bundle images are made of it, and which channels they are in.

Each directory with one CSV becomes a bundle. A channel holds what the walk along ``replaces`` and ``skips`` reaches
from its current CSV. All faults of all versions are found before anything is built or sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import FILES, VALUES
from omps_worker.destinations.catalog.bundles.bundle import (
    CHANNELS_LABEL,
    DEFAULT_CHANNEL_LABEL,
    PACKAGE_LABEL,
    PREFIX,
    Bundle,
)
from omps_worker.destinations.catalog.bundles.directories import Directory, read_directories
from omps_worker.destinations.catalog.bundles.extraction import extraction_faults
from omps_worker.destinations.catalog.bundles.render import CannotRender, Metadata, bundle_of
from omps_worker.destinations.catalog.grammars.go_structs import (
    LOOSE_TEXT,
    Field,
    Mismatch,
    Struct,
    loose_text,
    structs,
)
from omps_worker.destinations.catalog.grammars.graph import Entry, reached_from
from omps_worker.destinations.catalog.grammars.icons import Icon
from omps_worker.destinations.catalog.grammars.names import channel_name_fault
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import CHANNEL, PACKAGE, Blob, PackageFile
from omps_worker.manifests.archive import shown
from omps_worker.manifests.file_tree import FileTree
from omps_worker.manifests.findings import Finding, sentences
from omps_worker.manifests.operator_manifests import find_package

TAG_LENGTH = 128
"""How many characters a tag of an image may have."""

ENTRIES = 50_000
"""How many entries all channels may have together, with what these skip. The largest real ones have some hundreds."""

_ANNOTATIONS = "metadata/annotations.yaml"
_CONTEXT = "Failed to plan the bundles of the manifests"
_NOWHERE = "localhost/bundle@sha256:" + 64 * "0"
_CHANNEL = Struct({"name": LOOSE_TEXT, "currentCSV": LOOSE_TEXT})
_PACKAGE_FILE = Struct({"channels": structs(_CHANNEL), "defaultChannel": Field(loose_text, str)})


@dataclass(frozen=True, slots=True)
class PlannedBundle:
    """A bundle image to be made of one directory of the tree."""

    bundle: Bundle
    directory: str
    files: Mapping[str, bytes] = field(repr=False)
    """The content of each file of the image, by its path."""
    labels: Mapping[str, str] = field(repr=False)
    """The labels of the image, which are its annotations too."""

    @property
    def name(self) -> str:
        """The name of the CSV."""
        return self.bundle.name


@dataclass(frozen=True, slots=True)
class TreePlan:
    """What a tree of package manifests becomes in a catalog."""

    package: str
    default_channel: str
    channels: Mapping[str, tuple[str, ...]]
    """The bundles of each channel, the head first."""
    bundles: tuple[PlannedBundle, ...]
    """All bundles that a channel reaches, the lowest version first."""
    unpublished: tuple[str, ...]
    """The names of the CSVs that no channel reaches."""
    left_out: tuple[str, ...]
    """The paths of the files that no bundle takes."""
    icon: Icon | None = field(repr=False)
    warnings: tuple[str, ...] = field(repr=False)

    def package_file(self, images: Mapping[str, str]) -> PackageFile:
        """Return the package as a catalog holds it. ``images``: the pullspec of each bundle, by name."""
        by_name = {each.name: each.bundle for each in self.bundles}
        entry_of = {name: bundle.entry() for name, bundle in by_name.items()}
        package: dict[str, Any] = {"schema": PACKAGE, "name": self.package, "defaultChannel": self.default_channel}
        if self.icon is not None:
            package["icon"] = dict(self.icon)
        blobs: list[Blob] = [package]
        for channel, names in self.channels.items():
            entries = [entry_of[name] for name in names if name in by_name]
            blobs.append({"schema": CHANNEL, "name": channel, "package": self.package, "entries": entries})
        blobs += (bundle.blob(images[name]) for name, bundle in by_name.items())
        return PackageFile.of(blobs)


def plan(tree: FileTree, values: int = VALUES, files: int = FILES) -> TreePlan:
    """Plan the bundles of ``tree``, whose files may have so many YAML values, and become so many files, together.

    Raises PackageValidationError with all faults in ``details["findings"]``; trying again does not help. Raises
    OSError if the disk fails.
    """
    planned, found = examine(tree, values, files)
    if planned is None or found:
        rules.refuse(found, _CONTEXT)
        raise AssertionError("a plan that is missing has a fault")
    return planned


def examine(tree: FileTree, values: int = VALUES, files: int = FILES) -> tuple[TreePlan | None, list[Finding]]:
    """Return the plan of ``tree``, as far as there is one, and all faults.

    A plan with faults is not to be carried out.
    """
    try:
        found = read_directories(tree, values, files)
    except PackageValidationError as error:
        return None, [Finding(error.message)]
    try:
        path, document = find_package({**found.root_documents, **found.misplaced}.items())
    except PackageValidationError as error:
        return None, [*found.faults, Finding(error.message)]
    draft = _Draft(path, document, found.directories, found.crowded, list(found.faults), list(found.left_out))
    return draft.plan(), draft.faults


@dataclass(slots=True)
class _Draft:
    """A plan in the making, with the faults that are found on the way."""

    path: str
    document: Mapping[Any, Any]
    directories: Sequence[Directory]
    crowded: Set[str]
    faults: list[Finding]
    left_out: list[str]
    warnings: list[Finding] = field(default_factory=list)

    def plan(self) -> TreePlan:
        package = self.document["packageName"]
        if fault := rules.package_name_fault(package):
            self._add(fault, self.path)
        rendered = self._rendered(package)
        channels, default = self._channels(rendered)
        entries = {each.name: each.entry for each in self.directories if each.name}
        members = self._members(channels, entries)
        bundle_channels: dict[str, list[str]] = {}
        for channel in sorted(members):
            for name in members[channel]:
                bundle_channels.setdefault(name, []).append(channel)
        published = bundle_channels.keys()
        for directory in self.directories:
            if directory.name in published:
                self.faults += (Finding(text, directory.csv_path) for text in directory.faults)
            else:
                self.warnings += (Finding(text, directory.csv_path) for text in directory.faults)
        bundles = [
            self._planned(directory, bundle, bundle_labels(package, bundle_channels[bundle.name], default))
            for directory, bundle in sorted(rendered.values(), key=lambda each: (each[1].order, each[1].name))
            if bundle.name in published
        ]
        self._check_tags(bundles)
        head = rendered.get(channels.get(default, ""))
        made = TreePlan(
            package,
            default,
            members,
            tuple(bundles),
            unpublished=tuple(sorted(entries.keys() - published)),
            left_out=tuple(sorted(self.left_out)),
            icon=head[1].icon if head else None,
            warnings=sentences(self.warnings),
        )
        self._check_rules(made)
        return made

    def _add(self, text: str, file: str | None = None) -> None:
        self.faults.append(Finding(text, file))

    def _rendered(self, package: str) -> dict[str, tuple[Directory, Bundle]]:
        """Return the bundles that opm would render, by name; what it would refuse is noted with its directory."""
        rendered: dict[str, tuple[Directory, Bundle]] = {}
        names: dict[str, str] = {}
        for directory in self.directories:
            try:
                bundle = bundle_of(directory.objects, Metadata(package))
            except CannotRender as fault:
                directory.faults.append(str(fault))
            else:
                rendered[bundle.name] = (directory, bundle)
                directory.faults += bundle.name_faults()
            directory.objects.clear()
            if directory.name in names:
                self._add(f"{directory.name} is the name of the CSV in {names[directory.name]} too", directory.csv_path)
            names[directory.name] = directory.csv_path
        return rendered

    def _channels(self, rendered: Mapping[str, object]) -> tuple[dict[str, str], str]:
        """Return the current CSV of each channel, and the default channel."""
        try:
            decoded = _PACKAGE_FILE(self.document, "")
        except Mismatch as fault:
            self._add(str(fault), self.path)
            return {}, ""
        known = {directory.name for directory in self.directories} | rendered.keys() | self.crowded
        channels: dict[str, str] = {}
        for each in decoded.get("channels", []):
            name, current = each["name"], each["currentCSV"]
            if not name or not current:
                self._add("there is a channel without a name or without a currentCSV", self.path)
            elif name_fault := channel_name_fault(name):
                self._add(f"channel {shown(name)}: its name {name_fault}", self.path)
            elif name in channels:
                self._add(f"channel {name} is there more than once", self.path)
            elif current not in known:
                self._add(f"channel {name}: its currentCSV {current} is in no directory of the manifests", self.path)
            channels.setdefault(name, current)
        default = decoded.get("defaultChannel", "")
        if not channels:
            self._add("there is no channel", self.path)
        elif not default and len(channels) > 1:
            self._add("no defaultChannel, and several channels", self.path)
        elif default and default not in channels:
            self._add(f"the defaultChannel {default} is none of the channels", self.path)
        return channels, default or next(iter(channels), "")

    def _members(self, channels: Mapping[str, str], entries: Mapping[str, Entry]) -> dict[str, tuple[str, ...]]:
        """Return what each channel reaches, until that is more than ``ENTRIES``."""
        members: dict[str, tuple[str, ...]] = {}
        room = ENTRIES
        for channel, head in channels.items():
            members[channel] = tuple(reached_from(head, entries))
            room -= sum(1 + len(entries[name].get("skips") or ()) for name in members[channel])
            if room < 0:
                self._add(f"the channels have more than {ENTRIES} entries, with what these skip", self.path)
                return {}
        return members

    def _planned(self, directory: Directory, bundle: Bundle, labels: Mapping[str, str]) -> PlannedBundle:
        self.warnings += (
            Finding(text, directory.csv_path) for text in (*bundle.warnings, *extraction_faults(directory.files))
        )
        files = {f"manifests/{name}": content for name, content in directory.files.items()}
        return PlannedBundle(bundle, directory.path, {**files, _ANNOTATIONS: annotations_text(labels)}, labels)

    def _check_tags(self, bundles: Sequence[PlannedBundle]) -> None:
        tags: dict[str, str] = {}
        for each in bundles:
            tag = each.bundle.tag
            if len(tag) > TAG_LENGTH:
                self._add(f"{each.name}: its version is too long for a tag, of {TAG_LENGTH} characters at most")
            elif tag in tags and tags[tag] != each.bundle.version:
                self._add(f"versions {tags[tag]} and {each.bundle.version} have the same tag, {tag}")
            tags[tag] = each.bundle.version

    def _check_rules(self, made: TreePlan) -> None:
        package = made.package_file({each.name: _NOWHERE for each in made.bundles})
        if not self.faults:
            self.faults += rules.faults(package.blobs())
            return
        # The graph of a tree with faults is not what it is meant to be; each bundle is.
        for bundle in package.bundles:
            for text in rules.bundle_faults(bundle, made.package)[1]:
                self._add(f"bundle {bundle['name']}: {text}")


def bundle_labels(package: str, channels: Sequence[str], default: str) -> dict[str, str]:
    """Return the labels of a bundle image, which are its annotations too."""
    return {
        f"{PREFIX}mediatype.v1": "registry+v1",
        f"{PREFIX}manifests.v1": "manifests/",
        f"{PREFIX}metadata.v1": "metadata/",
        PACKAGE_LABEL: package,
        CHANNELS_LABEL: ",".join(channels),
        DEFAULT_CHANNEL_LABEL: default,
    }


def annotations_text(labels: Mapping[str, str]) -> bytes:
    """Return the content of ``metadata/annotations.yaml``."""
    lines = (f"  {key}: {json.dumps(value)}\n" for key, value in sorted(labels.items()))
    return ("annotations:\n" + "".join(lines)).encode("ascii")


def relabelled(planned: PlannedBundle, labels: Mapping[str, str]) -> PlannedBundle:
    """Return the bundle with other labels and annotations.

    Channels are in the labels, so a new channel gives an unchanged CSV another image. With the labels of an image that
    exists, the digest tells whether the rest is the same.
    """
    files = {**planned.files, _ANNOTATIONS: annotations_text(labels)}
    return PlannedBundle(planned.bundle, planned.directory, files, dict(labels))
