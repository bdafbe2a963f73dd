# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be known of a catalog's registry at the price of one or two small reads; for checks that are repeated.

``catalog_checks`` also reads the catalog and begins an upload, for people who ask once. Nothing here writes, or asks
for permission to write: some registries (Quay) then make a repository that does not exist.
"""

from __future__ import annotations

from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import Repository


def registries(catalog: Catalog) -> tuple[Repository, ...]:
    """Return a repository in each registry that an update writes to: that of the catalog, and that of its bundles."""
    image, bundles = catalog.image.repository("package"), catalog.bundle_images.repository("package")
    return (image,) if image.origin == bundles.origin else (image, bundles)


def check_repository(client: ImageRegistryClient, catalog: Catalog) -> None:
    """Return if the catalog can be read, or does not exist yet.

    If each package has an image of its own, it is not known which there are; then nothing is asked. Raises
    CatalogError if the registry is out of reach or fails, and CatalogAuthorizationError, also if the registry hides
    from this account whether the repository exists.
    """
    if not catalog.image.for_each_package:
        client.check_login(catalog.image.repository("package"))


def check_accounts(client: ImageRegistryClient, catalog: Catalog, *, read: bool = False) -> None:
    """Return if each registry of the catalog answers and accepts the account, whatever the account may do there.

    ``read``: the catalog was read just now, so only other registries are asked. Raises CatalogError and
    CatalogAuthorizationError.
    """
    for repository in registries(catalog)[1 if read and not catalog.image.for_each_package else 0 :]:
        client.check_account(repository)
