# SPDX-License-Identifier: GPL-3.0-or-later
"""One package of a catalog: the blobs of its file, in the only form in which this worker writes them.

A file is compact JSON, one blob a line, keys sorted, ASCII only: the package, its channels by name, its bundles by
version, its deprecations, then blobs of other schemas. The same content gives the same bytes, so the digest of the file
tells whether a release changes anything. The text is such that opm v1.26 reads it, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from omps_worker.common.json_text import DEPTH_LIMIT, is_deeper, read_json
from omps_worker.destinations.catalog.grammars.graph import heads_of
from omps_worker.destinations.catalog.grammars.references import digest_of
from omps_worker.destinations.catalog.grammars.versions import Version, parse_version

PACKAGE = "olm.package"
CHANNEL = "olm.channel"
BUNDLE = "olm.bundle"
DEPRECATIONS = "olm.deprecations"

FILE_BYTES = 32 * 2**20
"""How large the file of one package may be. The largest packages of the community have about 1 MB."""

FILE_CONTAINERS = 1_000_000
"""How many objects and arrays the file of one package may hold."""

FILE_BLOBS = 20_000
"""How many blobs the file of one package may hold."""

_LIKE_AN_ESCAPE = re.compile(r"\\\\(?=u003[ce]|u0026)")

Blob = Mapping[str, Any]
"""One JSON object of a catalog."""


class NotAPackageFile(ValueError):
    """These bytes are no file of a package as this worker writes it; the message is a phrase."""


def canonical(value: Any) -> str:
    """Return JSON that is the same for equal values: compact, keys sorted, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def version_of(bundle: Blob) -> Version | None:
    """Return the version of an ``olm.bundle``; None if it has none that can be read."""
    for each in _mappings(bundle.get("properties")):
        value = each.get("value")
        if each.get("type") == PACKAGE and isinstance(value, dict):
            version, release = value.get("version"), value.get("release") or ""
            if isinstance(version, str) and isinstance(release, str):
                try:
                    return parse_version(version, release)
                except ValueError:
                    return None
    return None


def version_text(bundle: Blob) -> str:
    """Return the version of an ``olm.bundle`` as its CSV has it, without a release; empty if there is none."""
    version = version_of(bundle)
    return str(Version(version.numbers, version.pre, version.build)) if version else ""


def pullspec_of(bundle: Blob) -> str:
    """Return the image of an ``olm.bundle``; empty if it has none, but ``olm.bundle.object`` among its properties."""
    return str(bundle.get("image") or "")


def content_of(pullspec: str) -> str:
    """Return what tells whether two bundles have the same content: an image may move to another repository."""
    return digest_of(pullspec) or pullspec


