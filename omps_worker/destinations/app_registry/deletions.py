# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletion of one release of a package, or of all of them.

The package itself stays. It is locked during a deletion, so that no new release gets its number from one that is being
deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import QuayAuthorizationError, QuayPackageNotFound, RegistryError
from omps_worker.common.http_client.client import printable
from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.model import Outcome, Status
from omps_worker.common.observer import NO_OBSERVER
from omps_worker.destinations.app_registry.listing import PackageListing
from omps_worker.destinations.app_registry.package import PackageLocation
from omps_worker.destinations.refusals import basic_credentials


class Registry(Protocol):
    """The part of the app registry that a deletion needs; see ``client.AppRegistry``."""

    @property
    def url(self) -> str:
        """The base URL, which is part of the identity of a package."""
        ...

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
        """Query one package and return the listing of its releases."""
        ...

    def delete(self, organization: str, repository: str, version: str, authorization: SecretStr | None) -> None:
        """Delete one release."""
        ...


@dataclass(frozen=True, slots=True)
class Deleter:
    """Deletes releases from one registry."""

    registry: Registry
    lock: PackageLock

    def versions(self, location: PackageLocation, version: str | None) -> tuple[str, ...]:
        """Return the versions that ``delete`` would delete now, sorted. Changes nothing; raises the same errors."""
        listing = self.registry.look(location.organization, location.repository, location.credentials.authorization)
        if listing.exists is None and not _is_robot_of(location):
            # The registry says whether a package exists only to callers with rights in the organization.
            raise QuayAuthorizationError(
                f"Deleting from {location} failed: Unauthorized access. These credentials have no rights in the "
                "organization, or there is no such organization.",
                details={"quay_response": {}},
                transient=True,
            )
        if not listing.exists:
            message = f"Deleting from {location} failed: package not found, or not one that these credentials may see."
            raise QuayPackageNotFound(message, details={"quay_response": {}})
        found = sorted({release.version for release in listing.releases})
        wanted = [each for each in found if version is None or each == version]
        if not wanted:
            missing = (
                "releases not found, there is none"
                if version is None
                else f"release {printable(version, 100)} doesn't exist"
            )
            raise QuayPackageNotFound(f"Deleting from {location} failed: {missing}.", details={"quay_response": {}})
        return tuple(wanted)

    def delete(self, location: PackageLocation, version: str | None = None) -> list[Outcome]:
        """Delete one version, or all versions if it is None, and return one Outcome for each: deleted or failed.

        If one deletion fails, the others continue. A version that another client deleted in the meantime counts as
        deleted. Raises QuayPackageNotFound if there is nothing to delete, QuayAuthorizationError if these credentials
        may not see the package, RegistryError if the registry cannot be queried, and the errors of the lock.
        """
        with self.lock.hold(self.registry.url, location.organization, location.repository):
            return [self._delete(location, each) for each in self.versions(location, version)]

    def _delete(self, location: PackageLocation, version: str) -> Outcome:
        error: RegistryError | None = None
        spent: dict[str, float] = {}
        try:
            with NO_OBSERVER.timing("delete", spent):
                self.registry.delete(
                    location.organization, location.repository, version, location.credentials.authorization
                )
        except QuayPackageNotFound:
            pass
        except RegistryError as failure:
            error = failure.as_value()
        status = Status.DELETED if error is None else Status.FAILED
        return Outcome(status, location.organization, location.repository, version, error=error, seconds=spent)


def _is_robot_of(location: PackageLocation) -> bool:
    """Return whether the credentials belong to a robot of this organization.

    The registry does not tell robots which packages are missing.
    """
    authorization = location.credentials.authorization
    credentials = basic_credentials(authorization) if authorization else None
    return credentials is not None and credentials[0].startswith(f"{location.organization}+")
