# SPDX-License-Identifier: GPL-3.0-or-later
"""Where releases go: one protocol, and a room for each kind of destination.

May know: ``common`` and ``manifests``. Nothing outside of a kind's own room knows how its registry is spoken to.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.model import Build, Bundle, Outcome, Release, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.manifests.contents import ArchiveContents


class ReleaseOrder(Protocol):
    """Where a content belongs among those of newer builds; asked while nobody else can release there."""

    @property
    def superseded_by(self) -> str | None:
        """The NVR of the build that stands in the way, once ``superseded`` said that there is one."""
        ...

    def superseded(self, below: Set[str], releases: Sequence[Release]) -> bool:
        """Whether something newer stands in the way.

        ``below``: the digests of the highest release, if this content would come out on top of it.
        ``releases``: all that there are.
        """
        ...

    def newest(self) -> bool:
        """Whether there is nothing newer, so that this content belongs on top."""
        ...

    def reverts(self, releases: Sequence[Release], digest: str) -> bool:
        """Whether this content, which is among the releases, is to be released again as it went back to it."""
        ...

    def goes_last(self) -> bool:
        """Whether others, which may be under way, are to be released before it."""
        ...


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """One release to be made: what goes where, and for whom.

    ``order`` keeps old from coming out on top of new; None: that does not matter. ``comes_again``: if this fails for
    a passing reason, it is tried again, so that nothing needs to be called done that was not seen.
    """

    target: Target
    bundle: Bundle
    build: Build | None
    request: PushRequest
    order: ReleaseOrder | None = None
    comes_again: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The release that holds the content; ``created``: by this very call.

    ``made_at``: when that was, as the registry writes it; None where it does not say. ``listed`` is
    False where the registry took the release and could not be asked afterwards.
    """

    version: str
    created: bool
    made_at: str | None = field(default=None, compare=False)
    listed: bool = field(default=True, compare=False)


class Destination(Protocol):
    """One kind of place that releases go to; may be used by any number of threads.

    What its methods raise is a WorkerError, which says whether trying again may help. Trying again never makes a
    second release of what was released.
    """

    def prepare(self, target: Target, contents: ArchiveContents, build: Build | None, request: PushRequest) -> Bundle:
        """Make of an operator's manifests what is released to ``target``. Asks nobody."""
        ...

    def changes(self, target: Target, request: PushRequest) -> Hashable:
        """Say what is changed in manifests on their way to ``target``: what is equal changes them equally."""
        ...

    def plan(self, job: ReleaseJob) -> Released | None:
        """Say what ``release`` would do now. Changes nothing."""
        ...

    def release(self, job: ReleaseJob) -> Released | None:
        """Make sure that the content is released, and say as what. None: something newer stands in the way."""
        ...

    def publish(self, job: ReleaseJob, released: Released) -> bool:
        """Let everybody see it, if everybody is meant to, and say whether they are known to."""
        ...

    def is_public(self, job: ReleaseJob) -> bool:
        """Say whether everybody is meant to see it."""
        ...

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str]:
        """Say which versions ``delete`` would delete now. Changes nothing."""
        ...

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package, or all: one Outcome for each, deleted or failed with its error."""
        ...
