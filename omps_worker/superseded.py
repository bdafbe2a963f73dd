# SPDX-License-Identifier: GPL-3.0-or-later
"""Old never on top: whether a newer build stands in the way of an older one.

For users the highest release is the newest, and an incremented version is always the highest. So
work that comes late (a retry, a replay, a catch-up, a build that was completed long ago) first asks
whether Koji has a newer build of the same component and target; if so, the old one is skipped.

Work that comes in time is not asked that: what is newer comes after it. But a message that is
delivered again was overtaken, most likely, by those behind it. So when Koji has something newer, and
precisely that is the highest release already, the older build is skipped as well. Asked while the
package is held, this leaves no gap: what is newer and not released yet has to wait for the package,
and then comes out on top.

First deliveries are always published: builds that are completed at the same time all become
releases, in the order in which they get hold of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from datetime import datetime, timedelta

from omps_worker.model import Attempt, Build

SKIP = "skip"
"""The value of a rule's ``superseded`` that asks for all this; the other is ``publish``."""

SUPERSEDED = "superseded"
"""The reason of what is skipped."""

LATE_AFTER = timedelta(minutes=10)
"""A message about a build that was completed longer ago than this comes late."""

NEWER_LOOKED_INTO = 3
"""How many newer builds are downloaded to find one that can be released at all."""


def is_late(build: Build, attempt: Attempt, now: datetime) -> bool:
    """Whether this work may come after that on a newer build.

    A redelivery alone is not late. Nor is a build without a time of completion: nothing can be
    known to be newer.
    """
    return (
        attempt.late or attempt.number > 1 or (build.completed_at is not None and now - build.completed_at > LATE_AFTER)
    )


class BuildOrder:
    """Where one build stands among newer ones; a ``releases.Order``.

    ``newer`` asks for the newer builds, the newest first. ``digest_of`` gives the digest of a
    build's content, None if it cannot be released; it may take as long as a download. What they
    raise is raised.
    """

    def __init__(
        self,
        newer: Callable[[], Iterable[Build]],
        digest_of: Callable[[Build], str | None],
        *,
        late: bool,
        redelivered: bool = False,
    ) -> None:
        self._newer = newer
        self._digest_of = digest_of
        self._late = late
        self._redelivered = redelivered

    def superseded(self, below: Set[str]) -> bool:
        """Whether the build is to be skipped; ``below``: what it would come out on top of."""
        if not self._late and not (self._redelivered and below):
            return False
        for number, build in enumerate(self._newer()):
            if self._late:
                return True
            if number >= NEWER_LOOKED_INTO:
                break
            digest = self._digest_of(build)
            if digest is not None:
                return digest in below
        return False

    def newest(self) -> bool:
        """Whether nothing is newer."""
        return not any(True for _ in self._newer())
