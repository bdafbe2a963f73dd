# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of one build: ask the mapping and Koji, fetch, verify, pack, release.

It knows nothing of where the build was heard of nor of who hears about the outcome.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from omps_worker import archive, bundle, versions
from omps_worker.archive import Limits
from omps_worker.errors import Fault, PackageValidationError, SettingsError, StorageError, UnexpectedError, WorkerError
from omps_worker.manifests import Manifests
from omps_worker.mapping import Mapping as BuildMapping
from omps_worker.model import (
    Attempt,
    Build,
    BuildEvent,
    BuildState,
    Bundle,
    Ignored,
    OperatorKind,
    Outcome,
    Status,
    Target,
)
from omps_worker.releases import Credentials, Place, Releaser, Wanted
from omps_worker.superseded import SKIP, SUPERSEDED, BuildOrder, is_late

log = logging.getLogger(__name__)
_preparing = threading.Lock()

NOT_COMPLETE = "not_complete"
NO_RULE = "no_rule"
IGNORED_BY_RULE = "ignored_by_rule"
"""Reasons to ignore a build: nobody asked for it."""

BUNDLE_BUILD = "bundle build"
NOT_AN_OPERATOR_IMAGE = "not an operator image"
"""Reasons to skip one: somebody asked for it, but there is nothing to publish.

Another is ``superseded.SUPERSEDED``."""

DIGESTS_KEPT = 256
"""Of how many builds the digest is remembered, while newer ones are compared with what is released."""


class Builds(Protocol):
    """The part of Koji that the story needs; see ``koji_builds.KojiBuilds``."""

    def find(self, *, build_id: int | None = None, nvr: str | None = None, with_target: bool = True) -> Build:
        """One build."""
        ...

    def download(self, build: Build, destination: Path) -> None:
        """Its archive of manifests, verified."""
        ...

    def siblings(self, build: Build, since: datetime) -> Iterator[Build]:
        """The operator builds of its component and target completed since then, the newest first."""
        ...


class MappingHolder(Protocol):
    """Has the mapping that holds now; see ``mapping_file.MappingFile``."""

    @property
    def current(self) -> BuildMapping:
        """The last good one."""
        ...


class Organization(Protocol):
    """How the configuration describes an organization."""

    @property
    def public(self) -> bool:
        """Whether its packages are to be seen by everybody."""
        ...

    def authorization(self) -> SecretStr:
        """What lets us push; read anew when its file changed."""
        ...

    def oauth(self) -> SecretStr | None:
        """What lets us make packages public, where there is such a token."""
        ...


@dataclass(frozen=True)
class Request:
    """What somebody who pushes by hand may ask for on top of a build's own rules."""

    organization: str | None = None
    repository: str | None = None
    version: str | None = None
    new_release: bool = False
    dry_run: bool = False


@dataclass
class _Work:
    """One build under way."""

    build: Build
    attempt: Attempt
    request: Request
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to ``seconds[name]``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def outcome(self, status: Status, target: Target | None, **known: object) -> Outcome:
        """An Outcome of this build for ``target``."""
        outcome = Outcome(
            status=status,
            organization=target.organization if target else None,
            repo=target.repository if target else None,
            nvr=self.build.nvr,
            build=self.build,
            target=target,
            seconds=dict(self.seconds),
        )
        return replace(outcome, **known)  # type: ignore[arg-type]


