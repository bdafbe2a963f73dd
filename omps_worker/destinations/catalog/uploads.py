# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to an image registry before a catalog can name it: bundle images with their tags, layers, manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError, WorkerError
from omps_worker.destinations.catalog.content import MadeBundle
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.image import Image, digest_tag
from omps_worker.destinations.catalog.images.layers import Layer
from omps_worker.destinations.catalog.packages.package_file import PackageFile, pullspec_of


class BundleUploads:
    """The bundle images that one update sends. What the update has seen or sent is not asked for again.

    A bundle that the catalog names already is left alone: an update tags a bundle before the catalog names it.
    ``pushed`` is called after each image that was sent.
    """

    def __init__(self, client: ImageRegistryClient, pushed: Callable[[], object] = bool) -> None:
        self._client = client
        self._pushed = pushed
        self._there: set[ImageName] = set()
        self._tagged: set[ImageName] = set()
        self.created: set[str] = set()
        """The names of the bundles whose images were missing and have been sent."""

    def push(self, bundles: Mapping[str, MadeBundle], held: PackageFile | None) -> None:
        """Send those images by digest that the registry does not have. ``held``: the package in the catalog."""
        for each in _unnamed(bundles, held):
            name = ImageName(each.repository, each.image.digest)
            if name not in self._there and self._client.digest(name, writing=True) is None:
                blobs = (each.layer.blob, each.image.config)
                for blob in blobs:
                    self._client.push_blob(each.repository, blob)
                put(self._client, name, each.image, blobs)
                self.created.add(each.planned.name)
                self._pushed()
            self._there.add(name)

    def tag(self, bundles: Mapping[str, MadeBundle], held: PackageFile | None) -> None:
        """Tag the images with their versions, and with their digests for registries that remove untagged images."""
        for each in _unnamed(bundles, held):
            image = ImageName(each.repository, each.image.digest)
            if image in self._tagged:
                continue
            new = each.planned.name in self.created
            for tag in (each.planned.bundle.tag, digest_tag(each.image.digest)):
                name = ImageName(each.repository, tag)
                # Nothing can have tagged an image that was missing a moment ago.
                if new or self._client.digest(name, writing=True) != each.image.digest:
                    put(self._client, name, each.image, (each.layer.blob, each.image.config))
            self._tagged.add(image)


def missing(client: ImageRegistryClient, bundles: Mapping[str, MadeBundle], held: PackageFile | None) -> frozenset[str]:
    """Return the names of the bundles whose images ``BundleUploads.push`` would send."""
    return frozenset(each.planned.name for each in _unnamed(bundles, held) if not _is_there(client, each))


def push_image(client: ImageRegistryClient, image: ImageName, made: Image, layer: Layer | None) -> None:
    """Send a catalog by its digest, with the one layer that has changed."""
    blobs = (made.config,) if layer is None else (layer.blob, made.config)
    for blob in blobs:
        client.push_blob(image.repository, blob)
    put(client, image.at(made.digest), made, blobs)


def put(client: ImageRegistryClient, name: ImageName, made: Image, blobs: Sequence[bytes]) -> None:
    """Store a manifest, some of whose blobs are ``blobs``. If the answer is unclear, find out whether it was stored."""
    try:
        client.put_image(name, made.manifest, made.format.manifest_type, blobs)
    except CatalogError as error:
        if not error.ambiguous or not stored_after(error, client, name, made):
            raise


def stored_after(error: CatalogError, client: ImageRegistryClient, name: ImageName, made: Image) -> bool:
    """Return whether the registry has the manifest at ``name``. Raises ``error`` if that cannot be found out."""
    try:
        return is_at(client, name, made)
    except WorkerError:
        raise error from None


def is_at(client: ImageRegistryClient, name: ImageName, made: Image) -> bool:
    """Return whether ``name`` is this manifest."""
    found = client.look(name, writing=True)
    return found is not None and found.digest == made.digest


def _unnamed(bundles: Mapping[str, MadeBundle], held: PackageFile | None) -> list[MadeBundle]:
    """Return the bundles that the package in the catalog does not name yet, with this digest in this repository."""
    named = {pullspec_of(each) for each in held.bundles} if held is not None else set()
    return [each for each in bundles.values() if each.pullspec not in named]


def _is_there(client: ImageRegistryClient, bundle: MadeBundle) -> bool:
    """Return whether a bundle image is in the registry, as far as its readers know."""
    try:
        return client.digest(ImageName(bundle.repository, bundle.image.digest)) is not None
    except CatalogAuthorizationError:
        # Some registries hide from readers whether a repository exists; it is made by the first push.
        return False
