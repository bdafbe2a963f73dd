# SPDX-License-Identifier: GPL-3.0-or-later
"""Old never on top: whether a newer build stands in the way of an older one.

For users the highest release is the newest, and an incremented version is always the highest. So
work that comes late (a retry, a replay, a catch-up, a build that was completed long ago) first asks
whether Koji has a newer build of the same component and target; if so, the old one is skipped.

Work that comes in time is skipped only if it was overtaken: when the newest build is the highest
release already. Asked while the package is held, this leaves no gap: what is newer and not released
yet has to wait for the package, and then comes out on top.

A build may also go back to an earlier content, which is released, and no longer on top. That is released again,
but only over what is known to be the content of an older build of the same component and target: whatever else
is on top came from elsewhere, or is there on purpose.

Builds that are completed together shall all become releases. So the newest of them lets those before
it go first, for as long as releases of the package keep coming.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from datetime import datetime, timedelta
from itertools import islice

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Attempt, Build, Release
from omps_worker.destinations.app_registry.release_history import lying_over, released_since, top_made_before

log = logging.getLogger(__name__)

SKIP = "skip"
"""The value of a rule's ``superseded`` that asks for all this; the other is ``publish``."""

SUPERSEDED = "superseded"
"""The reason of what is skipped."""

LATE_AFTER = timedelta(minutes=10)
"""A message about a build that was completed longer ago than this comes late."""

TOGETHER = timedelta(seconds=30)
"""Builds of which one was completed that shortly after the other are completed together."""

LOOKED_INTO = 3
"""How many newer, or older, builds are downloaded to find one that can be released at all."""

OLDER_FOR = timedelta(days=180)
"""How much older a build may be to be known as the one whose content is on top."""


def is_late(build: Build, attempt: Attempt, now: datetime) -> bool:
    """Whether this work may come after that on a newer build.

    A redelivery alone is not late. Nor is a build without a time of completion: nothing can be
    known to be newer.
    """
    return (
        attempt.late or attempt.number > 1 or (build.completed_at is not None and now - build.completed_at > LATE_AFTER)
    )


class BuildOrder:
    """Where one build stands among others of its component and target; a ``releases.Order``.

    ``siblings`` asks for those that were completed since a time, the newest first, with ``build``
    among them. ``digest_of`` gives the digest of a build's content, None if it cannot be released;
    it may take as long as a download. What they raise is raised.
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
        """The NVR of the build that stands in the way, once ``superseded`` said that there is one."""

    def superseded(self, below: Set[str], releases: Sequence[Release]) -> bool:
        """Whether the build is to be skipped; ``below``: what it would come out on top of, of all ``releases``."""
        if self._late:
            return self._stands_behind(next(self._newer(), None))
        return bool(below) and self._if_koji_tells(lambda: self._stands_behind(self._overtaking(below, releases)))

    def goes_last(self) -> bool:
        """Whether it is the newest of several that were completed together, and in time."""
        return not self._late and self._if_koji_tells(self._last_of_several)

    def newest(self) -> bool:
        """Whether nothing is newer."""
        return next(self._newer(), None) is None

    def reverts(self, releases: Sequence[Release], digest: str) -> bool:
        """Whether the build went back to the content ``digest``, which is released, from that of an older build."""
        over = lying_over(releases, digest, self._build.completed_at)
        return bool(over) and self._if_koji_tells(lambda: self._went_back_from(over, digest, releases))

    def _if_koji_tells(self, question: Callable[[], bool]) -> bool:
        # A hub that answers about one build and cannot list others stands in the way of nothing that is in time.
        try:
            return question()
        except KojiError as error:
            if not error.lacking:
                raise
            log.warning("where %s stands among other builds is not known: %s", self._build.nvr, error)
            return False

    def _stands_behind(self, build: Build | None) -> bool:
        self.superseded_by = build.nvr if build else None
        return build is not None

    def _overtaking(self, below: Set[str], releases: Sequence[Release]) -> Build | None:
        """The newer build that is released already, as far as can be seen."""
        for build in islice(self._newer(), LOOKED_INTO):
            digest = self._digest_of(build)
            if digest is not None:
                # Something from elsewhere may lie over it by now.
                since = build.completed_at
                there = digest in below or (since is not None and released_since(releases, digest, since))
                return build if there else None
        return None

    def _went_back_from(self, contents: Set[str], digest: str, releases: Sequence[Release]) -> bool:
        """Whether the build is the newest, and one before it had one of ``contents``, those of the highest release.

        If a build between the two had ``digest``, ours is a rebuild that changed nothing. Then somebody has put the
        older content on top, and ours goes over it only if it was completed after that.
        """
        if not self.newest():
            return False
        for build in islice(self._older(), LOOKED_INTO):
            had = self._known_digest_of(build)
            if had in contents:
                return True
            if had == digest and not top_made_before(releases, self._build.completed_at):
                return False
        return False

    def _known_digest_of(self, build: Build) -> str | None:
        try:
            return self._digest_of(build)
        except KojiError as error:
            if not error.absent:
                raise
            # The files of old builds may have been taken away for good.
            return None

    def _last_of_several(self) -> bool:
        if self._build.completed_at is None:
            return False
        siblings = iter(self._siblings(self._build.completed_at - TOGETHER))
        first = next(siblings, None)
        return first is not None and first.id == self._build.id and next(siblings, None) is not None

    def _newer(self) -> Iterator[Build]:
        """Those that were completed later; of two at the same moment, that with the greater id is the later."""
        if self._build.completed_at is not None:
            for build in self._siblings(self._build.completed_at):
                if build.order > self._build.order:
                    yield build

    def _older(self) -> Iterator[Build]:
        """Those that were completed before, the latest first."""
        if self._build.completed_at is not None:
            for build in self._siblings(self._build.completed_at - OLDER_FOR):
                if build.order < self._build.order:
                    yield build
