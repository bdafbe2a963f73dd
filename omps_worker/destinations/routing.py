# SPDX-License-Identifier: GPL-3.0-or-later
"""Several destinations as one: the target of a release decides which of them it goes to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

from pydantic import SecretStr

from omps_worker.common.model import CATALOG, Build, OperatorKind, Outcome, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import Content, Destination, Released, ReleaseJob
from omps_worker.manifests.contents import ArchiveContents

BundleImages = Callable[[Build], str]
"""Returns the pull specification, with a digest, of a bundle build's image. May raise WorkerErrors."""


class RoutingDestination:
    """Releases to organizations and to catalogs, each by the destination for it; see ``destinations.Destination``.

    ``bundle_image`` is asked about a bundle build that goes to a catalog and does not name its image.
    """

    def __init__(self, organizations: Destination, catalogs: Destination, bundle_image: BundleImages) -> None:
        self._organizations = organizations
        self._catalogs = catalogs
        self._bundle_image = bundle_image

    def skip_reason(self, target: Target, build: Build) -> str | None:
        """Return why a build of this kind has nothing to publish to ``target``, or None if it may."""
        return self._of(target).skip_reason(target, build)

    def needs_archive(self, target: Target, build: Build) -> bool:
        """Return whether ``prepare`` reads the build's archive of manifests."""
        return self._of(target).needs_archive(target, build)

    def prepare(
        self, target: Target, contents: ArchiveContents | None, build: Build | None, request: PushRequest
    ) -> Content:
        """Make the content to release to ``target``. Raises what the destination and ``bundle_image`` raise."""
        if target.catalog is not None and build is not None and build.kind is OperatorKind.BUNDLE:
            build = replace(build, bundle_image=build.bundle_image or self._bundle_image(build))
        return self._of(target).prepare(target, contents, build, request)

    def changes(self, target: Target, request: PushRequest) -> Hashable:
        """Return the changes to manifests on their way to ``target``; never equal for two kinds of destinations."""
        return target.catalog is not None, self._of(target).changes(target, request)

    def plan(self, job: ReleaseJob) -> Released | None:
        """Return what ``release`` would return now. Changes nothing; raises the same errors."""
        return self._of(job.target).plan(job)

    def release(self, job: ReleaseJob) -> Released | None:
        """Make sure that the content is released, and return the release; None if something newer supersedes it."""
        return self._of(job.target).release(job)

    def make_public(self, job: ReleaseJob, released: Released) -> bool:
        """Make the package public if it is meant to be, and return whether it is known to be public."""
        return self._of(job.target).make_public(job, released)

    def is_public(self, job: ReleaseJob) -> bool:
        """Return whether the package is meant to be public."""
        return self._of(job.target).is_public(job)

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str | None]:
        """Return the versions that ``delete`` would delete now; ``name`` is an organization, or ``catalog:NAME``."""
        destination, name = self._named(name)
        return destination.would_delete(name, repository, version, authorization)

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one version of a package, or all; ``name`` is an organization, or ``catalog:NAME``."""
        destination, name = self._named(name)
        return destination.delete(name, repository, version, authorization)

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the checks of both destinations; see ``Destination.checks``."""
        yield from self._organizations.checks()
        yield from self._catalogs.checks()

    def _named(self, place: str) -> tuple[Destination, str]:
        """Return the destination for ``place``, and the name of ``place`` at that destination."""
        if place.startswith(CATALOG):
            return self._catalogs, place.removeprefix(CATALOG)
        return self._organizations, place

    def _of(self, target: Target) -> Destination:
        return self._organizations if target.catalog is None else self._catalogs
