# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog as the configuration describes it, and how its images are named."""

from __future__ import annotations

from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.image_registry.image_name import (
    ImageName,
    ImageTemplate,
    Repository,
    parse_pullspec,
)
from omps_worker.manifests.transformations import Transformations


class Catalog(Protocol):
    """A configured catalog; see ``settings.catalogs.CatalogSettings``."""

    @property
    def name(self) -> str:
        """The name in the configuration."""
        ...

    @property
    def image(self) -> ImageTemplate:
        """The catalog image, with its tag."""
        ...

    @property
    def bundle_images(self) -> ImageTemplate:
        """The repositories of the bundle images that are made."""
        ...

    @property
    def format(self) -> str:
        """The format of the images that are made: ``docker`` or ``oci``."""
        ...

    @property
    def public(self) -> bool:
        """Whether new repositories are made public."""
        ...

    @property
    def transformations(self) -> Transformations:
        """The changes to make in package manifests, and in the pull specifications of bundle builds."""
        ...

    @property
    def timeout(self) -> float:
        """How long one call to the image registry may take, in seconds; so long may an update still be stored."""
        ...

    def oauth(self) -> SecretStr | None:
        """Return the OAuth token for changing visibility; None if there is none."""
        ...


def catalog_image(catalog: Catalog, package: str) -> ImageName:
    """Return the catalog image with this package. Raises PackageValidationError if the name cannot be a part of it."""
    try:
        return catalog.image.image(package)
    except ValueError as fault:
        raise PackageValidationError(f"The packageName {package[:300]!r} cannot name an image: it {fault}.") from None


def bundle_repository(catalog: Catalog, package: str) -> Repository:
    """Return the repository of the package's bundle images that are made.

    Raises PackageValidationError likewise, and if that is the repository of the catalog, where their tags could meet.
    """
    name = package[:300]
    try:
        repository = catalog.bundle_images.repository(package)
    except ValueError as fault:
        raise PackageValidationError(f"The packageName {name!r} cannot name a repository: it {fault}.") from None
    if str(repository) == str(catalog_image(catalog, package).repository):
        raise PackageValidationError(
            f"The packageName {name!r} makes {repository} the repository of its bundles, which is that of the catalog: "
            f"set another image or bundles for the catalog {catalog.name}."
        )
    return repository


def named_image(catalog: Catalog, pullspec: str) -> ImageName:
    """Return the image that a pull specification names. Raises ValueError, whose message continues a sentence.

    A pull specification does not say whether its registry uses TLS; it does, unless the configuration says otherwise of
    that registry.
    """
    host = pullspec.partition("/")[0].lower()
    schemes = {template.host: template.scheme for template in (catalog.image, catalog.bundle_images)}
    return parse_pullspec(pullspec, scheme=schemes.get(host, "https"))
