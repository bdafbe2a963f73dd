# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether opm takes a package of a catalog, by the rules of its newest version.

One broken package makes a whole catalog unreadable, so nothing is written that has a fault here. The rules are a port
of operator-registry's ``alpha/declcfg`` and ``alpha/model`` at commit 4f9d6f22 (2026-08). opm stops at the first
fault; here all of them are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omps_worker.common import names
from omps_worker.common.errors import PackageValidationError
from omps_worker.common.text import one_line
from omps_worker.destinations.catalog.grammars.csv_metadata import PROPERTY
from omps_worker.destinations.catalog.grammars.go_structs import ALWAYS_TEXT, TEXT, Field, Mismatch, Struct, fold, text
from omps_worker.destinations.catalog.grammars.graph import chain_fault
from omps_worker.destinations.catalog.grammars.icons import is_base64
from omps_worker.destinations.catalog.grammars.references import reference_fault
from omps_worker.destinations.catalog.grammars.versions import Version, parse_version, range_fault
from omps_worker.destinations.catalog.packages.package_file import (
    BUNDLE,
    CHANNEL,
    DEPRECATIONS,
    PACKAGE,
    Blob,
    PackageFile,
)
from omps_worker.manifests.findings import Finding, in_short, sentences
from omps_worker.manifests.operator_manifests import described

_GVK = Struct({"group": ALWAYS_TEXT, "kind": ALWAYS_TEXT, "version": ALWAYS_TEXT})
_PACKAGE = Struct({"packageName": ALWAYS_TEXT, "version": ALWAYS_TEXT, "release": TEXT})
_DECODERS: Mapping[str, Struct] = {
    PACKAGE: _PACKAGE,
    "olm.package.required": Struct({"packageName": ALWAYS_TEXT, "versionRange": ALWAYS_TEXT}),
    "olm.gvk": _GVK,
    "olm.gvk.required": _GVK,
    "olm.bundle.object": Struct({"data": ALWAYS_TEXT}),
    "olm.csv.metadata": PROPERTY,
    CHANNEL: Struct({"channelName": ALWAYS_TEXT}),
}
"""How opm decodes the properties that it knows."""

_TYPES: Mapping[str, Mapping[str, type]] = {
    PACKAGE: {"name": str, "defaultChannel": str, "icon": dict, "description": str, "properties": list},
    CHANNEL: {"name": str, "package": str, "entries": list, "properties": list},
    BUNDLE: {"name": str, "package": str, "image": str, "properties": list, "relatedImages": list},
    DEPRECATIONS: {"package": str, "entries": list},
}
_ENTRY: Mapping[str, type] = {"name": str, "replaces": str, "skips": list, "skipRange": str}


def package_name_fault(name: str) -> str | None:
    """Return a sentence about why a package of a catalog cannot have that name; None if it can."""
    fault = names.package_name_fault(name)
    return None if fault is None else f"{one_line(name)[:100]!r} {fault}"


def check(package: PackageFile, context: str = "The catalog would not be valid") -> None:
    """Raise PackageValidationError if ``package`` has faults or is too large to be read again.

    ``details["findings"]`` has all faults.
    """
    if (fault := package.graph_fault()) is not None:
        refuse([Finding(fault)], context)
    found = faults(package.blobs())
    if (fault := package.size_fault()) is not None:
        found.append(Finding(fault))
    refuse(found, context)


def refuse(found: Sequence[Finding], context: str) -> None:
    """Raise PackageValidationError if anything was found."""
    if found:
        details = {"validation_info": {}, "findings": list(sentences(found))}
        raise PackageValidationError(f"{context}: {in_short(found)}", details=details)


def faults(blobs: Iterable[Blob]) -> list[Finding]:
    """Return all that opm would refuse about the blobs of one package, none if it takes them."""
    kinds: dict[str, list[Blob]] = {PACKAGE: [], CHANNEL: [], BUNDLE: [], DEPRECATIONS: []}
    found: list[str] = []
    for blob in blobs:
        schema = blob.get("schema")
        wrong = list(_shape(blob))
        found += wrong
        if not wrong and schema in kinds:
            kinds[schema].append(blob)
    if not found:
        found += _Package(kinds).faults()
    return [Finding(text) for text in found]


