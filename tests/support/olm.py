# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, bundles and catalogs for tests, small and adjustable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omps_worker.destinations.catalog.bundles.bundle import Bundle
from omps_worker.destinations.catalog.bundles.render import read_bundle
from omps_worker.destinations.catalog.bundles.tree import annotations_text, bundle_labels
from omps_worker.destinations.catalog.packages.package_file import PackageFile, canonical

DATA = Path(__file__).parents[1] / "data" / "olm"


def cases(file: str) -> list[str]:
    """The names of the recorded cases that have ``file``."""
    return sorted(path.parent.name for path in DATA.glob(f"*/{file}"))


def recorded(case: str, file: str) -> Any:
    """The content of a JSON file of a recorded case."""
    return json.loads((DATA / case / file).read_text(encoding="utf-8"))


def input_files(case: str) -> dict[str, bytes]:
    """The files of a recorded case, by their paths."""
    root = DATA / case / "input"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def as_sets(blob: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle of a catalog in which the order of properties and related images does not count."""
    lists = {key: sorted(map(canonical, blob[key])) for key in ("properties", "relatedImages")}
    return {**blob, **lists}


def image(name: str) -> str:
    """A pullspec by digest; the same for the same name."""
    return f"registry.example/acme/{name.partition('.')[0].lower()}@sha256:{name.encode().hex():0<64.64}"


def csv(name: str = "otter.v1.0.0", version: str = "1.0.0", /, **spec: Any) -> dict[str, Any]:
    """A CSV that owns nothing. ``spec`` adds to its spec; ``metadata`` in it to its metadata."""
    metadata = spec.pop("metadata", {})
    return {
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {"name": name, **metadata},
        "spec": {"displayName": "Otter", "version": version, **spec},
    }


def crd(plural: str = "dens", group: str = "otter.example", **spec: Any) -> dict[str, Any]:
    """A CustomResourceDefinition of one version."""
    kind = plural.removesuffix("s").title()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "names": {"kind": kind, "plural": plural}, "versions": [{"name": "v1"}], **spec},
    }


def bundle(
    version: str = "1.0.0",
    channels: str = "stable",
    default: str = "stable",
    package: str = "otter",
    name: str | None = None,
    **spec: Any,
) -> Bundle:
    """A bundle of one CSV, read as opm reads it."""
    files = {
        "manifests/csv.json": json.dumps(csv(name or f"{package}.v{version}", version, **spec)).encode(),
        "metadata/annotations.yaml": annotations_text(bundle_labels(package, channels.split(","), default)),
    }
    return read_bundle(files)


def tree_files(
    versions: Sequence[tuple[str, Mapping[str, Any]]], channels: Mapping[str, str], default: str | None = None
) -> dict[str, str]:
    """The package manifests of ``otter``: what each version has in its spec, and the current CSV of each channel."""
    package: dict[str, Any] = {
        "packageName": "otter",
        "channels": [{"name": name, "currentCSV": current} for name, current in channels.items()],
    }
    if default is not None:
        package["defaultChannel"] = default
    files = {f"{version}/csv.yaml": json.dumps(csv(f"otter.v{version}", version, **spec)) for version, spec in versions}
    return {"otter.package.yaml": json.dumps(package), **files}


def channel(name: str, *entries: Mapping[str, Any] | str, package: str = "otter") -> dict[str, Any]:
    """A channel of a catalog."""
    listed = [{"name": entry} if isinstance(entry, str) else dict(entry) for entry in entries]
    return {"schema": "olm.channel", "name": name, "package": package, "entries": listed}


def bundle_blob(name: str, version: str, package: str = "otter", **more: Any) -> dict[str, Any]:
    """A bundle of a catalog."""
    return {
        "schema": "olm.bundle",
        "name": name,
        "package": package,
        "image": image(name),
        "properties": [{"type": "olm.package", "value": {"packageName": package, "version": version}}],
        "relatedImages": [],
        **more,
    }


def package_blob(default: str = "stable", name: str = "otter", **more: Any) -> dict[str, Any]:
    """The package of a catalog."""
    return {"schema": "olm.package", "name": name, "defaultChannel": default, **more}


def small_package(*more: Mapping[str, Any]) -> PackageFile:
    """A valid package of two versions in one channel, and ``more`` blobs."""
    blobs: Iterator[Mapping[str, Any]] = iter(
        [
            package_blob(),
            channel("stable", {"name": "otter.v1.1.0", "replaces": "otter.v1.0.0"}, "otter.v1.0.0"),
            bundle_blob("otter.v1.0.0", "1.0.0"),
            bundle_blob("otter.v1.1.0", "1.1.0"),
            *more,
        ]
    )
    return PackageFile.of(blobs)
