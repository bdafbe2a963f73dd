# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a package: what its releases show about which content was released when. Without side effects.

The registry's list is the only source: versions, digests of contents and, in most registries, the time of each release.
Releases with versions that are not valid count in searches for a content, but never as the highest release.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta

from semver import Version

from omps_worker.common import times
from omps_worker.common.model import Release
from omps_worker.destinations import versions

CLOCKS_DIFFER = timedelta(minutes=1)
"""The largest difference between the registry's clock and Koji's that is tolerated."""


def contents_of(releases: Iterable[Release]) -> defaultdict[str, set[str]]:
    """Return the digests under each version.

    A version has more than one if pushes coincided, and none if its release is not an operator.
    """
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for release in releases:
        if release.digest is not None:
            contents[release.version].add(release.digest)
    return contents


def shared(releases: Iterable[Release]) -> set[str]:
    """Return the versions that have several contents."""
    return {version for version, digests in contents_of(releases).items() if len(digests) > 1}


def highest(releases: Iterable[Release]) -> str | None:
    """Return the highest version, which users take for the newest, or None if there is none."""
    return versions.highest(release.version for release in releases)


def below(releases: Sequence[Release], version: str | None) -> Set[str]:
    """Return the contents of the highest release if ``version`` (None: the next one) would be released on top of it."""
    top = highest(releases)
    if top is None or (version is not None and versions.highest((top, version)) == top):
        return frozenset()
    return contents_of(releases)[top]


def released_since(releases: Iterable[Release], digest: str, moment: datetime) -> bool:
    """Return whether the content is known to have been released at ``moment`` or later."""
    # Registries list whole seconds.
    second = moment.replace(microsecond=0)
    made = (made_at(release) for release in releases if release.digest == digest)
    return any(time is not None and time >= second for time in made)


def contents_to_revert(releases: Sequence[Release], digest: str, completed_at: datetime | None) -> Set[str]:
    """Return the contents of the highest release if a build may be a revert from them to its own, older content.

    ``digest`` is the content of the build, which was completed at ``completed_at``. The result is empty if that content
    is on top or is not released. It is also empty after a rollback, which an operator decided: the content on top was
    on top before, then the build's content was, and now the first one is again. Builds with the contents A, B, A and B
    look the same, but there the last build is a revert. The times tell the two apart: for a revert, a release of the
    build's content was made *before* the build was completed.
    """
    contents = contents_of(releases)
    top = highest(releases)
    own = versions.highest(version for version, digests in contents.items() if digest in digests)
    if top is None or own is None or digest in contents[top]:
        return frozenset()
    on_top = contents[top]
    was_on_top_before = any(
        digests & on_top and versions.is_valid(version) and Version.parse(version) < Version.parse(own)
        for version, digests in contents.items()
    )
    if was_on_top_before and not _made_before(releases, own, digest, completed_at):
        return frozenset()
    return on_top


def top_made_before(releases: Sequence[Release], moment: datetime | None) -> bool:
    """Return whether the highest release was certainly made before ``moment``."""
    top = highest(releases)
    return top is not None and all(_made_before(releases, top, digest, moment) for digest in contents_of(releases)[top])


def made_at(release: Release) -> datetime | None:
    """Return when the release was made, according to the registry; None if the registry gives no valid time."""
    try:
        return times.parse_time(release.created_at) if release.created_at else None
    except ValueError:
        return None


def _made_before(releases: Iterable[Release], version: str, digest: str, moment: datetime | None) -> bool:
    """Return whether the release with this version and content was certainly made before ``moment``."""
    made = [made_at(release) for release in releases if (release.version, release.digest) == (version, digest)]
    return moment is not None and all(time is not None and time < moment - CLOCKS_DIFFER for time in made)