def _shape(blob: Blob) -> Iterator[str]:
    """Yield what is wrong about the keys of a blob and the types of its values."""
    schema = blob.get("schema")
    if not isinstance(schema, str) or not schema:
        yield "there is a blob without a schema"
        return
    where = f"{schema} {blob.get('name', '')!s:.100}".strip()
    for key, number in Counter(fold(key) for key in blob).items():
        if number > 1:
            yield f"{where} has the key {key} more than once, in different cases"
    for key in ("package", "name"):
        if key in blob and not isinstance(blob[key], str):
            yield f"{where}: its {key} is no text, but {described(blob[key])}"
    yield from _types(blob, _TYPES.get(schema, {}), where)
    if schema == CHANNEL and isinstance(blob.get("entries"), list):
        for number, entry in enumerate(blob["entries"]):
            if not isinstance(entry, dict):
                yield f"{where}: its entry {number} is no object"
                continue
            yield from _types(entry, _ENTRY, f"{where}, entry {number}")
            if not all(isinstance(each, str) for each in _list(entry.get("skips"))):
                yield f"{where}, entry {number}: what it skips is no text"


def _types(blob: Blob, types: Mapping[str, type], where: str) -> Iterator[str]:
    for key, kind in types.items():
        if blob.get(key) is not None and not isinstance(blob[key], kind):
            yield f"{where}: its {key} is {described(blob[key])}"
    yield from _misspelt(blob, types, where)


def _misspelt(blob: Blob, known: Iterable[str], where: str) -> Iterator[str]:
    """Yield keys that opm takes for known ones, whatever their case: they must not be carried over unread."""
    folded = {fold(key): key for key in known}
    for key in blob.keys() - folded.values():
        if (spelt := folded.get(fold(key))) is not None:
            yield f"{where} has the key {one_line(key)[:100]}, which must be spelt {spelt}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class _Package:
    """The blobs of one package whose types are right."""

    def __init__(self, kinds: Mapping[str, list[Blob]]) -> None:
        self._packages, self._channels = kinds[PACKAGE], kinds[CHANNEL]
        self._bundles, self._deprecations = kinds[BUNDLE], kinds[DEPRECATIONS]

    def faults(self) -> Iterator[str]:
        """Yield all faults."""
        if len(self._packages) != 1:
            yield f"there are {len(self._packages)} blobs of {PACKAGE}, instead of one"
            return
        package = self._packages[0]
        name = package.get("name") or ""
        fault = package_name_fault(name)
        if fault:
            yield fault
        yield from _icon_faults(package.get("icon"))
        for blob in (*self._channels, *self._bundles, *self._deprecations):
            if blob.get("package") != name:
                yield f"{blob['schema']} {blob.get('name', '')} is of another package, {blob.get('package')!r}"
        yield from self._channel_faults(package.get("defaultChannel") or "")
        yield from self._bundle_faults(name)
        yield from self._deprecation_faults()

    def _channel_faults(self, default: str) -> Iterator[str]:
        if not self._channels:
            yield "the package has no channel"
        if not default:
            yield "the package has no default channel"
        elif default not in {channel.get("name") for channel in self._channels}:
            yield f"the default channel {default} does not exist"
        for name, number in Counter(channel.get("name") or "" for channel in self._channels).items():
            if not name:
                yield "there is a channel without a name"
            elif number > 1:
                yield f"channel {name} is there {number} times"
        bundles = {bundle.get("name") for bundle in self._bundles}
        for channel in self._channels:
            where = f"channel {channel.get('name')}"
            for fault in _entry_faults(_list(channel.get("entries")), bundles):
                yield f"{where}: {fault}"

    def _bundle_faults(self, package: str) -> Iterator[str]:
        entered = {entry.get("name") for channel in self._channels for entry in _list(channel.get("entries"))}
        versions: dict[str, list[str]] = {}
        for name, number in Counter(bundle.get("name") or "" for bundle in self._bundles).items():
            if not name:
                yield "there is a bundle without a name"
            elif number > 1:
                yield f"bundle {name} is there {number} times"
            elif name not in entered:
                yield f"bundle {name} is in no channel"
        for bundle in self._bundles:
            name = bundle.get("name") or ""
            version, found = bundle_faults(bundle, package)
            yield from (f"bundle {name}: {fault}" for fault in found)
            if version is not None:
                versions.setdefault(str(version), []).append(name)
        for text_, called in versions.items():
            if len(set(called)) > 1:
                yield f"version {text_} is that of several bundles: {', '.join(sorted(set(called)))}"

    def _deprecation_faults(self) -> Iterator[str]:
        if len(self._deprecations) > 1:
            yield f"there are {len(self._deprecations)} blobs of {DEPRECATIONS}, and one is allowed"
        bundles = {bundle.get("name") for bundle in self._bundles}
        channels = {channel.get("name") for channel in self._channels}
        seen: set[tuple[str, str]] = set()
        for entry in (entry for blob in self._deprecations for entry in _list(blob.get("entries"))):
            reference = entry.get("reference") if isinstance(entry, dict) else None
            reference = reference if isinstance(reference, dict) else {}
            schema, name = reference.get("schema") or "", reference.get("name") or ""
            if not isinstance(schema, str) or not isinstance(name, str):
                yield "a deprecation refers to something that is no text"
                continue
            if (schema, name) in seen:
                yield f"{schema} {name} is deprecated twice"
            seen.add((schema, name))
            if not isinstance(entry, dict) or not isinstance(entry.get("message"), str) or not entry["message"]:
                yield f"the deprecation of {schema} {name} has no message"
            if schema == PACKAGE and name:
                yield f"the deprecation of the package may not have a name, and has {name}"
            elif (schema == BUNDLE and name not in bundles) or (schema == CHANNEL and name not in channels):
                yield f"{schema} {name} is deprecated, and does not exist"
            elif schema not in (PACKAGE, BUNDLE, CHANNEL):
                yield f"a deprecation refers to the schema {schema!r}, which cannot be deprecated"


