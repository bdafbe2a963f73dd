# SPDX-License-Identifier: GPL-3.0-or-later
"""Build orders from Koji: the newer and older builds of a component, and the digests of their contents."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from omps_worker.common.errors import WorkerError
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.limits import Limits
from omps_worker.common.model import Attempt, Build, OperatorKind, Target
from omps_worker.common.tracebacks import drop_tracebacks
from omps_worker.configuration.mapping.matching import MappingHolder
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.publishing.superseded import BuildOrder, is_late

DIGESTS_KEPT = 256
"""The number of digests to cache. They are needed while other builds are compared with what is released."""


class Builds(Protocol):
    """The part of Koji that this module needs; see ``koji_client.builds.KojiBuilds``."""

    def download(self, build: Build, destination: Path) -> str:
        """Write the build's archive of manifests to ``destination``, verified, and return its URL."""
        ...

    def siblings(self, build: Build, since: datetime) -> Iterator[Build]:
        """Yield the operator builds of the same component and target completed since ``since``, newest first."""
        ...


class BuildOrders:
    """A factory for BuildOrders that asks Koji, the mapping and, if necessary, the builds' archives.

    Threads may share it.
    """

    def __init__(self, mapping: MappingHolder, builds: Builds, limits: Limits) -> None:
        self._mapping = mapping
        self._builds = builds
        self._limits = limits
        self._digests: dict[tuple[int, Hashable], str] = {}

    def of(
        self,
        build: Build,
        attempt: Attempt,
        target: Target,
        changes: Hashable,
        digest: str,
        digest_of: Callable[[ArchiveContents | None, Build], str],
        *,
        by_mapping: bool,
    ) -> BuildOrder:
        """Return the order of ``build``, whose content has ``digest``, among the builds for the same place.

        ``digest_of`` returns the digest that another build's content would be released with; it gets None instead of
        the contents of an archive for a bundle build, whose content is its image. ``changes`` are the changes to the
        manifests on their way to the target; digests are cached by build and changes. With ``by_mapping`` the mapping
        decides which builds go to the place. Otherwise all builds of the component and build target count. Bundle
        builds count only for catalogs: they are never released to an organization.
        """
        self._remember(build, changes, digest)
        return BuildOrder(
            build,
            lambda since: self._siblings(build, target, since, by_mapping=by_mapping),
            lambda other: self._digest_of(other, changes, digest_of),
            late=is_late(build, attempt, datetime.now(timezone.utc)),
        )

    def _siblings(self, build: Build, target: Target, since: datetime, *, by_mapping: bool) -> Iterator[Build]:
        for other in self._builds.siblings(build, since):
            if target.catalog is None and other.kind is OperatorKind.BUNDLE:
                continue
            match = self._mapping.current.resolve(other.facts) if by_mapping else None
            if not by_mapping or (match and target.place in {each.place for each in match.targets}):
                yield other

    def _digest_of(
        self, build: Build, changes: Hashable, digest_of: Callable[[ArchiveContents | None, Build], str]
    ) -> str | None:
        """Return the digest that the build's content would be released with, or None if it cannot be released."""
        cached = self._digests.get((build.id, changes))
        if cached is not None:
            return cached
        try:
            if build.kind is OperatorKind.BUNDLE:
                digest = digest_of(None, build)
            else:
                with ScratchDirectory() as directory:
                    archive_file = Path(directory, "archive.zip")
                    self._builds.download(build, archive_file)
                    digest = digest_of(ArchiveContents(archive_file, Path(directory), self._limits), build)
        except WorkerError as error:
            if error.transient:
                raise
            drop_tracebacks(error)
            return None
        self._remember(build, changes, digest)
        return digest

    def _remember(self, build: Build, changes: Hashable, digest: str) -> None:
        if len(self._digests) >= DIGESTS_KEPT:
            self._digests.clear()
        self._digests[build.id, changes] = digest