class Processor:
    """Processes builds, any number of them at a time, each in the thread that asks."""

    def __init__(
        self,
        mapping: MappingHolder,
        builds: Builds,
        releaser: Releaser,
        organizations: Mapping[str, Organization],
        limits: Limits,
    ) -> None:
        self._mapping = mapping
        self._builds = builds
        self._releaser = releaser
        self._organizations = organizations
        self._limits = limits
        self._digests: dict[int, str] = {}

    def process(
        self, event: BuildEvent, attempt: Attempt | None = None, request: Request | None = None
    ) -> list[Outcome] | Ignored:
        """What became of the build, one Outcome per target, or why nobody asked for it.

        Never raises: a fault becomes a failed Outcome. Before any target is known there is one
        without organization and repository.
        """
        attempt, request = attempt or Attempt(), request or Request()
        try:
            build = self._builds.find(build_id=event.build_id, nvr=event.nvr)
        except Exception as error:
            return [Outcome(Status.FAILED, nvr=event.nvr, error=_named(error, event.nvr))]
        return self.process_build(build, attempt, request)

    def process_build(self, build: Build, attempt: Attempt, request: Request) -> list[Outcome] | Ignored:
        """The same for a build that Koji has described already."""
        work = _Work(build, attempt, request)
        if build.state != BuildState.COMPLETE:
            return Ignored(NOT_COMPLETE, f"{build.nvr} is in state {_state_name(build.state)}")
        try:
            targets = _still_open(self.targets_of(build, request), attempt)
        except Exception as error:
            return [work.outcome(Status.FAILED, None, error=_named(error, build.nvr))]
        if isinstance(targets, Ignored):
            return targets
        try:
            return self._publish_to_all(work, targets)
        except Exception as error:
            named = _named(error, build.nvr)
            return [work.outcome(Status.FAILED, target, error=named) for target in targets]

    def targets_of(self, build: Build, request: Request) -> Sequence[Target] | Ignored:
        """Where ``build`` goes: as ``request`` says, or else the mapping."""
        if request.organization is not None:
            return [Target(request.organization, request.repository, request.version or versions.INCREMENT)]
        match = self._mapping.current.resolve(build.facts)
        if match is None:
            return Ignored(NO_RULE, f"no rule of the mapping matches {build.nvr}")
        if not match.targets:
            return Ignored(IGNORED_BY_RULE, f"{match.rule_text} ignores {build.nvr} on purpose")
        return [
            replace(
                target,
                repository=request.repository or target.repository,
                version=request.version or target.version,
            )
            for target in match.targets
        ]

    def _publish_to_all(self, work: _Work, targets: Sequence[Target]) -> list[Outcome]:
        kind = work.build.kind
        if kind is OperatorKind.NONE:
            return [work.outcome(Status.SKIPPED, target, reason=NOT_AN_OPERATOR_IMAGE) for target in targets]
        if kind is OperatorKind.BUNDLE:
            return [work.outcome(Status.SKIPPED, target, reason=BUNDLE_BUILD) for target in targets]
        with tempfile.TemporaryDirectory(prefix="omps-worker-") as scratch:
            zip_file, tree = Path(scratch, "archive.zip"), Path(scratch, "manifests")
            with work.stage("download"):
                self._builds.download(work.build, zip_file)
            with work.stage("extract"):
                tree.mkdir()
                files = archive.extract(zip_file, tree, self._limits)
            try:
                with work.stage("validate"):
                    prepared = prepare(tree, files)
            except PackageValidationError as error:
                if kind is OperatorKind.UNKNOWN and bundle.is_bundle_tree(tree):
                    return [work.outcome(Status.SKIPPED, target, reason=BUNDLE_BUILD) for target in targets]
                return [work.outcome(Status.FAILED, target, extracted_files=files, error=error) for target in targets]
        return [self._publish(work, target, prepared) for target in targets]

    def _publish(self, work: _Work, target: Target, prepared: Bundle) -> Outcome:
        known: dict[str, object] = {
            "repo": target.repository or prepared.package_name,
            "extracted_files": prepared.files,
            "digest": prepared.digest,
        }
        try:
            return self._release(work, target, prepared, known)
        except Exception as error:
            return work.outcome(Status.FAILED, target, **known, error=_named(error, work.build.nvr))

    def _release(self, work: _Work, target: Target, prepared: Bundle, known: dict[str, object]) -> Outcome:
        repository = repository_of(target, prepared)
        organization = self._organizations.get(target.organization)
        if organization is None:
            raise unknown_organization(target.organization)
        credentials = Credentials(organization.authorization(), organization.oauth(), organization.public)
        place = Place(target.organization, repository, credentials)
        wanted = Wanted(
            prepared,
            place,
            version=versions.wanted(target.version, work.build, prepared.csv_version),
            new_release=work.request.new_release,
            order=self._order(work, target),
        )
        self._remember(work.build, prepared.digest)
        release = self._releaser.plan if work.request.dry_run else self._releaser.release
        with work.stage("release"):
            released = release(wanted)
        if released is None:
            return work.outcome(Status.SKIPPED, target, **known, reason=SUPERSEDED)
        known["version"] = released.version
        if work.request.dry_run:
            status = Status.PUBLISHED if released.created else Status.UNCHANGED
            return work.outcome(status, target, **known, public=credentials.public)
        with work.stage("publish"):
            public = self._releaser.publish(place, released.version)
        ours = released.created or work.attempt.interrupted
        status = Status.PUBLISHED if ours else Status.UNCHANGED
        return work.outcome(status, target, **known, public=public)

    def _order(self, work: _Work, target: Target) -> BuildOrder | None:
        """Where the build stands among others; None if the rule does not care."""
        if target.superseded != SKIP:
            return None
        late = is_late(work.build, work.attempt, datetime.now(timezone.utc))
        return BuildOrder(work.build, lambda since: self._siblings(work, target, since), self._digest_of, late=late)

    def _siblings(self, work: _Work, target: Target, since: datetime) -> Iterator[Build]:
        """Those of the builds completed since then that go to the same organization."""
        for build in self._builds.siblings(work.build, since):
            match = self._mapping.current.resolve(build.facts)
            if work.request.organization is not None or (
                match and target.organization in {other.organization for other in match.targets}
            ):
                yield build

    def _digest_of(self, build: Build) -> str | None:
        """The digest that the build's content would be released with; None if it cannot be released."""
        if build.id in self._digests:
            return self._digests[build.id]
        with tempfile.TemporaryDirectory(prefix="omps-worker-") as scratch:
            zip_file, tree = Path(scratch, "archive.zip"), Path(scratch, "manifests")
            tree.mkdir()
            try:
                self._builds.download(build, zip_file)
                digest = prepare(tree, archive.extract(zip_file, tree, self._limits)).digest
            except WorkerError as error:
                if error.transient:
                    raise
                return None
        self._remember(build, digest)
        return digest

    def _remember(self, build: Build, digest: str) -> None:
        if len(self._digests) >= DIGESTS_KEPT:
            self._digests.clear()
        self._digests[build.id] = digest


