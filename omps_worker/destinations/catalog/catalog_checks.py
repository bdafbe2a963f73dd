# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a catalog: its registry, the login for reading and writing, and what is at its tag. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from omps_worker.common.errors import CatalogAuthorizationError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.contents import read_catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient


def check_catalog(clients: Callable[[Catalog], ImageRegistryClient], catalog: Catalog) -> str:
    """Return what is at the tag of a catalog, after logging in for reading and for writing.

    No upload is begun in a repository that does not exist: some registries would make it. Raises CatalogNotOurs if
    another program wrote the image, and CatalogError and CatalogAuthorizationError of the registry.
    """
    client = clients(catalog)
    if catalog.image.for_each_package:
        return _check_many(client, catalog)
    image = catalog.image.image("")
    client.ping(image.repository)
    client.check_login(image.repository)
    found = read_catalog(client, image)
    if found.digest is not None or client.tags(image.repository) is not None:
        client.check_push(image.repository)
    if found.digest is None:
        return f"{image} is not there yet: the first push makes it"
    bundles = sum(len(package.bundles) for package in found.packages)
    return f"{image} ({found.digest[:19]}): {len(found.packages)} package(s), {bundles} bundle(s)"


def _check_many(client: ImageRegistryClient, catalog: Catalog) -> str:
    """Check the registry of a catalog of which each package has an image of its own; which there are is not known."""
    repository = catalog.image.repository("package")
    client.ping(repository)
    try:
        client.check_login(repository)
    except CatalogAuthorizationError as error:
        # Permissions are those of a repository, and this one is only an example.
        raise Inconclusive(f"one image for each package: {catalog.image}; {error.message}") from None
    return f"{catalog.image.host}; one image for each package: {catalog.image}"
