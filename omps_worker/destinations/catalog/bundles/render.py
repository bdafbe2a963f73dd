# SPDX-License-Identifier: GPL-3.0-or-later
"""What opm renders for a bundle image: its ``olm.bundle`` blob.

opm reads the files directly in ``manifests/`` and ``metadata/``, of each only the first document, and skips what does
not decode. The CSV's spec is read by exact keys, apart from ``olm.csv.metadata``, ``install`` and the lists in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omps_worker.common.json_text import parse_json
from omps_worker.common.limits import VALUES
from omps_worker.common.text import one_line
from omps_worker.destinations.catalog.bundles.apis import Gvk, apis_of
from omps_worker.destinations.catalog.bundles.bundle import CHANNELS_LABEL, DEFAULT_CHANNEL_LABEL, PACKAGE_LABEL, Bundle
from omps_worker.destinations.catalog.bundles.extraction import extraction_faults
from omps_worker.destinations.catalog.bundles.operator_images import operator_images
from omps_worker.destinations.catalog.grammars.csv_metadata import csv_metadata
from omps_worker.destinations.catalog.grammars.csv_types import check_types
from omps_worker.destinations.catalog.grammars.go_structs import (
    ALWAYS_TEXT,
    LOOSE_TEXT,
    RAW,
    TEXTS,
    Field,
    Mismatch,
    Struct,
    listed,
    text,
)
from omps_worker.destinations.catalog.grammars.go_yaml import GoReader
from omps_worker.destinations.catalog.grammars.icons import icon_of
from omps_worker.destinations.catalog.grammars.names import csv_name_fault
from omps_worker.destinations.catalog.grammars.versions import parse_version
from omps_worker.destinations.catalog.packages.package_file import canonical
from omps_worker.manifests.archive import shown
from omps_worker.manifests.operator_manifests import CSV
from omps_worker.manifests.yaml_reader import NotYaml

ENDINGS = (".yaml", ".yml", ".json")
"""How the names of files end that are meant for opm."""

_SKIP_RANGE = "olm.skipRange"
_PROPERTIES = "olm.properties"

_ANNOTATIONS = Struct({PACKAGE_LABEL: LOOSE_TEXT, CHANNELS_LABEL: LOOSE_TEXT, DEFAULT_CHANNEL_LABEL: LOOSE_TEXT})
_TYPED = Struct({"type": LOOSE_TEXT, "value": RAW})
_ANNOTATED = Struct({"type": ALWAYS_TEXT, "value": RAW})
_GVK = Struct({"group": ALWAYS_TEXT, "kind": ALWAYS_TEXT, "version": ALWAYS_TEXT})
_PACKAGE = Struct({"packageName": ALWAYS_TEXT, "version": ALWAYS_TEXT, "release": Field(text, str)})
_IMAGE = Struct({"name": ALWAYS_TEXT, "image": ALWAYS_TEXT})
_OBJECT_META = Struct({"name": ALWAYS_TEXT, "annotations": TEXTS})


class CannotRender(ValueError):
    """opm would refuse the bundle; the message is a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the files in ``metadata/`` of a bundle say."""

    package: str
    channels: tuple[str, ...] = ()
    default_channel: str = ""
    dependencies: tuple[Mapping[str, Any], ...] = ()
    properties: tuple[Mapping[str, Any], ...] = ()


def read_bundle(files: Mapping[str, bytes], values: int = VALUES) -> Bundle:
    """Read the files of a bundle image, by their paths, as opm does.

    ``values``: how many YAML values they may have. Raises CannotRender if opm would refuse them.
    """
    reader = GoReader(values)
    unread = list(extraction_faults(files))
    objects = _first_documents(reader, files, "manifests/", unread, hidden=False)
    metadata = _read_metadata(_first_documents(reader, files, "metadata/", unread, hidden=True))
    return bundle_of([document for document in objects if is_object(document)], metadata, unread)


def bundle_of(objects: Iterable[Mapping[Any, Any]], metadata: Metadata, warnings: Sequence[str] = ()) -> Bundle:
    """Make a bundle of Kubernetes objects, of which one is a CSV. Raises CannotRender."""
    try:
        return _bundle_of(list(objects), metadata, warnings)
    except Mismatch as fault:
        raise CannotRender(str(fault)) from None


def _bundle_of(objects: list[Mapping[Any, Any]], metadata: Metadata, warnings: Sequence[str]) -> Bundle:
    csv = next((each for each in objects if each.get("kind") == CSV), None)
    if csv is None:
        raise CannotRender("there is no ClusterServiceVersion")
    meta = _OBJECT_META(csv.get("metadata"), "metadata")
    spec = csv.get("spec")
    if not isinstance(spec, dict):
        raise CannotRender("spec is no mapping")
    if not meta["name"]:
        raise CannotRender("metadata.name is missing")
    check_types(csv)
    version, release = _text_at(spec, "version"), _release(spec)
    replaces, skips = _text_at(spec, "replaces"), tuple(_texts_at(spec, "skips"))
    try:
        parse_version(version, release)
    except ValueError as fault:
        raise CannotRender(f"spec.version {version!r} {fault}" if version else "spec.version is missing") from None
    annotations = meta.get("annotations", {})
    provided, required = apis_of(spec, objects)
    properties = _properties(
        Metadata(
            metadata.package,
            dependencies=metadata.dependencies,
            properties=(
                *metadata.properties,
                {"type": "olm.package", "value": _package_value(metadata.package, version, release)},
                *_annotated(annotations),
            ),
        ),
        provided,
        required,
    )
    related = spec.get("relatedImages")
    icon, icon_fault = icon_of(spec)
    images, in_variables = operator_images(spec)
    named = [] if related is None else listed(_IMAGE, _IMAGE.zero)(related, "spec.relatedImages")
    return Bundle(
        name=meta["name"],
        package=metadata.package,
        version=version,
        release=release,
        channels=metadata.channels,
        default_channel=metadata.default_channel,
        replaces=replaces,
        skips=skips,
        skip_range=annotations.get(_SKIP_RANGE, ""),
        properties=(*properties, {"type": "olm.csv.metadata", "value": csv_metadata(csv)}),
        related_images=tuple(named),
        operator_images=tuple(images),
        icon=icon,
        warnings=(
            *warnings,
            *_warnings(icon_fault, {*in_variables} - {*images} - {each["image"] for each in named}, (replaces, *skips)),
        ),
    )


def _first_documents(
    reader: GoReader, files: Mapping[str, bytes], directory: str, unread: list[str], *, hidden: bool
) -> list[Any]:
    """Return the first document of each file directly in ``directory``, by name. Raises CannotRender.

    opm skips files that it cannot read. Those that are meant to be read are told in ``unread``.
    """
    found = []
    for path in sorted(files):
        name = path.removeprefix(directory)
        if name == path or "/" in name or (name.startswith(".") and not hidden):
            continue
        meant = name.endswith(ENDINGS)
        try:
            found.append(reader.first(_text_of(files[path])))
        except NotYaml as fault:
            if meant:
                unread.append(f"opm cannot read {one_line(path)}, so it does not count: {fault}")
        except ValueError as fault:
            # A limit of this worker, perhaps: opm may read the file.
            if meant:
                raise CannotRender(f"{path} cannot be read: {fault}") from None
    return found


def _text_of(content: bytes) -> str:
    """Return the text of a file. Raises NotYaml if it is not UTF-8, and ValueError if opm reads it nevertheless."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        fault = ValueError if content.lstrip().startswith(b"{") else NotYaml
        raise fault("it is not UTF-8 text") from None


def is_object(document: Any) -> bool:
    """Return whether opm takes a document for an object of Kubernetes: it has a kind."""
    return isinstance(document, dict) and isinstance(document.get("kind"), str) and bool(document["kind"])


def _read_metadata(found: Iterable[Any]) -> Metadata:
    annotations: Mapping[str, str] | None = None
    dependencies: list[Mapping[str, Any]] = []
    properties: list[Mapping[str, Any]] = []
    for document in found:
        if annotations is None:
            decoded = _decoded(_ANNOTATIONS, document, "annotations") or {}
            annotations = decoded if any(decoded.values()) else None
        dependencies = dependencies or _decoded(listed(_TYPED, _TYPED.zero), document, "dependencies") or []
        properties = properties or _decoded(listed(_TYPED, _TYPED.zero), document, "properties") or []
    if annotations is None:
        raise CannotRender("no file in metadata/ has the annotations of a bundle")
    channels = annotations[CHANNELS_LABEL]
    return Metadata(
        annotations[PACKAGE_LABEL],
        tuple(channels.split(",")) if channels else (),
        annotations[DEFAULT_CHANNEL_LABEL],
        tuple(dependencies),
        tuple(properties),
    )


def _decoded(decode: Any, document: Any, key: str) -> Any:
    """Decode what stands under ``key`` at the top; None if that is not there, or of another type."""
    try:
        found = Struct({key: Field(decode, lambda: None)})(document, "")
    except Mismatch:
        return None
    return found.get(key)


def _properties(metadata: Metadata, provided: set[Gvk], required: set[Gvk]) -> list[dict[str, Any]]:
    """Return the properties but ``olm.csv.metadata``, in opm's order: each once, but dependencies as often as named."""
    package: Any = None
    found: list[tuple[str, Any]] = []
    for each in (*metadata.properties, *metadata.dependencies):
        if each["type"] in ("olm.package", "olm.gvk") and "value" not in each:
            raise Mismatch(f"an {each['type']} in its dependencies or properties has no value")
    for each in metadata.properties:
        kind, value = each["type"], each.get("value")
        if kind == "olm.package":
            package = _PACKAGE(value, kind)
        elif kind == "olm.gvk":
            provided = provided | {_gvk(value, kind)}
        else:
            found.append((kind, value))
    found = list({(kind, canonical(value)): (kind, value) for kind, value in found}.values())
    for each in metadata.dependencies:
        kind, value = each["type"], each.get("value")
        if kind == "olm.package":
            dependency = _PACKAGE(value, kind)
            wanted = {"packageName": dependency["packageName"], "versionRange": dependency["version"]}
            found.append(("olm.package.required", wanted))
        elif kind == "olm.gvk":
            required = required | {_gvk(value, kind)}
        else:
            found.append((kind, value))
    found.append(("olm.package", package))
    for kind, apis in (("olm.gvk", provided), ("olm.gvk.required", required)):
        found += ((kind, {"group": group, "kind": of, "version": version}) for group, version, of in apis)
    return [{"type": kind, "value": value} for kind, value in sorted(found, key=_last_objects)]


def _last_objects(each: tuple[str, Any]) -> tuple[bool, str, str]:
    """Order by type and text. csv.metadata and bundle objects are last; only a file of properties can have them."""
    kind, value = each
    return kind in ("olm.bundle.object", "olm.csv.metadata"), kind, canonical(value)


def _gvk(value: Any, where: str) -> Gvk:
    gvk = _GVK(value, where)
    return gvk["group"], gvk["version"], gvk["kind"]


def _package_value(package: str, version: str, release: str) -> dict[str, str]:
    return {"packageName": package, "version": version, **({"release": release} if release else {})}


def _annotated(annotations: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return the properties that a CSV has in an annotation; opm ignores one that it cannot read."""
    found = parse_json(annotations[_PROPERTIES]) if _PROPERTIES in annotations else None
    try:
        return [] if found is None else listed(_ANNOTATED, _ANNOTATED.zero)(found, _PROPERTIES)
    except Mismatch:
        return []


def _release(spec: Mapping[Any, Any]) -> str:
    release = spec.get("release")
    if release is None or isinstance(release, str):
        return release or ""
    if isinstance(release, bool) or not isinstance(release, (int, float)):
        raise Mismatch("spec.release must be text or a number")
    return str(int(release)) if release == int(release) else f"{release:g}"


def _text_at(spec: Mapping[Any, Any], key: str) -> str:
    value = spec.get(key)
    return "" if value is None else text(value, f"spec.{key}")


def _texts_at(spec: Mapping[Any, Any], key: str) -> list[str]:
    value = spec.get(key)
    return [] if value is None else listed(text, str)(value, f"spec.{key}")


def _warnings(icon_fault: str | None, unseen: set[str], edges: Iterable[str]) -> Iterable[str]:
    if icon_fault:
        yield icon_fault
    if unseen:
        few = ", ".join(sorted(unseen)[:5])
        yield f"images that only environment variables name are in no relatedImages, so no mirror copies them: {few}"
    if odd := sorted({name for name in edges if name and csv_name_fault(name)}):
        few = ", ".join(map(shown, odd[:5]))
        yield f"spec.replaces and spec.skips name what no cluster can have, as these are no names of objects: {few}"