def _still_open(targets: Sequence[Target] | Ignored, attempt: Attempt) -> Sequence[Target] | Ignored:
    """Those of ``targets`` that an earlier attempt left open.

    When the mapping was edited meanwhile and no longer names one of them, all count as open: those
    that are done are found to be released, and nothing that was to be mended is forgotten.
    """
    if isinstance(targets, Ignored) or attempt.targets is None:
        return targets
    named = [target for target in targets if target.label in attempt.targets]
    return named if {target.label for target in named} == set(attempt.targets) else targets


def prepare(tree: Path, files: tuple[str, ...]) -> Bundle:
    """The bundle that the manifests in ``tree`` make; PackageValidationError if they make none.

    One thread at a time: it is all computing, which threads do not make faster, and the largest
    manifests that are let in take a hundred megabytes or two.
    """
    with _preparing:
        manifests = Manifests.read(tree)
        return bundle.prepare(tree, files, manifests, manifests.package_name)


def repository_of(target: Target, prepared: Bundle) -> str:
    """The repository that ``target`` means; a name in the mapping is an assertion."""
    if target.repository is not None and target.repository != prepared.package_name:
        raise PackageValidationError(
            f"The packageName ({prepared.package_name}) is not the repository that was asked for "
            f"({target.repository}).",
            details={"validation_info": {}},
        )
    return prepared.package_name


def unknown_organization(name: str, file: str = "configuration") -> SettingsError:
    """The fault of a target whose organization the configuration does not know."""
    return SettingsError(
        [
            Fault(
                file,
                f"consumer_config.organizations.{name}",
                "the organization has no credentials here; add it",
            )
        ]
    )


def _named(error: Exception, nvr: str | None) -> WorkerError:
    if isinstance(error, WorkerError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        log.exception("local storage failed while working on %s", nvr)
        return StorageError.wrap(error)
    log.exception("an exception that nobody thought of interrupted the work on %s", nvr)
    return UnexpectedError.wrap(error)


def _state_name(state: int) -> str:
    try:
        return BuildState(state).name
    except ValueError:
        return str(state)
