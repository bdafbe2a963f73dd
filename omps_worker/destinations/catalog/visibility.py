# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the repositories of a catalog public, which Quay does not do by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import QuayPackageError, RegistryError
from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.image_registry.image_name import Repository

log = logging.getLogger(__name__)


class QuayApi(Protocol):
    """The part of Quay's API that is about who may see a repository; see ``app_registry.client.AppRegistry``."""

    def is_public(self, organization: str, repository: str, oauth_token: SecretStr) -> bool | None:
        """Return whether a repository is public; None if the registry does not say."""
        ...

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Make a repository public."""
        ...


def make_public(catalog: Catalog, api: QuayApi, repositories: Iterable[Repository], written: str) -> bool:
    """Make those repositories public that are not. Return whether all are known to be public now.

    ``written`` names what was written, for the error. Raises QuayPackageError, which says that the update is done: a
    retry only makes repositories public.
    """
    token = catalog.oauth()
    if token is None:
        log.error("catalog %s is public but has no oauth_token: no visibility is changed", catalog.name)
        return False
    for repository in sorted(set(repositories), key=str):
        organization, _, name = repository.path.partition("/")
        try:
            if not api.is_public(organization, name, token):
                api.publish(organization, name, token)
        except RegistryError as error:
            raise QuayPackageError(
                f"{written} is updated, but making {repository} public failed: {error.message}",
                details=error.details,
                transient=error.transient,
                retry_after=error.retry_after,
            ) from error
    return True
