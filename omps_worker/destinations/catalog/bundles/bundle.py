# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle as opm understands it, and what a catalog holds of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.destinations.catalog.grammars.icons import Icon
from omps_worker.destinations.catalog.grammars.names import channel_name_fault, csv_name_fault, edge_fault
from omps_worker.destinations.catalog.grammars.versions import Version, parse_version, tag_of
from omps_worker.manifests.archive import shown

PREFIX = "operators.operatorframework.io.bundle."
PACKAGE_LABEL = f"{PREFIX}package.v1"
CHANNELS_LABEL = f"{PREFIX}channels.v1"
DEFAULT_CHANNEL_LABEL = f"{PREFIX}channel.default.v1"

CHANNELS = 1000
"""How many channels the annotations of a bundle may name. Real ones name some dozens at most."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as opm understands its files, before it is known as which image."""

    name: str
    package: str
    version: str
    release: str
    channels: tuple[str, ...]
    default_channel: str
    replaces: str
    skips: tuple[str, ...]
    skip_range: str
    properties: tuple[Mapping[str, Any], ...] = field(repr=False)
    related_images: tuple[Mapping[str, str], ...] = field(repr=False)
    operator_images: tuple[str, ...] = field(repr=False)
    icon: Icon | None = field(repr=False)
    warnings: tuple[str, ...] = field(repr=False)

    @property
    def tag(self) -> str:
        """The tag of the bundle's image."""
        return tag_of(self.version, self.release)

    @property
    def order(self) -> Version:
        """Where the bundle stands among others of its package."""
        return parse_version(self.version, self.release)

    def name_faults(self) -> Iterator[str]:
        """Yield why the CSV cannot have its name, or name others as it does."""
        if fault := csv_name_fault(self.name):
            yield f"metadata.name {shown(self.name)} {fault}"
        for where, name in (("spec.replaces", self.replaces), *(("spec.skips", each) for each in self.skips)):
            if fault := edge_fault(name):
                yield f"{where} {shown(name)} {fault}"

    def channel_faults(self) -> Iterator[str]:
        """Yield what is wrong about the channels in the annotations: their number, their names."""
        if len(self.channels) > CHANNELS:
            yield f"the annotation {CHANNELS_LABEL} names {len(self.channels)} channels, and may name {CHANNELS}"
        for key, names in ((CHANNELS_LABEL, self.channels), (DEFAULT_CHANNEL_LABEL, (self.default_channel,))):
            for name in names:
                if name and (fault := channel_name_fault(name)):
                    yield f"{shown(name)} in the annotation {key} {fault}"

    def blob(self, image: str) -> dict[str, Any]:
        """Return the ``olm.bundle`` of the bundle that is ``image``."""
        named = {each["image"] for each in self.related_images}
        related = [*self.related_images]
        if image not in named:
            related.append({"name": "", "image": image})
        related += ({"name": "", "image": each} for each in self.operator_images if each not in named)
        return {
            "schema": "olm.bundle",
            "name": self.name,
            "package": self.package,
            "image": image,
            "properties": [dict(each) for each in self.properties],
            "relatedImages": sorted(map(dict, related), key=lambda each: (each["image"], each["name"])),
        }

    def entry(self) -> dict[str, Any]:
        """Return the entry of the bundle in a channel, with all edges of its own."""
        entry: dict[str, Any] = {"name": self.name}
        if self.replaces:
            entry["replaces"] = self.replaces
        if self.skips:
            entry["skips"] = list(self.skips)
        if self.skip_range:
            entry["skipRange"] = self.skip_range
        return entry
