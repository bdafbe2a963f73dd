# SPDX-License-Identifier: GPL-3.0-or-later
"""What a catalog in an image registry holds, for people and for checks. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omps_worker.common.errors import CatalogNotOurs
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.catalog_image import (
    LAYER_BYTES,
    Catalog,
    CatalogLayer,
    NotOurs,
    package_files,
)
from omps_worker.destinations.catalog.images.image import JSON_BYTES
from omps_worker.destinations.catalog.packages.package_file import NotAPackageFile, PackageFile, version_text


@dataclass(frozen=True, slots=True)
class CatalogContents:
    """The packages at the tag of a catalog, or one of them; ``digest`` is None if the tag does not exist yet."""

    image: str
    digest: str | None
    packages: tuple[PackageFile, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the output of ``catalog show --json``, without the name of the catalog."""
        return {
            "image": self.image,
            "digest": self.digest,
            "packages": [_package_json(package) for package in self.packages],
        }


def read_catalog(client: ImageRegistryClient, image: ImageName, package: str | None = None) -> CatalogContents:
    """Return what the catalog at the tag ``image`` holds: all packages, or only ``package``.

    Raises CatalogNotOurs if the worker did not write the image, and the errors of ImageRegistryClient.
    """
    manifest = client.look(image)
    if manifest is None:
        return CatalogContents(str(image), None, ())
    if manifest.config is None:
        raise _not_ours(image, "it is a list of manifests")
    try:
        config = client.blob(image.repository, manifest.config, max_bytes=JSON_BYTES)
        catalog = Catalog.parse(manifest.body, config)
        blobs = {layer.digest: layer for layer in manifest.layers}
        packages: list[PackageFile] = []
        for layer in _layers(catalog, package):
            blob = client.blob(image.repository, blobs[layer.digest], max_bytes=LAYER_BYTES)
            packages += _packages(package_files(layer, blob), package)
    except NotOurs as fault:
        raise _not_ours(image, str(fault)) from None
    return CatalogContents(str(image), manifest.digest, tuple(sorted(packages, key=lambda each: each.name)))


def _layers(catalog: Catalog, package: str | None) -> list[CatalogLayer]:
    return [layer for layer in catalog.layers.values() if package in layer.packages or package is None]


def _packages(files: Mapping[str, bytes], package: str | None) -> list[PackageFile]:
    found = []
    for name, data in files.items():
        if package not in (None, name):
            continue
        try:
            found.append(PackageFile.parse(data))
        except NotAPackageFile as fault:
            raise NotOurs(f"its package {name} cannot be read: {fault}") from None
    return found


def _not_ours(image: ImageName, reason: str) -> CatalogNotOurs:
    return CatalogNotOurs(
        f"The image {image} was not written by omps-worker: {reason}.", details={"registry_response": {}}
    )


def _package_json(package: PackageFile) -> dict[str, Any]:
    return {
        "package": package.name,
        "digest": package.digest,
        "channels": package.heads(),
        "default_channel": package.default_channel,
        "bundles": [
            {"name": str(bundle.get("name")), "version": version_text(bundle), "image": str(bundle.get("image"))}
            for bundle in package.bundles
        ],
    }
