# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a catalog: its registry, the login for reading and writing, and what is at its tag. Changes nothing.

Quay answers as if the caller had no right to a repository that does not exist, and makes it when a token to push is
asked for (quay/quay, module endpoints.v2.v2auth). So whether the credentials are accepted is asked without naming a
repository, and a repository that cannot be read is not asked for anything else.
"""

from __future__ import annotations

from collections.abc import Callable

from omps_worker.common.errors import CatalogAuthorizationError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.destinations.catalog.access_checks import registries
from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.catalog_contents import CatalogContents, read_catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName


def check_catalog(clients: Callable[[Catalog], ImageRegistryClient], catalog: Catalog) -> str:
    """Return what is at the tag of a catalog, after logging in for reading and for writing.

    No upload is begun in a repository that does not exist: some registries would make it. Raises CatalogNotOurs if
    another program wrote the image or a package is damaged, CatalogError, CatalogAuthorizationError (not transient: a
    login that is refused is wrong in the configuration or at the registry), and Inconclusive if the registry hides
    whether there is an image.
    """
    client = clients(catalog)
    try:
        logged_in = _log_in(client, catalog)
        if catalog.image.for_each_package:
            return _check_many(client, catalog, logged_in=logged_in)
        return _check_one(client, catalog, logged_in=logged_in)
    except CatalogAuthorizationError as error:
        raise CatalogAuthorizationError(error.message, details=error.details, transient=False) from None


def _log_in(client: ImageRegistryClient, catalog: Catalog) -> bool:
    """Reach the registries of the catalog and of its bundles; return whether there is a login for the catalog's."""
    repositories = registries(catalog)
    for repository in repositories:
        client.ping(repository)
        if client.has_login(repository):
            client.check_account(repository)
    return client.has_login(repositories[0])


def _check_one(client: ImageRegistryClient, catalog: Catalog, *, logged_in: bool) -> str:
    image = catalog.image.image("")
    found = _read(client, image, catalog.name, logged_in=logged_in)
    if found.digest is not None or client.tags(image.repository) is not None:
        client.check_push(image.repository)
    if found.digest is None:
        return f"{image} is not there yet: the first push makes it"
    bundles = sum(len(package.bundles) for package in found.packages)
    return f"{image} ({found.digest[:19]}): {len(found.packages)} package(s), {bundles} bundle(s)"


def _read(client: ImageRegistryClient, image: ImageName, name: str, *, logged_in: bool) -> CatalogContents:
    try:
        return read_catalog(client, image, catalog=name)
    except CatalogAuthorizationError as error:
        if not logged_in:
            raise
        told = "It is not there yet, or the login has no right to see it: the first push tells."
        raise Inconclusive(f"{error.message} {told}") from None


def _check_many(client: ImageRegistryClient, catalog: Catalog, *, logged_in: bool) -> str:
    """Check the registry of a catalog of which each package has an image of its own; which there are is not known."""
    try:
        client.check_login(catalog.image.repository("package"))
    except CatalogAuthorizationError as error:
        if not logged_in:
            raise
        # Permissions are those of a repository, and this one is only an example.
        raise Inconclusive(f"one image for each package: {catalog.image}; {error.message}") from None
    return f"{catalog.image.host}; one image for each package: {catalog.image}"
