# SPDX-License-Identifier: GPL-3.0-or-later
"""The organizations that releases go to: how to get in, and what they want changed in manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.destinations.app_registry.package import Credentials, PackageLocation
from omps_worker.manifests.transformations import Transformations


class Organization(Protocol):
    """How the configuration describes an organization."""

    @property
    def public(self) -> bool:
        """Whether its packages are to be seen by everybody."""
        ...

    @property
    def transformations(self) -> Transformations:
        """What it wants changed in manifests."""
        ...

    def authorization(self) -> SecretStr:
        """What lets us push; read anew when its file changed."""
        ...

    def oauth(self) -> SecretStr | None:
        """What lets us make packages public, where there is such a token."""
        ...


class Organizations:
    """Those of the configuration, by name, and others for who brings a token."""

    def __init__(self, configured: Mapping[str, Organization]) -> None:
        self._configured = configured

    def place(self, name: str, repository: str, authorization: SecretStr | None = None) -> PackageLocation:
        """A package, and how we get in: with ``authorization``, or with what is configured. Raises SettingsError."""
        organization = self._find(name, authorization)
        authorization = authorization or organization.authorization()
        return PackageLocation(name, repository, Credentials(authorization, organization.oauth(), organization.public))

    def transformations(self, name: str, authorization: SecretStr | None = None) -> Transformations:
        """What the organization wants changed. Raises SettingsError."""
        return self._find(name, authorization).transformations

    def _find(self, name: str, authorization: SecretStr | None) -> Organization:
        organization = self._configured.get(name)
        if organization is not None:
            return organization
        if authorization is None:
            raise unknown_organization(name)
        return _UnconfiguredOrganization()


class _UnconfiguredOrganization:
    """An organization that is not configured: private, and nothing is changed."""

    public = False
    transformations = Transformations()

    def authorization(self) -> SecretStr:
        """Whoever asks for one brings it."""
        raise SettingsError([Fault("configuration", "consumer_config.organizations", "the organization has no token")])

    def oauth(self) -> None:
        """There is none."""


def unknown_organization(name: str, file: str = "configuration") -> SettingsError:
    """The fault of a target whose organization the configuration does not know."""
    return SettingsError(
        [
            Fault(
                file,
                f"consumer_config.organizations.{name}",
                "the organization has no credentials here; add it",
            )
        ],
        transient=True,
    )
