# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting releases: one of a package, or all that it has.

The package itself stays. Who deletes holds the package, so that nobody numbers a release after one that is just going.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import QuayAuthorizationError, QuayPackageNotFound, RegistryError
from omps_worker.common.http_client.client import printable
from omps_worker.common.locks import PackageLock
from omps_worker.common.model import Outcome, Status
from omps_worker.destinations.app_registry.answers import basic_credentials
from omps_worker.destinations.app_registry.listing import PackageListing
from omps_worker.destinations.app_registry.package import PackageLocation


class Registry(Protocol):
    """The part of the app registry that a deletion needs; see ``client.AppRegistry``."""

    @property
    def url(self) -> str:
        """The base URL, which is part of what a package is."""
        ...

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
        """The releases of one package."""
        ...

    def delete(self, organization: str, repository: str, version: str, authorization: SecretStr | None) -> None:
        """Delete one of them."""
        ...


@dataclass(frozen=True, slots=True)
class Deleter:
    """Deletes from one registry."""

    registry: Registry
    lock: PackageLock

    def versions(self, place: PackageLocation, version: str | None) -> tuple[str, ...]:
        """The versions that ``delete`` would delete now, sorted. Changes nothing, raises the same."""
        package = self.registry.look(place.organization, place.repository, place.credentials.authorization)
        if package.exists is None and not _is_robot_of(place):
            # Who has rights in the organization is told whether a package is there; strangers are told nothing.
            raise QuayAuthorizationError(
                f"Deleting from {place} failed: Unauthorized access. These credentials have no rights in the "
                "organization, or there is no such organization.",
                details={"quay_response": {}},
                transient=True,
            )
        if not package.exists:
            message = f"Deleting from {place} failed: package not found, or not one that these credentials may see."
            raise QuayPackageNotFound(message, details={"quay_response": {}})
        found = sorted({release.version for release in package.releases})
        wanted = [each for each in found if version is None or each == version]
        if not wanted:
            missing = (
                "releases not found, there is none"
                if version is None
                else f"release {printable(version, 100)} doesn't exist"
            )
            raise QuayPackageNotFound(f"Deleting from {place} failed: {missing}.", details={"quay_response": {}})
        return tuple(wanted)

    def delete(self, place: PackageLocation, version: str | None = None) -> list[Outcome]:
        """Delete one version, or all of them; one Outcome for each: deleted, or failed with its error.

        One that fails does not keep the others. A version that somebody else deleted meanwhile is
        deleted. Raises QuayPackageNotFound where there is nothing to delete, QuayAuthorizationError where these
        credentials may see nothing, RegistryError where that cannot be found out, and the errors of the lock.
        """
        with self.lock.hold(self.registry.url, place.organization, place.repository):
            return [self._delete(place, each) for each in self.versions(place, version)]

    def _delete(self, place: PackageLocation, version: str) -> Outcome:
        error: RegistryError | None = None
        try:
            self.registry.delete(place.organization, place.repository, version, place.credentials.authorization)
        except QuayPackageNotFound:
            pass
        except RegistryError as failure:
            error = failure.as_value()
        status = Status.DELETED if error is None else Status.FAILED
        return Outcome(status, place.organization, place.repository, version, error=error)


def _is_robot_of(place: PackageLocation) -> bool:
    """Whether the credentials are those of a robot of this organization, which is told nothing of missing packages."""
    authorization = place.credentials.authorization
    credentials = basic_credentials(authorization) if authorization else None
    return credentials is not None and credentials[0].startswith(f"{place.organization}+")
