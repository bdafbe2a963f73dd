# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at a package shows, and the release that is found there."""

from __future__ import annotations

from typing import Protocol

from omps_worker.common.errors import QuayCourierError, QuayPackageError
from omps_worker.common.model import Release
from omps_worker.destinations import Released
from omps_worker.destinations.app_registry.package import PackageLocation


class PackageListing(Protocol):
    """What a look shows."""

    @property
    def exists(self) -> bool | None:
        """None: the registry says only that it is missing, or not ours to see."""
        ...

    @property
    def releases(self) -> tuple[Release, ...]:
        """Its releases, each version and content once."""
        ...


def released(package: PackageListing, version: str, digest: str, *, created: bool = False) -> Released:
    """The release of that version and content, as a look shows it."""
    same = (release for release in package.releases if (release.version, release.digest) == (version, digest))
    return Released(version, created, next((release.created_at for release in same), None))


def has_opaque(package: PackageListing, version: str) -> bool:
    """Whether a look shows a release of that version without saying what is in it."""
    return any(release.version == version and release.digest is None for release in package.releases)


def opaque(place: PackageLocation, version: str) -> QuayCourierError:
    """The error of a push after which the registry lists the version without a digest.

    It is ours most probably, and trying again could not tell either: it would make one more.
    """
    return QuayCourierError(
        f"{place} {version} was pushed and is listed, but without the digest of an operator's content, so that nobody "
        "can tell whether it is this content: it is not pushed again.",
        details={"quay_response": {}},
        transient=False,
    )


def not_listed_yet(place: PackageLocation, version: str) -> QuayPackageError:
    """The error of work that cannot tell what the registry made of a push. Trying again only looks."""
    return QuayPackageError(
        f"Release {version} of {place} was accepted, but could not be looked at afterwards: the next try finds it.",
        details={"quay_response": {}},
        transient=True,
    )
