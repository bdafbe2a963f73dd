# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule that a build is never released on top of a newer one.

For users the highest release is the newest, and an incremented version is always the highest. Late work (a retry, a
replay, a catch-up, a build that was completed long ago) therefore first asks whether Koji has a newer build of the same
component and target. If so, the older build is skipped.

Work that is in time is skipped only if it was overtaken, that is, if the newest build is already the highest release.
This is decided while the package is locked, which leaves no gap: a newer build that is not released yet has to wait for
the lock, and is then released on top.

A build may also go back to earlier content that is released but no longer on top. That content is released again, but
only over content that is known to be that of an older build of the same component and target. Anything else on top came
from elsewhere, or is there on purpose.

Builds that are completed together should all become releases. The newest of them therefore lets the others go first, as
long as the package keeps getting new releases.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from datetime import datetime, timedelta
from itertools import islice

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Attempt, Build, Release
from omps_worker.destinations.release_history import contents_to_revert, released_since, top_made_before

log = logging.getLogger(__name__)

SKIP = "skip"
"""The value of a rule's ``superseded`` that turns these checks on; the other value is ``publish``."""

SUPERSEDED = "superseded"
"""The reason of an outcome that is skipped because of a newer build."""

LATE_AFTER = timedelta(minutes=10)
"""A message is late if its build was completed longer ago than this."""

TOGETHER = timedelta(seconds=30)
"""Two builds count as completed together if the time between them is at most this."""

LOOKED_INTO = 3
"""The number of newer, or older, builds that are downloaded to find one that can be released."""

OLDER_FOR = timedelta(days=180)
"""The largest age difference at which an older build is considered as the source of the content on top."""


def is_late(build: Build, attempt: Attempt, now: datetime) -> bool:
    """Return whether the work on a newer build may have come before this work.

    A redelivery alone is not late. A build without a completion time is not late either: no build can be known to be
    newer.
    """
    return (
        attempt.late or attempt.number > 1 or (build.completed_at is not None and now - build.completed_at > LATE_AFTER)
    )


class BuildOrder:
    """The position of one build among the builds of its component and target; a ``destinations.ReleaseOrder``.

    ``siblings`` returns the builds completed since a time, newest first, ``build`` included. ``digest_of`` returns the
    digest of a build's content, or None if it cannot be released; it may take as long as a download. Exceptions of
    both are passed on.
    """

    def __init__(
        self,
        build: Build,
        siblings: Callable[[datetime], Iterable[Build]],
        digest_of: Callable[[Build], str | None],
        *,
        late: bool,
    ) -> None:
        self._build = build
        self._siblings = siblings
        self._digest_of = digest_of
        self._late = late
        self.superseded_by: str | None = None
        """The NVR of the superseding build, after ``superseded`` has returned True."""

    def superseded(self, below: Set[str], releases: Sequence[Release]) -> bool:
        """Return whether the build is to be skipped.

        ``below`` holds the digests of the highest release if this build would be released on top of it. ``releases``
        are all releases of the package, or none if it is not known when they were made.
        """
        if self._late:
            return self._is_behind(next(self._newer(), None))
        return bool(below) and self._if_koji_can_list(lambda: self._is_behind(self._overtaking_build(below, releases)))

    def goes_last(self) -> bool:
        """Return whether the build is in time and the newest of several that were completed together."""
        return not self._late and self._if_koji_can_list(self._last_of_several)

    def newest(self) -> bool:
        """Return whether no build is newer."""
        return next(self._newer(), None) is None

    def reverts(self, releases: Sequence[Release], digest: str) -> bool:
        """Return whether the build reverts to the released content ``digest`` from the content of an older build."""
        on_top = contents_to_revert(releases, digest, self._build.completed_at)
        return bool(on_top) and self._if_koji_can_list(lambda: self._went_back_from(on_top, digest, releases))

    def _if_koji_can_list(self, question: Callable[[], bool]) -> bool:
        # If the hub describes single builds but cannot list others, work that is in time is not skipped.
        try:
            return question()
        except KojiError as error:
            if not error.lacking:
                raise
            log.warning("Koji cannot tell which builds are newer or older than %s: %s", self._build.nvr, error)
            return False

    def _is_behind(self, build: Build | None) -> bool:
        self.superseded_by = build.nvr if build else None
        return build is not None

    def _overtaking_build(self, below: Set[str], releases: Sequence[Release]) -> Build | None:
        """Return the newer build that is known to be released, or None."""
        for build in islice(self._newer(), LOOKED_INTO):
            digest = self._digest_of(build)
            if digest is not None:
                # A release from elsewhere may be on top of it by now.
                since = build.completed_at
                is_released = digest in below or (since is not None and released_since(releases, digest, since))
                return build if is_released else None
        return None

    def _went_back_from(self, contents: Set[str], digest: str, releases: Sequence[Release]) -> bool:
        """Return whether the build is the newest, and an older one had one of ``contents``.

        ``contents`` are the digests of the highest release. If a build between the two had ``digest``, this build is a
        rebuild without changes, and an operator put the older content on top. This build's content is then released
        over it only if the build was completed after that release.
        """
        if not self.newest():
            return False
        for build in islice(self._older(), LOOKED_INTO):
            older_digest = self._known_digest_of(build)
            if older_digest in contents:
                return True
            if older_digest == digest and not top_made_before(releases, self._build.completed_at):
                return False
        return False

    def _known_digest_of(self, build: Build) -> str | None:
        try:
            return self._digest_of(build)
        except KojiError as error:
            if not error.absent:
                raise
            # The files of old builds may have been removed permanently.
            return None

    def _last_of_several(self) -> bool:
        if self._build.completed_at is None:
            return False
        siblings = iter(self._siblings(self._build.completed_at - TOGETHER))
        first = next(siblings, None)
        return first is not None and first.id == self._build.id and next(siblings, None) is not None

    def _newer(self) -> Iterator[Build]:
        """Yield the builds completed later. Of two completed at the same time, the one with the greater id is later."""
        if self._build.completed_at is not None:
            for build in self._siblings(self._build.completed_at):
                if build.order > self._build.order:
                    yield build

    def _older(self) -> Iterator[Build]:
        """Yield the builds completed earlier, newest first."""
        if self._build.completed_at is not None:
            for build in self._siblings(self._build.completed_at - OLDER_FOR):
                if build.order < self._build.order:
                    yield build