def _icon_faults(icon: Any) -> Iterator[str]:
    if icon is None:
        return
    yield from _misspelt(icon, ("base64data", "mediatype"), "the icon")
    data, media_type = icon.get("base64data"), icon.get("mediatype")
    if not isinstance(media_type, str | None):
        yield "the mediatype of the icon is no text"
    if data is not None and (not isinstance(data, str) or not is_base64(data)):
        yield "the icon is no base64"


def _entry_faults(entries: list[Mapping[str, Any]], bundles: set[Any]) -> Iterator[str]:
    """Yield what is wrong about the entries of a channel."""
    if not entries:
        yield "it has no entry"
        return
    for name, number in Counter(entry.get("name") or "" for entry in entries).items():
        if not name:
            yield "it has an entry without a name"
        elif number > 1:
            yield f"its entry {name} is there {number} times"
        elif name not in bundles:
            yield f"there is no bundle for its entry {name}"
    for entry in entries:
        if "" in _list(entry.get("skips")):
            yield f"its entry {entry.get('name')} skips a bundle without a name"
        skip_range = entry.get("skipRange")
        if skip_range and (fault := range_fault(skip_range)):
            yield f"the skipRange {one_line(skip_range)[:100]!r} of its entry {entry.get('name')} is no range: {fault}"
    named = [{**entry, "name": entry.get("name") or ""} for entry in entries]
    if fault := chain_fault(named):
        yield fault


def bundle_faults(bundle: Blob, package: str) -> tuple[Version | None, list[str]]:
    """Return the version of a bundle, if it can be read, and what is wrong about the bundle."""
    found: list[str] = []
    packages: list[Mapping[str, Any]] = []
    for number, each in enumerate(_list(bundle.get("properties"))):
        kind = each.get("type") if isinstance(each, dict) else None
        if not isinstance(kind, str):
            found.append(f"its property {number} has no type")
            continue
        if "value" not in each:
            found.append(f"its property {number}, of type {one_line(kind)[:100]}, has no value")
            continue
        if (decoder := _DECODERS.get(kind)) is None:
            continue
        try:
            value = decoder(each.get("value"), kind)
        except Mismatch as fault:
            found.append(str(fault))
            continue
        if kind == PACKAGE:
            packages.append(value)
        elif kind == "olm.bundle.object" and not is_base64(value["data"]):
            found.append(f"its property {number}, an {kind}, is no base64")
    found += _image_faults(bundle)
    if len(packages) != 1:
        return None, [*found, f"it has {len(packages)} properties of type {PACKAGE}, instead of one"]
    if packages[0]["packageName"] != package:
        found.append(f"its property {PACKAGE} is of another package, {packages[0]['packageName']!r}")
    release = packages[0].get("release", "")
    try:
        version = parse_version(packages[0]["version"], release)
    except ValueError as fault:
        return None, [*found, f"its version {packages[0]['version']!r} {fault}"]
    if release:
        if bundle.get("name") != f"{package}-v{version}":
            found.append(f"it has a release, so its name must be {package}-v{version}")
        if version.build:
            found.append("it has a release, so its version may have no build metadata")
    return version, found


def _image_faults(bundle: Blob) -> Iterator[str]:
    image = bundle.get("image")
    properties = (each for each in _list(bundle.get("properties")) if isinstance(each, dict))
    objects = any(each.get("type") == "olm.bundle.object" for each in properties)
    if not image:
        if not objects:
            yield "it has no image"
    elif fault := reference_fault(image):
        yield f"its image {one_line(image)[:300]!r} is no reference: {fault}"
    for number, each in enumerate(_list(bundle.get("relatedImages"))):
        try:
            related = _RELATED(each, f"relatedImages[{number}]")["image"]
        except Mismatch as mismatch:
            yield str(mismatch)
            continue
        if related and (fault := reference_fault(related)):
            yield f"relatedImages[{number}] {one_line(related)[:300]!r} is no reference: {fault}"


_RELATED = Struct({"name": ALWAYS_TEXT, "image": Field(text, str, omit_empty=False)})