class ChannelText:
    """Counts the bytes that the names in the entries of channels take in the file, with quotes and commas."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[Blob, int]] = {}
        self._bytes = 0

    def fault_with(self, entries: Iterable[Blob]) -> str | None:
        """Count one more channel, and return why the file would be too large; None if it may not be."""
        for entry in entries:
            if (known := self._sizes.get(id(entry))) is None:
                known = self._sizes[id(entry)] = entry, _names_in(entry)
            self._bytes += known[1]
        if self._bytes <= FILE_BYTES:
            return None
        return f"its channels have more than {FILE_BYTES} bytes, and the file of a package may have so many"


@dataclass(frozen=True)
class PackageFile:
    """All blobs of one package. Nothing is validated here: see ``rules``."""

    package: Blob
    channels: tuple[Blob, ...] = field(repr=False)
    bundles: tuple[Blob, ...] = field(repr=False)
    deprecations: tuple[Blob, ...] = field(default=(), repr=False)
    others: tuple[Blob, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, blobs: Iterable[Blob]) -> PackageFile:
        """Sort ``blobs`` into a package. Raises NotAPackageFile unless exactly one of them is an ``olm.package``."""
        kinds: dict[str, list[Blob]] = {PACKAGE: [], CHANNEL: [], BUNDLE: [], DEPRECATIONS: []}
        others: list[Blob] = []
        for blob in blobs:
            kinds.get(str(blob.get("schema")), others).append(blob)
        if len(kinds[PACKAGE]) != 1:
            raise NotAPackageFile(f"it has {len(kinds[PACKAGE])} blobs of {PACKAGE}, instead of one")
        return cls(
            kinds[PACKAGE][0],
            tuple(sorted(kinds[CHANNEL], key=lambda blob: str(blob.get("name")))),
            tuple(sorted(kinds[BUNDLE], key=_by_version)),
            tuple(sorted(kinds[DEPRECATIONS], key=canonical)),
            tuple(sorted(others, key=canonical)),
        )

    @classmethod
    def parse(cls, data: bytes) -> PackageFile:
        """Read the bytes of a file. Raises NotAPackageFile if this worker cannot have written them."""
        if len(data) > FILE_BYTES:
            raise NotAPackageFile(f"it has more than {FILE_BYTES} bytes")
        lines = data.split(b"\n", FILE_BLOBS + 1)
        if len(lines) > FILE_BLOBS + 1:
            raise NotAPackageFile(f"it has more than {FILE_BLOBS} lines")
        room = FILE_CONTAINERS
        blobs = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                text = line.decode()
                blob = read_json(text, containers=room, parse_constant=_refuse, parse_float=_finite)
            except ValueError as fault:
                raise NotAPackageFile(f"line {number} is no JSON that can be read: {str(fault)[:200]}") from None
            if not isinstance(blob, dict):
                raise NotAPackageFile(f"line {number} is no JSON object")
            room -= text.count("{") + text.count("[")
            blobs.append(blob)
        return cls.of(blobs)

    @property
    def name(self) -> str:
        """The name of the package."""
        return str(self.package.get("name", ""))

    @property
    def default_channel(self) -> str:
        """The name of the default channel."""
        return str(self.package.get("defaultChannel", ""))

    def blobs(self) -> tuple[Blob, ...]:
        """Return all blobs, in the order of the file."""
        return (self.package, *self.channels, *self.bundles, *self.deprecations, *self.others)

    def data(self) -> bytes:
        """Return the bytes of the file."""
        text = "".join(f"{canonical(blob)}\n" for blob in self.blobs())
        # opm before v1.28 replaces what looks like an escape that Go's JSON has, after a backslash too.
        return _LIKE_AN_ESCAPE.sub(r"\\u005c", text).encode("ascii")

    def size_fault(self) -> str | None:
        """Return why ``parse`` would refuse the file for its size or depth; None if it would not."""
        if (fault := self.graph_fault()) is not None:
            return fault
        if any(is_deeper(blob, DEPTH_LIMIT) for blob in self.blobs()):
            return f"its values are nested more than {DEPTH_LIMIT} deep"
        data = self.data()
        for limit, number, what in (
            (FILE_BYTES, len(data), "bytes"),
            (FILE_BLOBS, data.count(b"\n"), "blobs"),
            (FILE_CONTAINERS, data.count(b"{") + data.count(b"["), "objects and arrays"),
        ):
            if number > limit:
                return f"it has {number} {what}, and the file of a package may have {limit}"
        return None

    def graph_fault(self) -> str | None:
        """Return why the names in the channels alone make the file too large; None if they do not.

        Channels can have the same entry, and name it in a text that is many times as large as they are in memory.
        """
        text = ChannelText()
        faults = (text.fault_with(_mappings(channel.get("entries"))) for channel in self.channels)
        return next((fault for fault in faults if fault is not None), None)

    @cached_property
    def digest(self) -> str:
        """The hex sha256 of the file. An update compares it several times."""
        return hashlib.sha256(self.data()).hexdigest()

    def bundle(self, name: str) -> Blob | None:
        """Return the bundle of that name; None if there is none."""
        return next((each for each in self.bundles if each.get("name") == name), None)

    def channel(self, name: str) -> Blob | None:
        """Return the channel of that name; None if there is none."""
        return next((each for each in self.channels if each.get("name") == name), None)

    def heads(self) -> dict[str, str]:
        """Return the head of each channel, by the channel's name. The package must be valid."""
        return {channel["name"]: heads_of(channel["entries"])[0] for channel in self.channels}


def known_heads(package: PackageFile) -> dict[str, str]:
    """Return the heads of channels, {} for a package that is in the catalog and breaks today's rules."""
    try:
        return {str(channel): str(head) for channel, head in package.heads().items()}
    except (LookupError, TypeError, AttributeError):
        return {}


def _by_version(blob: Blob) -> tuple[Any, ...]:
    version = version_of(blob)
    name = str(blob.get("name"))
    return (1, version, name) if version else (0, name)


def _names_in(entry: Blob) -> int:
    skips = entry.get("skips")
    named = (entry.get("name"), entry.get("replaces"), *(skips if isinstance(skips, list) else ()))
    return sum(len(each) + len('"",') for each in named if isinstance(each, str))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("it has a number that is too large")
    return value
