# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of one build: ask the mapping and Koji, fetch, gate, transform, verify, pack, release.

An archive that somebody brings joins the story where a build's would have been fetched. The story
knows nothing of where the build was heard of nor of who hears about the outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Protocol

from omps_worker.common import machine
from omps_worker.common.errors import (
    GreenwaveUnsatisfiedError,
    KojiNVRBuildNotFound,
    OMPSUploadedFileError,
    PackageValidationError,
    ResourcesExhausted,
    StorageError,
    WorkerError,
    unforeseen,
)
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.limits import Limits
from omps_worker.common.model import (
    Attempt,
    Build,
    BuildEvent,
    BuildFacts,
    BuildState,
    Bundle,
    Ignored,
    OperatorKind,
    Outcome,
    Status,
    Target,
)
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.common.tracebacks import let_go
from omps_worker.configuration.mapping import MappingHolder
from omps_worker.destinations import Destination, ReleaseJob
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.messages import events
from omps_worker.publishing import build_orders, claims
from omps_worker.publishing.build_orders import BuildOrders
from omps_worker.publishing.holds import HELD, publish_unpaused
from omps_worker.publishing.superseded import SKIP, SUPERSEDED, BuildOrder
from omps_worker.publishing.targets import still_open, targets_of

log = logging.getLogger(__name__)

NOT_COMPLETE = "not_complete"
DRAFT_BUILD = events.DRAFT_BUILD
"""Reasons to ignore a build: nobody asked for it. Others are in ``claims`` and ``targets``."""

BUNDLE_BUILD = "bundle build"
NOT_AN_OPERATOR_IMAGE = "not an operator image"
"""Reasons to skip one: somebody asked for it, but there is nothing to publish.

Another is ``superseded.SUPERSEDED``."""

_NOTHING_TO_PUBLISH = {OperatorKind.NONE: NOT_AN_OPERATOR_IMAGE, OperatorKind.BUNDLE: BUNDLE_BUILD}


class Builds(build_orders.Builds, Protocol):
    """The part of Koji that the story needs; see ``koji_client.builds.KojiBuilds``."""

    def find(self, *, build_id: int | None = None, nvr: str | None = None, with_target: bool = True) -> Build:
        """One build."""
        ...


class Gate(Protocol):
    """What a build has to pass; see ``gate.Greenwave``."""

    def check(self, nvr: str) -> None:
        """Return if it has passed; GreenwaveUnsatisfiedError if it has not."""
        ...


@dataclass(frozen=True, slots=True)
class _PreparedTarget:
    """What is to be released to ``target``."""

    target: Target
    bundle: Bundle


