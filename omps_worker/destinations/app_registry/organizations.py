# SPDX-License-Identifier: GPL-3.0-or-later
"""The organizations that releases go to: their credentials, and their changes to manifests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.text import listed
from omps_worker.destinations.app_registry.package import Credentials, PackageLocation
from omps_worker.manifests.transformations import Transformations


class Organization(Protocol):
    """The configuration of an organization."""

    @property
    def public(self) -> bool:
        """Whether the organization's packages are to be public."""
        ...

    @property
    def transformations(self) -> Transformations:
        """The changes to manifests on their way to the organization."""
        ...

    def authorization(self) -> SecretStr:
        """Return the value of the Authorization header for pushes; it is read again when its file changes."""
        ...

    def oauth(self) -> SecretStr | None:
        """Return the OAuth token for making packages public; None if there is none."""
        ...


class Organizations:
    """The configured organizations by name, and unconfigured ones for callers that bring their own token."""

    def __init__(self, configured: Mapping[str, Organization]) -> None:
        self._configured = configured

    def location(self, name: str, repository: str, authorization: SecretStr | None = None) -> PackageLocation:
        """Return a package's location with its credentials: ``authorization``, or the configured ones.

        Raises SettingsError if the organization is not configured and ``authorization`` is None.
        """
        organization = self._find(name, authorization)
        authorization = authorization or organization.authorization()
        return PackageLocation(name, repository, Credentials(authorization, organization.oauth(), organization.public))

    def transformations(self, name: str, authorization: SecretStr | None = None) -> Transformations:
        """Return the organization's changes to manifests. Raises SettingsError as ``location`` does."""
        return self._find(name, authorization).transformations

    def _find(self, name: str, authorization: SecretStr | None) -> Organization:
        organization = self._configured.get(name)
        if organization is not None:
            return organization
        if authorization is None:
            raise unknown_organization(name, self._configured)
        return _UnconfiguredOrganization()


class _UnconfiguredOrganization:
    """An organization that is not configured: its packages stay private, and manifests are not changed."""

    public = False
    transformations = Transformations()

    def authorization(self) -> SecretStr:
        """Raise SettingsError: an organization that is not configured has no token."""
        raise SettingsError([Fault("configuration", "consumer_config.organizations", "the organization has no token")])

    def oauth(self) -> None:
        """Return None: there is no OAuth token."""


def unknown_organization(name: str, known: Collection[str], file: str = "configuration") -> SettingsError:
    """Return the error for a target whose organization is not among those configured.

    It is transient: it can be added.
    """
    there = listed(sorted(known)) or "none"
    reason = (
        f"the organization has no credentials here (organizations in the configuration: {there}): add it, or correct "
        "the name"
    )
    return SettingsError([Fault(file, f"consumer_config.organizations.{name}", reason)], transient=True)
