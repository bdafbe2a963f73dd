# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle builds: the bundle is an image that the build system has pushed; it is read, and the catalog names it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.limits import Limits
from omps_worker.common.model import Build
from omps_worker.destinations.catalog.bundles.bundle import Bundle
from omps_worker.destinations.catalog.bundles.render import CannotRender, read_bundle
from omps_worker.destinations.catalog.catalog import Catalog, named_image
from omps_worker.destinations.catalog.image_registry.answers import Manifest
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.unpacking import CannotUnpack, Room, unpack
from omps_worker.manifests.contents import computing
from omps_worker.manifests.file_tree import FilesOnDisk
from omps_worker.manifests.transformations import Transformations, apply

DIRECTORIES = ("manifests", "metadata")
"""The directories of a bundle image that opm reads."""

UNPACKED = 4
"""How many times as large as the files of a bundle all layers of its image may be, unpacked."""

_PLATFORM = {"architecture": "amd64", "os": "linux"}


@dataclass(frozen=True, slots=True)
class BundleContent:
    """A bundle build: the bundle, and the image that the build system pushed."""

    bundle: Bundle = field(repr=False)
    pullspec: str
    files: tuple[str, ...]

    @property
    def package_name(self) -> str:
        """The name of the package."""
        return self.bundle.package

    @property
    def digest(self) -> str:
        """The hex sha256 of the pull specification."""
        return digest_of_image(self.pullspec)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the bundle."""
        return self.bundle.warnings


def digest_of_image(pullspec: str) -> str:
    """Return the digest of the content of a bundle build whose image is named so in a catalog."""
    return hashlib.sha256(pullspec.encode()).hexdigest()


def bundle_content(client: ImageRegistryClient, build: Build, catalog: Catalog, limits: Limits) -> BundleContent:
    """Read the image of a bundle build from the registry that it was pushed to.

    The catalog names the image as the build system did, after ``replace_registry``; if that is a list of manifests, it
    names the list. Raises PackageValidationError for an image that opm would not take; trying again does not help.
    Raises CatalogError if the image cannot be read.
    """
    pullspec = build.bundle_image or ""
    try:
        image = named_image(catalog, pullspec)
    except ValueError as fault:
        raise PackageValidationError(f"The image of {build.nvr}, {pullspec[:300]!r}, {fault}.") from None
    what = f"The bundle image {image}"
    manifest = _image_manifest(client, image, what)
    size = sum(layer.size for layer in manifest.layers)
    if size > limits.archive_bytes:
        raise PackageValidationError(f"{what} has {size} bytes, and an archive may have {limits.archive_bytes}.")
    blobs = [client.blob(image.repository, layer, max_bytes=limits.archive_bytes) for layer in manifest.layers]
    room = Room(limits.uncompressed_bytes, UNPACKED * limits.uncompressed_bytes, limits.files)
    try:
        with computing:
            files = unpack(blobs, DIRECTORIES, room)
            bundle = read_bundle(files, limits.values)
    except (CannotUnpack, CannotRender) as fault:
        raise PackageValidationError(f"{what} cannot be added to a catalog: {fault}.") from None
    if faults := [*bundle.name_faults(), *bundle.channel_faults()]:
        raise PackageValidationError(f"{what} cannot be added to a catalog: {'; '.join(faults[:5])}.")
    return BundleContent(bundle, _replaced(str(image), catalog.transformations), tuple(sorted(files)))


def _image_manifest(client: ImageRegistryClient, image: ImageName, what: str) -> Manifest:
    """Return the manifest of an image; of a list, that of one platform: the files of a bundle are the same for all."""
    manifest = client.manifest(image)
    if not manifest.is_list:
        return manifest
    chosen = next((each for each in manifest.manifests if _PLATFORM.items() <= each.platform.items()), None)
    chosen = chosen or next(iter(manifest.manifests), None)
    if chosen is None:
        raise PackageValidationError(f"{what} is a list of manifests that names none.")
    return client.manifest(image.at(chosen.digest))


def _replaced(pullspec: str, transformations: Transformations) -> str:
    """Return the pull specification after the catalog's ``replace_registry``."""
    if not transformations.replacements:
        return pullspec
    with ScratchDirectory() as directory:
        path = directory / "image.yaml"
        path.write_text(pullspec, encoding="utf-8")
        apply(FilesOnDisk(directory, (path.name,)), Transformations(replacements=transformations.replacements))
        return path.read_text(encoding="utf-8")
