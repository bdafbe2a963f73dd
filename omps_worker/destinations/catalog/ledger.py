# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog image as it is now: its packages, and one package as an update starts from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omps_worker.common.errors import CatalogNotOurs
from omps_worker.common.json_text import parse_json
from omps_worker.common.text import shell_word
from omps_worker.destinations.catalog.image_registry.answers import Descriptor, Manifest
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.catalog_image import (
    LAYER_BYTES,
    CatalogLayer,
    CatalogLayers,
    NotOurs,
    package_files,
)
from omps_worker.destinations.catalog.images.image import JSON_BYTES
from omps_worker.destinations.catalog.packages.package_file import NotAPackageFile, PackageFile


@dataclass(frozen=True, slots=True)
class OpenedCatalog:
    """A catalog image whose manifest and configuration are read; the layers are read on demand."""

    client: ImageRegistryClient
    image: ImageName
    manifest: Manifest
    catalog: CatalogLayers

    def files(self, layer: CatalogLayer) -> Mapping[str, bytes]:
        """Read the package files in one layer, by package. Raises NotOurs, and the errors of ImageRegistryClient."""
        descriptor = next(each for each in self.manifest.layers if each.digest == layer.digest)
        _check_size(descriptor, LAYER_BYTES, "a layer")
        return package_files(layer, self.client.blob(self.image.repository, descriptor, max_bytes=LAYER_BYTES))


def open_catalog(client: ImageRegistryClient, image: ImageName, manifest: Manifest) -> OpenedCatalog:
    """Open the catalog that has ``manifest``. Raises NotOurs if the worker did not write it."""
    if manifest.config is None:
        raise NotOurs(manifest.unsupported or "it is a list of manifests")
    _check_size(manifest.config, JSON_BYTES, "a configuration")
    config = client.blob(image.repository, manifest.config, max_bytes=JSON_BYTES)
    return OpenedCatalog(client, image, manifest, CatalogLayers.parse(manifest.body, config))


def _check_size(descriptor: Descriptor, limit: int, what: str) -> None:
    """Raise NotOurs if the worker never writes such a blob, so that it need not be read."""
    if descriptor.foreign:
        raise NotOurs(f"it has {what} that lies outside the registry")
    if descriptor.size > limit:
        raise NotOurs(f"it has {what} of {descriptor.size} bytes, more than the limit of {limit}")


def not_ours(image: ImageName, reason: object, advice: str = "") -> CatalogNotOurs:
    """Return the error for an image that the worker did not write."""
    text = f"The image {image} was not written by omps-worker: {reason}."
    return CatalogNotOurs(f"{text} {advice}" if advice else text, details={"registry_response": {}})


def deletion(catalog: str, package: str) -> str:
    """Return the command that takes a whole package out of a catalog, whatever the package is like."""
    return f"omps-worker delete --catalog {shell_word(catalog)} {shell_word(package)}"


def damaged_package(image: ImageName, catalog: str, package: str, reason: object) -> CatalogNotOurs:
    """Return the error for the file of a package that cannot be read, in a catalog that the worker wrote."""
    return CatalogNotOurs(
        f"The package {package} in the catalog {image} is damaged: {reason}. Delete it with "
        f"`{deletion(catalog, package)}`, then publish its builds again; other packages stay.",
        details={"registry_response": {}},
    )


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The catalog image at its tag, and the layer with one package. ``digest`` is None if the tag does not exist.

    ``foreign``: why the image is not one of the worker's, if it counts as an empty catalog nevertheless. ``damaged``:
    why the file of the package cannot be read, if the catalog has one.
    """

    digest: str | None
    catalog: CatalogLayers
    files: Mapping[str, bytes] = field(repr=False)
    """The package files in the layer of the package, by package."""
    package: PackageFile | None = field(repr=False)
    foreign: str | None = None
    damaged: str | None = None


def read_state(
    client: ImageRegistryClient,
    image: ImageName,
    package: str,
    *,
    writing: bool = False,
    start_over: bool = False,
    known: CatalogState | None = None,
    advice: str = "",
    catalog: str = "NAME",
    damaged_too: bool = False,
) -> CatalogState:
    """Read what the catalog has of ``package``: two or three calls, however large the catalog is.

    ``writing``: as in ``ImageRegistryClient.look``. ``start_over``: take an image that the worker did not write for an
    empty catalog; without it, CatalogNotOurs is raised. ``known``: what an earlier call returned for this package; it
    is returned again, after one call without a body, if the tag names the same image. ``advice``: what CatalogNotOurs
    adds. ``catalog``: the name in the configuration. ``damaged_too``: return a state also if the file of the package
    cannot be read; without it, CatalogNotOurs says how to delete the package. One package is never a reason to start
    over.

    Raises CatalogError if it is not certain what is there: a missing tag is never by itself an empty catalog.
    """
    if known is not None and known.digest is not None and client.digest(image, writing=writing) == known.digest:
        return known
    manifest = client.look(image, writing=writing)
    if manifest is None:
        return CatalogState(None, CatalogLayers(), {}, None)
    try:
        opened = open_catalog(client, image, manifest)
        layer = opened.catalog.layer_with(package)
        files = opened.files(layer) if layer is not None else {}
    except NotOurs as fault:
        if start_over:
            return CatalogState(manifest.digest, CatalogLayers(), {}, None, foreign=str(fault))
        raise not_ours(image, fault, advice) from None
    data = files.get(package)
    try:
        found = None if data is None else PackageFile.parse(data)
    except NotAPackageFile as fault:
        if not damaged_too:
            raise damaged_package(image, catalog, package, fault) from None
        return CatalogState(manifest.digest, opened.catalog, files, None, damaged=str(fault))
    return CatalogState(manifest.digest, opened.catalog, files, found)


def labels_of(client: ImageRegistryClient, image: ImageName) -> Mapping[str, str]:
    """Return the labels of an image, {} if it is a list of manifests, is gone, or has them where they are not read.

    Raises CatalogError if that cannot be found out.
    """
    manifest = client.look(image)
    config: Descriptor | None = manifest.config if manifest is not None else None
    if config is None or config.foreign or config.size > JSON_BYTES:
        return {}
    return labels_in(client.blob(image.repository, config, max_bytes=JSON_BYTES))


def labels_in(config: bytes) -> Mapping[str, str]:
    """Return the labels in an image's configuration, {} if it has none or is not readable."""
    value = parse_json(config)
    described = value.get("config") if isinstance(value, dict) else None
    labels = described.get("Labels") if isinstance(described, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {str(key): text for key, text in labels.items() if isinstance(text, str)}
