# SPDX-License-Identifier: GPL-3.0-or-later
"""What a catalog in an image registry holds, for people and for checks. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.catalog_image import CatalogLayer, CatalogLayers, NotOurs
from omps_worker.destinations.catalog.ledger import damaged_package, not_ours, open_catalog
from omps_worker.destinations.catalog.packages.package_file import (
    NotAPackageFile,
    PackageFile,
    known_heads,
    pullspec_of,
    version_text,
)


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


def read_catalog(
    client: ImageRegistryClient, image: ImageName, package: str | None = None, *, catalog: str = "NAME"
) -> CatalogContents:
    """Return what the catalog at the tag ``image`` holds: all packages, or only ``package``.

    ``catalog`` is the name in the configuration. Raises CatalogNotOurs if the worker did not write the image, or the
    file of a package in it is damaged, and the errors of ImageRegistryClient.
    """
    manifest = client.look(image)
    if manifest is None:
        return CatalogContents(str(image), None, ())
    packages: list[PackageFile] = []
    try:
        opened = open_catalog(client, image, manifest)
        for layer in _layers(opened.catalog, package):
            for name, data in opened.files(layer).items():
                if package in (None, name):
                    packages.append(_package(image, catalog, name, data))
    except NotOurs as fault:
        raise not_ours(image, fault) from None
    return CatalogContents(str(image), manifest.digest, tuple(sorted(packages, key=lambda each: each.name)))


def _layers(catalog: CatalogLayers, package: str | None) -> list[CatalogLayer]:
    return [layer for layer in catalog.layers.values() if package in layer.packages or package is None]


def _package(image: ImageName, catalog: str, name: str, data: bytes) -> PackageFile:
    try:
        return PackageFile.parse(data)
    except NotAPackageFile as fault:
        raise damaged_package(image, catalog, name, fault) from None


def _package_json(package: PackageFile) -> dict[str, Any]:
    return {
        "package": package.name,
        "digest": package.digest,
        "channels": known_heads(package),
        "default_channel": package.default_channel,
        "bundles": [
            {"name": str(bundle.get("name")), "version": version_text(bundle), "image": pullspec_of(bundle)}
            for bundle in package.bundles
        ],
    }
