# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build releases to a catalog: the bundle images of a tree, or the bundle image that the build is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import Limits
from omps_worker.common.model import Build
from omps_worker.destinations.catalog.bundles.bundle import Bundle
from omps_worker.destinations.catalog.bundles.render import CannotRender, read_bundle
from omps_worker.destinations.catalog.bundles.tree import PlannedBundle, TreePlan, plan
from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository, parse_pullspec
from omps_worker.destinations.catalog.images.image import Format, Image, bundle_image
from omps_worker.destinations.catalog.images.layers import Layer
from omps_worker.destinations.catalog.images.unpacking import CannotUnpack, Room, unpack
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.file_tree import FilesOnDisk
from omps_worker.manifests.transformations import Transformations, apply

_DIRECTORIES = ("manifests", "metadata")
_PLATFORM = {"architecture": "amd64", "os": "linux"}


@dataclass(frozen=True, slots=True)
class MadeBundle:
    """The image of one planned bundle, as bytes."""

    planned: PlannedBundle
    repository: Repository
    image: Image = field(repr=False)
    layer: Layer = field(repr=False)

    @property
    def pullspec(self) -> str:
        """The pull specification, with the digest."""
        return str(ImageName(self.repository, self.image.digest))


@dataclass(frozen=True, slots=True)
class TreeContent:
    """A build of package manifests: the plan of its tree, and an image of each bundle."""

    plan: TreePlan = field(repr=False)
    bundles: Mapping[str, MadeBundle] = field(repr=False)
    files: tuple[str, ...]
    digest: str
    """The digest that the package file has if the catalog holds nothing else of the package."""

    @property
    def package_name(self) -> str:
        """The name of the package."""
        return self.plan.package

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the manifests."""
        return self.plan.warnings


@dataclass(frozen=True, slots=True)
class BundleContent:
    """A bundle build: the bundle, and the image that the build system pushed."""

    bundle: Bundle = field(repr=False)
    pullspec: str
    digest: str
    files: tuple[str, ...]

    @property
    def package_name(self) -> str:
        """The name of the package."""
        return self.bundle.package

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the bundle."""
        return self.bundle.warnings


def tree_content(contents: ArchiveContents, catalog: Catalog) -> TreeContent:
    """Plan the bundles of an archive of package manifests, and make their images. Sends nothing.

    Raises PackageValidationError with all faults of all versions, and what ``transformations.apply`` raises.
    """
    with contents.transformed(catalog.transformations) as tree:
        planned = plan(tree, contents.max_values)
    try:
        repository = catalog.bundle_images.repository(planned.package)
    except ValueError as fault:
        name = planned.package[:300]
        raise PackageValidationError(f"The packageName {name!r} cannot name a repository: it {fault}.") from None
    bundles = {each.name: made(each, repository, Format(catalog.format)) for each in planned.bundles}
    package = planned.package_file({name: each.pullspec for name, each in bundles.items()})
    return TreeContent(planned, bundles, contents.files, package.digest)


def made(planned: PlannedBundle, repository: Repository, image_format: Format) -> MadeBundle:
    """Make the image of a planned bundle."""
    image, layer = bundle_image(planned.files, planned.labels, image_format)
    return MadeBundle(planned, repository, image, layer)


def bundle_content(client: ImageRegistryClient, build: Build, catalog: Catalog, limits: Limits) -> BundleContent:
    """Read the image of a bundle build from the registry that it was pushed to.

    The catalog names the image as the build system did, after ``replace_registry``; if that is a list of manifests, it
    names the list. Raises PackageValidationError for an image that opm would not take; trying again does not help.
    Raises CatalogError if the image cannot be read.
    """
    pullspec = build.bundle_image or ""
    scheme = catalog.image.scheme if pullspec.partition("/")[0] == catalog.image.host else "https"
    try:
        image = parse_pullspec(pullspec, scheme=scheme)
    except ValueError as fault:
        raise PackageValidationError(f"The image of {build.nvr}, {pullspec[:300]!r}, {fault}.") from None
    what = f"The bundle image {image}"
    manifest = client.manifest(image)
    if manifest.is_list:
        # The files of a bundle are the same for all platforms.
        chosen = next((each for each in manifest.manifests if _PLATFORM.items() <= each.platform.items()), None)
        chosen = chosen or next(iter(manifest.manifests), None)
        if chosen is None:
            raise PackageValidationError(f"{what} is a list of manifests that names none.")
        manifest = client.manifest(image.at(chosen.digest))
    room = limits.archive_bytes
    blobs = []
    for layer in manifest.layers:
        blobs.append(client.blob(image.repository, layer, max_bytes=max(room, 0)))
        room -= layer.size
    try:
        files = unpack(
            blobs, _DIRECTORIES, Room(limits.uncompressed_bytes, 4 * limits.uncompressed_bytes, limits.files)
        )
        bundle = read_bundle(files, limits.values)
    except (CannotUnpack, CannotRender) as fault:
        raise PackageValidationError(f"{what} cannot be added to a catalog: {fault}.") from None
    named = _replaced(str(image), catalog.transformations)
    return BundleContent(bundle, named, hashlib.sha256(named.encode()).hexdigest(), tuple(sorted(files)))


def _replaced(pullspec: str, transformations: Transformations) -> str:
    """Return the pull specification after the catalog's ``replace_registry``."""
    if not transformations.replacements:
        return pullspec
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "image.yaml")
        path.write_text(pullspec, encoding="utf-8")
        apply(FilesOnDisk(Path(directory), (path.name,)), Transformations(replacements=transformations.replacements))
        return path.read_text(encoding="utf-8")
