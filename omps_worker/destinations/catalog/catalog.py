# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog as the configuration describes it."""

from __future__ import annotations

from typing import Protocol

from pydantic import SecretStr

from omps_worker.destinations.catalog.image_registry.image_name import ImageTemplate
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

    def oauth(self) -> SecretStr | None:
        """Return the OAuth token for changing visibility; None if there is none."""
        ...