@dataclass
class _BuildWork:
    """One build under way, or one archive without a build."""

    build: Build | None
    attempt: Attempt
    request: PushRequest
    observer: Observer
    seconds: dict[str, float] = field(default_factory=dict)
    url: str | None = None
    """Where the build's archive is, once it was downloaded."""

    @property
    def nvr(self) -> str | None:
        """The build's."""
        return self.build.nvr if self.build else None

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Add the time spent inside to ``seconds[name]``, and tell of it."""
        return self.observer.timing(name, self.seconds)

    def outcome(self, status: Status, target: Target | None, **known: object) -> Outcome:
        """An Outcome of this work for ``target``."""
        outcome = Outcome(
            status=status,
            organization=target.organization if target else None,
            repo=target.repository if target else None,
            nvr=self.nvr,
            build=self.build,
            target=target,
            seconds=dict(self.seconds),
        )
        return replace(outcome, **known)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PreparedBuild:
    """A build, or an archive, of which at least one target is left to release to; it holds the contents in memory."""

    work: _BuildWork
    parts: Sequence[Outcome | _PreparedTarget]

    @property
    def packages(self) -> tuple[str, ...]:
        """Where the releases go, each as ``organization/repository``."""
        ready = [part for part in self.parts if isinstance(part, _PreparedTarget)]
        return tuple(f"{part.target.organization}/{part.bundle.package_name}" for part in ready)

    def asked_again(self, **wishes: object) -> PreparedBuild:
        """The same with other wishes, which are fields of Request."""
        work = replace(self.work, request=replace(self.work.request, **wishes))  # type: ignore[arg-type]
        return replace(self, work=work)


class Processor:
    """Processes builds, any number of them at a time, each in the thread that asks.

    ``gate`` is asked about each build; that one does not pass is no lasting failure for so many
    seconds of ``patience`` after its message was first seen. ``observer`` hears how long the stages take.
    """

    def __init__(
        self,
        mapping: MappingHolder,
        builds: Builds,
        destination: Destination,
        limits: Limits,
        *,
        gate: Gate | None = None,
        patience: float = 0.0,
        observer: Observer = SILENT,
    ) -> None:
        self._mapping = mapping
        self._builds = builds
        self._destination = destination
        self._limits = limits
        self._gate = gate
        self._patience = timedelta(seconds=patience)
        self._observer = observer
        self._orders = BuildOrders(mapping, builds, limits)

    def process(
        self, event: BuildEvent, attempt: Attempt | None = None, request: PushRequest | None = None
    ) -> list[Outcome] | Ignored:
        """What became of the build, one Outcome per target, or why nobody asked for it.

        Never raises: a fault becomes a failed Outcome. Before any target is known there is one
        without organization and repository.
        """
        return self._released(self.prepare(event, attempt, request))

    def prepare(
        self, event: BuildEvent, attempt: Attempt | None = None, request: PushRequest | None = None
    ) -> PreparedBuild | list[Outcome] | Ignored:
        """As much of ``process`` as needs no package; PreparedBuild is what is left to ``release``. Never raises."""
        attempt, request = attempt or Attempt(), request or PushRequest()
        seconds: dict[str, float] = {}
        try:
            with self._observer.timing("koji", seconds):
                build = self._builds.find(build_id=event.build_id, nvr=event.nvr)
            claims.check_names(event, build)
            outdated = claims.check_state(event, build) if attempt.by_message else None
        except KojiNVRBuildNotFound as error:
            unknown = claims.unknown(error) if attempt.by_message else error.as_value()
            return [Outcome(Status.FAILED, nvr=event.nvr, error=unknown)]
        except Exception as error:
            return [Outcome(Status.FAILED, nvr=event.nvr, error=_named(error, event.nvr))]
        return outdated or self._prepare_build(_BuildWork(build, attempt, request, self._observer, seconds), build)

    def process_build(self, build: Build, attempt: Attempt, request: PushRequest) -> list[Outcome] | Ignored:
        """The same as ``process`` for a build that Koji has described already."""
        return self._released(self._prepare_build(_BuildWork(build, attempt, request, self._observer), build))

    def _prepare_build(self, work: _BuildWork, build: Build) -> PreparedBuild | list[Outcome] | Ignored:
        attempt, request = work.attempt, work.request
        if build.state != BuildState.COMPLETE:
            return Ignored(NOT_COMPLETE, f"{build.nvr} is in state {claims.state_name(build.state)}", build)
        if build.draft:
            return Ignored(DRAFT_BUILD, f"{build.nvr} is a draft build, which is published when it is promoted", build)
        try:
            targets = still_open(targets_of(self._mapping.current, build.facts, build.nvr, request), attempt)
        except Exception as error:
            return [work.outcome(Status.FAILED, None, error=_named(error, build.nvr))]
        if isinstance(targets, Ignored):
            return replace(targets, build=build)
        reason = _NOTHING_TO_PUBLISH.get(build.kind)
        if reason is not None:
            return [work.outcome(Status.SKIPPED, target, reason=reason) for target in targets]
        by = None if request.held else self._mapping.current.kept_back.holding(build.nvr)
        if by is not None:
            return [work.outcome(Status.SKIPPED, target, reason=HELD, held_by=by) for target in targets]
        return self._prepare_unpaused(work, targets, partial(self._fetch, work, build))

    def process_archive(self, archive_file: Path, request: PushRequest) -> list[Outcome] | Ignored:
        """The same for an archive of manifests that is no build's; the file stays as it is."""
        return self._released(self.prepare_archive(archive_file, request))

    def prepare_archive(self, archive_file: Path, request: PushRequest) -> PreparedBuild | list[Outcome] | Ignored:
        """What ``prepare`` is to ``process``; the file is not needed any more when this returns."""
        work = _BuildWork(None, Attempt(), request, self._observer)
        try:
            targets = targets_of(self._mapping.current, BuildFacts(), "an archive without a build", request)
        except Exception as error:
            return [work.outcome(Status.FAILED, None, error=_named(error, None))]
        if isinstance(targets, Ignored):
            return targets
        return self._prepare_unpaused(work, targets, lambda _scratch: archive_file)

    def release(self, prepared: PreparedBuild) -> list[Outcome]:
        """What became of it, one Outcome per target. Never raises."""
        return [
            self._publish(prepared.work, part.target, part.bundle) if isinstance(part, _PreparedTarget) else part
            for part in prepared.parts
        ]

    def _released(self, prepared: PreparedBuild | list[Outcome] | Ignored) -> list[Outcome] | Ignored:
        return self.release(prepared) if isinstance(prepared, PreparedBuild) else prepared

    def _fetch(self, work: _BuildWork, build: Build, scratch: Path) -> Path:
        """The build's archive, in ``scratch``, once the gate lets it pass."""
        archive_file = scratch / "archive.zip"
        with work.stage("download"):
            work.url = self._builds.download(build, archive_file)
        if self._gate is not None:
            try:
                with work.stage("gate"):
                    self._gate.check(build.nvr)
            except GreenwaveUnsatisfiedError as error:
                seen = work.attempt.first_seen
                error.transient = seen is not None and datetime.now(timezone.utc) - seen < self._patience
                raise
        return archive_file

    def _prepare_unpaused(
        self, work: _BuildWork, targets: Sequence[Target], fetch: Callable[[Path], Path]
    ) -> PreparedBuild | list[Outcome]:
        parts: list[Outcome | _PreparedTarget]
        if work.request.dry_run:
            parts = self._prepare_all(work, targets, fetch)
        else:
            parts = publish_unpaused(
                self._mapping.current,
                targets,
                lambda going: self._prepare_all(work, going, fetch),
                lambda target, error: work.outcome(Status.FAILED, target, error=error),
                waits=work.attempt.by_message,
            )
        done = [part for part in parts if isinstance(part, Outcome)]
        return done if len(done) == len(parts) else PreparedBuild(work, parts)

    def _prepare_all(
        self, work: _BuildWork, targets: Sequence[Target], fetch: Callable[[Path], Path]
    ) -> list[Outcome | _PreparedTarget]:
        try:
            with ScratchDirectory() as scratch:
                archive_file = fetch(Path(scratch))
                with work.stage("extract"):
                    contents = ArchiveContents(archive_file, Path(scratch), self._limits)
                with work.stage("validate"):
                    prepared = [self._prepared(work, target, contents) for target in targets]
                if _may_be_a_bundle(work.build, prepared) and contents.is_bundle_tree():
                    return [work.outcome(Status.SKIPPED, target, reason=BUNDLE_BUILD) for target in targets]
        except Exception as error:
            named = _of_build(_named(error, work.nvr), work)
            return [work.outcome(Status.FAILED, target, error=named) for target in targets]
        return [
            _PreparedTarget(target, each)
            if isinstance(each, Bundle)
            else work.outcome(Status.FAILED, target, extracted_files=contents.files, error=each)
            for target, each in zip(targets, prepared, strict=True)
        ]

    def _prepared(self, work: _BuildWork, target: Target, contents: ArchiveContents) -> Bundle | WorkerError:
        """What is to be released to ``target``, or why there is nothing."""
        try:
            return self._destination.prepare(target, contents, work.build, work.request)
        except Exception as error:
            return _named(error, work.nvr)

    def _publish(self, work: _BuildWork, target: Target, prepared: Bundle) -> Outcome:
        known: dict[str, object] = {
            "repo": target.repository or prepared.package_name,
            "extracted_files": prepared.files,
            "digest": prepared.digest,
            "warnings": prepared.warnings,
        }
        try:
            return self._release(work, target, prepared, known)
        except Exception as error:
            return work.outcome(Status.FAILED, target, **known, error=_named(error, work.nvr))

    def _release(self, work: _BuildWork, target: Target, prepared: Bundle, known: dict[str, object]) -> Outcome:
        destination, order = self._destination, self._order(work, target, prepared)
        comes_again = work.attempt.first_seen is not None
        job = ReleaseJob(target, prepared, work.build, work.request, order, comes_again)
        release = destination.plan if work.request.dry_run else destination.release
        with work.stage("release"):
            released = release(job)
        if released is None:
            by = order.superseded_by if order else None
            return work.outcome(Status.SKIPPED, target, **known, reason=SUPERSEDED, superseded_by=by)
        known |= {"version": released.version, "released_at": released.made_at}
        if work.request.dry_run:
            status = Status.PUBLISHED if released.created else Status.UNCHANGED
            return work.outcome(status, target, **known, public=destination.is_public(job))
        with work.stage("publish"):
            public = destination.publish(job, released)
        ours = released.created or work.attempt.interrupted
        status = Status.PUBLISHED if ours else Status.UNCHANGED
        return work.outcome(status, target, **known, public=public)

    def _order(self, work: _BuildWork, target: Target, prepared: Bundle) -> BuildOrder | None:
        """Where the build stands among others; None if the rule does not care."""
        if work.build is None or target.superseded != SKIP:
            return None
        destination, request = self._destination, work.request
        return self._orders.of(
            work.build,
            work.attempt,
            target,
            destination.changes(target, request),
            prepared.digest,
            lambda contents, build: destination.prepare(target, contents, build, request).digest,
            by_mapping=request.organization is None,
        )


def _may_be_a_bundle(build: Build | None, prepared: Sequence[Bundle | WorkerError]) -> bool:
    """Whether it does not say what it carries, and is not what a release is made of."""
    unknown = build is not None and build.kind is OperatorKind.UNKNOWN
    return unknown and any(isinstance(each, PackageValidationError) for each in prepared)


def _of_build(error: WorkerError, work: _BuildWork) -> WorkerError:
    """``error``, with the archive that it is about, if that is one of Koji's."""
    if not isinstance(error, OMPSUploadedFileError) or work.url is None:
        return error
    where = f"the archive of manifests of {work.nvr}, {work.url}"
    return OMPSUploadedFileError(f"{error.message} ({where})", details=error.details)


def _named(error: Exception, nvr: str | None) -> WorkerError:
    """The error of an outcome for an exception that ends here."""
    if isinstance(error, WorkerError):
        return error.as_value()
    if isinstance(error, OSError) and error.errno is not None and ResourcesExhausted.meant_by(error) is None:
        machine.log_failure(log, error, "local storage failed while working on %s", nvr, stored=True)
        let_go(error)
        return StorageError.wrap(error)
    machine.log_failure(log, error, "an exception that nobody thought of interrupted the work on %s", nvr)
    return unforeseen(error)
