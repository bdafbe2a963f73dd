# SPDX-License-Identifier: GPL-3.0-or-later
"""The listing of a package's releases, and errors about what it shows after a push."""

from __future__ import annotations

from typing import Protocol

from omps_worker.common.errors import QuayCourierError, QuayPackageError
from omps_worker.common.model import Release
from omps_worker.destinations import Released
from omps_worker.destinations.app_registry.package import PackageLocation


class PackageListing(Protocol):
    """The releases of a package, as the registry lists them."""

    @property
    def exists(self) -> bool | None:
        """Whether the package exists; None if it is missing or these credentials may not see it."""
        ...

    @property
    def releases(self) -> tuple[Release, ...]:
        """The package's releases; each pair of version and content occurs once."""
        ...


def released(listing: PackageListing, version: str, digest: str, *, created: bool = False) -> Released:
    """Return the listed release with this version and content."""
    same = (release for release in listing.releases if (release.version, release.digest) == (version, digest))
    return Released(version, created, next((release.created_at for release in same), None))


def has_opaque(listing: PackageListing, version: str) -> bool:
    """Return whether a release with this version is listed without the digest of its content."""
    return any(release.version == version and release.digest is None for release in listing.releases)


def opaque(location: PackageLocation, version: str) -> QuayCourierError:
    """Return the error for a push after which the registry lists the version without a digest.

    The error is permanent: the release is most probably the pushed one, and a retry could not find out either, but
    would make another release.
    """
    return QuayCourierError(
        f"{location} {version} was pushed and is listed, but without the digest of an operator's content. Whether it "
        "has this content is unknown, so it is not pushed again.",
        details={"quay_response": {}},
        transient=False,
    )


def not_listed_yet(location: PackageLocation, version: str) -> QuayPackageError:
    """Return the error for a push that was accepted but could not be checked. A retry only checks the package."""
    return QuayPackageError(
        f"Release {version} of {location} was accepted, but the package could not be checked afterwards: the next "
        "attempt checks it.",
        details={"quay_response": {}},
        transient=True,
    )
