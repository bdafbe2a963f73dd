# SPDX-License-Identifier: GPL-3.0-or-later
"""Destinations of releases: one interface, and a subpackage for each kind of destination.

May know: ``common`` and ``manifests``. Only a destination's own subpackage knows the protocol of its registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.model import Build, Outcome, Release, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.manifests.contents import ArchiveContents

BUNDLE_BUILD = "bundle build"
NOT_AN_OPERATOR_IMAGE = "not an operator image"
"""Reasons to skip a build: a rule matches it, but it carries nothing that the destination can publish."""


class Content(Protocol):
    """The content of a release to one target: the validated manifests of one package, in the destination's format."""

    @property
    def package_name(self) -> str:
        """The name of the package, which is the repository that the release goes to."""
        ...

    @property
    def digest(self) -> str:
        """The hex sha256 by which the destination recognises the same content."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The relative paths of all files of the build's archive, sorted."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unusual about the manifests, in sentences that name files."""
        ...


class ReleaseOrder(Protocol):
    """The position of a content among those of newer and older builds. It is asked while the package is locked."""

    @property
    def superseded_by(self) -> str | None:
        """The NVR of the superseding build, after ``superseded`` has returned True."""
        ...

    def superseded(self, below: Set[str], releases: Sequence[Release]) -> bool:
        """Return whether a newer build supersedes this content.

        ``below`` holds the digests of the highest release if this content would be released on top of it. ``releases``
        are all releases of the package, if the destination knows when they were made, as a catalog does not.
        """
        ...

    def newest(self) -> bool:
        """Return whether no build is newer, so that this content belongs on top."""
        ...

    def reverts(self, releases: Sequence[Release], digest: str) -> bool:
        """Return whether the released content ``digest`` is to be released again because the build reverts to it."""
        ...

    def goes_last(self) -> bool:
        """Return whether other builds, which may be in progress, are to be released before this one."""
        ...


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """One release to make: which content, to which target, for which request.

    ``order`` prevents old content from being released on top of new; with None, order does not matter. ``comes_again``
    is True if transient failures are retried: an accepted push that could not be verified may then be reported as a
    failure, because the retry verifies it.
    """

    target: Target
    content: Content
    build: Build | None
    request: PushRequest
    order: ReleaseOrder | None = None
    comes_again: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The release that has the content. ``created`` says whether this call made it.

    ``made_at`` is the time of the release as the registry writes it, or None if the registry gives no time. ``listed``
    is False if the registry accepted the release but could not be queried afterwards. ``facts`` are further fields of
    the Outcome, by name.
    """

    version: str
    created: bool
    made_at: str | None = field(default=None, compare=False)
    listed: bool = field(default=True, compare=False)
    facts: Mapping[str, object] = field(default_factory=dict[str, object], compare=False)


class Destination(Protocol):
    """One kind of destination for releases. Safe for use by any number of threads.

    Methods raise only WorkerErrors, which say whether trying again may help. Trying again never makes a second release
    of content that was released.
    """

    def skip_reason(self, target: Target, build: Build) -> str | None:
        """Return why a build of this kind has nothing to publish to ``target``, or None if it may have something.

        Never raises.
        """
        ...

    def needs_archive(self, target: Target, build: Build) -> bool:
        """Return whether ``prepare`` reads the build's archive of manifests, which is then downloaded and unpacked."""
        ...

    def prepare(
        self, target: Target, contents: ArchiveContents | None, build: Build | None, request: PushRequest
    ) -> Content:
        """Make the content to release to ``target``. Changes nothing at the destination.

        ``contents`` is the unpacked archive, of the build or uploaded, or None if ``needs_archive`` returned False.
        ``build`` is None for an uploaded archive.
        """
        ...

    def changes(self, target: Target, request: PushRequest) -> Hashable:
        """Return the changes to manifests on their way to ``target``; equal values mean equal changes."""
        ...

    def plan(self, job: ReleaseJob) -> Released | None:
        """Return what ``release`` would return now. Changes nothing."""
        ...

    def release(self, job: ReleaseJob) -> Released | None:
        """Make sure that the content is released, and return the release; None if something newer supersedes it."""
        ...

    def make_public(self, job: ReleaseJob, released: Released) -> bool:
        """Make the package public if it is meant to be, and return whether it is known to be public."""
        ...

    def is_public(self, job: ReleaseJob) -> bool:
        """Return whether the package is meant to be public."""
        ...

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str | None]:
        """Return the versions that ``delete`` would delete now; None is for what has none. Changes nothing."""
        ...

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package, or all of them: one Outcome each, deleted or failed with its error."""
        ...

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the checks of ``omps-worker check``: the name of a part, and a function that checks it.

        The function returns a detail for people, or raises Inconclusive or a WorkerError. It changes nothing.
        """
        ...
