# SPDX-License-Identifier: GPL-3.0-or-later
"""What the releases of a package tell about which content came when. Pure.

The registry's list is all there is: versions, digests of contents and, in most registries, when
each release was made. Releases with odd versions count where contents are looked for, and not
where it is asked what is highest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta

from semver import Version

from omps_worker.common import times
from omps_worker.common.model import Release
from omps_worker.destinations.app_registry import versions

CLOCKS_DIFFER = timedelta(minutes=1)
"""How far the registry's clock and Koji's may be apart."""


def contents_of(releases: Iterable[Release]) -> defaultdict[str, set[str]]:
    """The digests under each version: more than one if pushes met, none of what is no operator's release."""
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for release in releases:
        if release.digest is not None:
            contents[release.version].add(release.digest)
    return contents


def shared(releases: Iterable[Release]) -> set[str]:
    """The versions that have several contents."""
    return {version for version, digests in contents_of(releases).items() if len(digests) > 1}


def highest(releases: Iterable[Release]) -> str | None:
    """The highest version, which is what users take for the newest; None if there is none."""
    return versions.highest(release.version for release in releases)


def below(releases: Sequence[Release], version: str | None) -> Set[str]:
    """The contents of the highest release, if ``version`` (None: the next one) would come out on top of it."""
    top = highest(releases)
    if top is None or (version is not None and versions.highest((top, version)) == top):
        return frozenset()
    return contents_of(releases)[top]


def released_since(releases: Iterable[Release], digest: str, moment: datetime) -> bool:
    """Whether the content is known to have been released at that time or later."""
    # Registries tell whole seconds.
    second = moment.replace(microsecond=0)
    made = (made_at(release) for release in releases if release.digest == digest)
    return any(time is not None and time >= second for time in made)


def lying_over(releases: Sequence[Release], digest: str, completed_at: datetime | None) -> Set[str]:
    """The contents of the highest release, if the build may be a revert to a content that lies below.

    ``digest`` is the content of a build that was completed at ``completed_at``. There are none if the
    content is on top or is not released, and none after a rollback, which is somebody's decision: what is
    on top was on top before, then ours was, and now it is again. The same is seen when builds have
    the contents A, B, A and B. Then the last one is a revert, and it is told by its time: a release of its
    content was made *before* it was completed.
    """
    contents = contents_of(releases)
    top = highest(releases)
    ours = versions.highest(version for version, digests in contents.items() if digest in digests)
    if top is None or ours is None or digest in contents[top]:
        return frozenset()
    over = contents[top]
    was_on_top_before = any(
        digests & over and versions.is_valid(version) and Version.parse(version) < Version.parse(ours)
        for version, digests in contents.items()
    )
    if was_on_top_before and not _made_before(releases, ours, digest, completed_at):
        return frozenset()
    return over


def top_made_before(releases: Sequence[Release], moment: datetime | None) -> bool:
    """Whether the highest release was surely made before that time."""
    top = highest(releases)
    return top is not None and all(_made_before(releases, top, digest, moment) for digest in contents_of(releases)[top])


def made_at(release: Release) -> datetime | None:
    """When the registry says that the release was made; None if it says nothing that is a time."""
    try:
        return times.moment(release.created_at) if release.created_at else None
    except ValueError:
        return None


def _made_before(releases: Iterable[Release], version: str, digest: str, moment: datetime | None) -> bool:
    """Whether that release was surely made before that time."""
    made = [made_at(release) for release in releases if (release.version, release.digest) == (version, digest)]
    return moment is not None and all(time is not None and time < moment - CLOCKS_DIFFER for time in made)
