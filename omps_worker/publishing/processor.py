# SPDX-License-Identifier: GPL-3.0-or-later
"""The processing of one build: ask Koji, find the targets, download, gate, unpack, transform, validate, pack, release.

For an archive that is uploaded, processing starts after the download. The processor does not know where a build was
announced, nor where its outcome is reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
    unexpected_error,
)
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.limits import Limits
from omps_worker.common.model import (
    Attempt,
    Build,
    BuildEvent,
    BuildFacts,
    BuildState,
    Ignored,
    OperatorKind,
    Outcome,
    Status,
    Target,
)
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.common.tracebacks import drop_tracebacks
from omps_worker.configuration.mapping.matching import MappingHolder
from omps_worker.destinations import BUNDLE_BUILD, Content, Destination, ReleaseJob
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.messages import events
from omps_worker.publishing import build_orders, claims
from omps_worker.publishing.build_orders import BuildOrders
from omps_worker.publishing.holds import HELD, prepare_unpaused
from omps_worker.publishing.prepared import BuildWork, PreparedBuild, PreparedTarget, outcomes_or_prepared
from omps_worker.publishing.superseded import SKIP, SUPERSEDED, BuildOrder
from omps_worker.publishing.targets import still_open, targets_of

log = logging.getLogger(__name__)

NOT_COMPLETE = "not_complete"
DRAFT_BUILD = events.DRAFT_BUILD
"""Reasons to ignore a build. Others are in ``claims`` and ``targets``; reasons to skip one are in ``destinations``."""


class Builds(build_orders.Builds, Protocol):
    """The part of Koji that the processor needs; see ``koji_client.builds.KojiBuilds``."""

    def find(self, *, build_id: int | None = None, nvr: str | None = None, with_target: bool = True) -> Build:
        """Return one build."""
        ...


class Gate(Protocol):
    """A gate that builds have to pass; see ``gate.Greenwave``."""

    def check(self, nvr: str) -> None:
        """Return if the build has passed; raise GreenwaveUnsatisfiedError if it has not."""
        ...


class Processor:
    """Processes builds, each in the calling thread. Any number of threads may share one processor.

    ``gate`` is asked about each build. A build that does not pass is a transient failure for ``patience`` seconds after
    its message was first seen, and a permanent one later. ``observer`` is notified of the duration of each stage.
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
        observer: Observer = NO_OBSERVER,
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
        """Process the build that ``event`` names and return one Outcome per target, or the reason to ignore the build.

        Never raises: an error becomes a failed Outcome. If the error comes before any target is known, there is one
        Outcome, without organization and repository.
        """
        return self._released(self.prepare(event, attempt, request))

    def prepare(
        self, event: BuildEvent, attempt: Attempt | None = None, request: PushRequest | None = None
    ) -> PreparedBuild | list[Outcome] | Ignored:
        """Do the part of ``process`` that needs no package lock. Never raises.

        Returns a PreparedBuild, to be passed to ``release``, if anything is left to release.
        """
        attempt, request = attempt or Attempt(), request or PushRequest()
        seconds: dict[str, float] = {}
        try:
            with self._observer.timing("koji", seconds):
                build = self._builds.find(build_id=event.build_id, nvr=event.nvr)
            claims.check_names(event, build)
            outdated = claims.check_state(event, build) if attempt.by_message else None
        except KojiNVRBuildNotFound as error:
            unknown = claims.not_known_yet(error) if attempt.by_message else error.as_value()
            return [Outcome(Status.FAILED, nvr=event.nvr, error=unknown)]
        except Exception as error:
            return [Outcome(Status.FAILED, nvr=event.nvr, error=_as_worker_error(error, event.nvr))]
        return outdated or self._prepare_build(BuildWork(build, attempt, request, self._observer, seconds), build)

    def process_build(self, build: Build, attempt: Attempt, request: PushRequest) -> list[Outcome] | Ignored:
        """Process a build that Koji has already described; see ``process``."""
        return self._released(self._prepare_build(BuildWork(build, attempt, request, self._observer), build))

    def _prepare_build(self, work: BuildWork, build: Build) -> PreparedBuild | list[Outcome] | Ignored:
        attempt, request = work.attempt, work.request
        if build.state != BuildState.COMPLETE:
            return Ignored(NOT_COMPLETE, f"{build.nvr} is in state {claims.state_name(build.state)}", build)
        if build.draft:
            return Ignored(DRAFT_BUILD, f"{build.nvr} is a draft build, which is published when it is promoted", build)
        try:
            targets = still_open(targets_of(self._mapping.current, build.facts, build.nvr, request), attempt)
        except Exception as error:
            return [work.outcome(Status.FAILED, None, error=_as_worker_error(error, build.nvr))]
        if isinstance(targets, Ignored):
            return replace(targets, build=build)
        reasons = [self._destination.skip_reason(target, build) for target in targets]
        relevant = [target for target, reason in zip(targets, reasons, strict=True) if reason is None]
        held_by = None if request.held or not relevant else self._mapping.current.holds_and_pauses.holding(build.nvr)
        parts: Iterator[Outcome | PreparedTarget]
        if held_by is not None:
            parts = (work.outcome(Status.SKIPPED, target, reason=HELD, held_by=held_by) for target in relevant)
        else:
            parts = iter(self._prepare_unpaused(work, relevant, partial(self._unpack, work, build, relevant)))
        return outcomes_or_prepared(
            work,
            [
                next(parts) if reason is None else work.outcome(Status.SKIPPED, target, reason=reason)
                for target, reason in zip(targets, reasons, strict=True)
            ],
        )

    def process_archive(self, archive_file: Path, request: PushRequest) -> list[Outcome] | Ignored:
        """Process an archive of manifests without a build; see ``process``. The file is not changed."""
        return self._released(self.prepare_archive(archive_file, request))

    def prepare_archive(self, archive_file: Path, request: PushRequest) -> PreparedBuild | list[Outcome] | Ignored:
        """Prepare an archive without a build; see ``prepare``. The file is no longer needed when this returns."""
        work = BuildWork(None, Attempt(), request, self._observer)
        try:
            targets = targets_of(self._mapping.current, BuildFacts(), "an archive without a build", request)
        except Exception as error:
            return [work.outcome(Status.FAILED, None, error=_as_worker_error(error, None))]
        if isinstance(targets, Ignored):
            return targets
        return outcomes_or_prepared(
            work, self._prepare_unpaused(work, targets, partial(self._contents, work, archive_file))
        )

    def release(self, prepared: PreparedBuild) -> list[Outcome]:
        """Release what was prepared and return one Outcome per target. Never raises."""
        return [
            self._publish(prepared.work, part.target, part.content) if isinstance(part, PreparedTarget) else part
            for part in prepared.parts
        ]

    def _released(self, prepared: PreparedBuild | list[Outcome] | Ignored) -> list[Outcome] | Ignored:
        return self.release(prepared) if isinstance(prepared, PreparedBuild) else prepared

    def _unpack(
        self, work: BuildWork, build: Build, targets: Sequence[Target], scratch: Path
    ) -> ArchiveContents | None:
        """Unpack the build's archive in ``scratch`` if a target needs it and the gate lets the build pass."""
        archive_file = scratch / "archive.zip"
        needed = any(self._destination.needs_archive(target, build) for target in targets)
        if needed:
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
        return self._contents(work, archive_file, scratch) if needed else None

    def _contents(self, work: BuildWork, archive_file: Path, scratch: Path) -> ArchiveContents:
        with work.stage("extract"):
            return ArchiveContents(archive_file, scratch, self._limits)

    def _prepare_unpaused(
        self, work: BuildWork, targets: Sequence[Target], unpack: Callable[[Path], ArchiveContents | None]
    ) -> list[Outcome | PreparedTarget]:
        if not targets:
            return []
        if work.request.dry_run:
            return self._prepare_all(work, targets, unpack)
        return prepare_unpaused(
            self._mapping.current,
            targets,
            lambda unpaused: self._prepare_all(work, unpaused, unpack),
            lambda target, error: work.outcome(Status.FAILED, target, error=error),
            waits=work.attempt.by_message,
        )

    def _prepare_all(
        self, work: BuildWork, targets: Sequence[Target], unpack: Callable[[Path], ArchiveContents | None]
    ) -> list[Outcome | PreparedTarget]:
        try:
            with ScratchDirectory() as scratch:
                contents = unpack(Path(scratch))
                with work.stage("validate"):
                    prepared = [self._prepared(work, target, contents) for target in targets]
                if contents and _may_be_a_bundle(work.build, prepared) and contents.is_bundle_tree():
                    return [work.outcome(Status.SKIPPED, target, reason=BUNDLE_BUILD) for target in targets]
        except Exception as error:
            worker_error = _with_archive(_as_worker_error(error, work.nvr), work)
            return [work.outcome(Status.FAILED, target, error=worker_error) for target in targets]
        files = contents.files if contents else None
        return [
            work.outcome(Status.FAILED, target, extracted_files=files, error=each)
            if isinstance(each, WorkerError)
            else PreparedTarget(target, each)
            for target, each in zip(targets, prepared, strict=True)
        ]

    def _prepared(self, work: BuildWork, target: Target, contents: ArchiveContents | None) -> Content | WorkerError:
        """Return the content to release to ``target``, or the error that prevents it."""
        try:
            return self._destination.prepare(target, contents, work.build, work.request)
        except Exception as error:
            return _as_worker_error(error, work.nvr)

    def _publish(self, work: BuildWork, target: Target, prepared: Content) -> Outcome:
        known: dict[str, object] = {
            "repo": target.repository or prepared.package_name,
            "extracted_files": prepared.files,
            "digest": prepared.digest,
            "warnings": prepared.warnings,
        }
        try:
            return self._release(work, target, prepared, known)
        except Exception as error:
            return work.outcome(Status.FAILED, target, **known, error=_as_worker_error(error, work.nvr))

    def _release(self, work: BuildWork, target: Target, prepared: Content, known: dict[str, object]) -> Outcome:
        destination, order = self._destination, self._order(work, target, prepared)
        comes_again = work.attempt.first_seen is not None
        job = ReleaseJob(target, prepared, work.build, work.request, order, comes_again)
        release = destination.plan if work.request.dry_run else destination.release
        with work.stage("release"):
            released = release(job)
        if released is None:
            newer = order.superseded_by if order else None
            return work.outcome(Status.SKIPPED, target, **known, reason=SUPERSEDED, superseded_by=newer)
        known |= {"version": released.version, "released_at": released.made_at, **released.facts}
        if work.request.dry_run:
            status = Status.PUBLISHED if released.created else Status.UNCHANGED
            return work.outcome(status, target, **known, public=destination.is_public(job))
        with work.stage("publish"):
            public = destination.make_public(job, released)
        made_by_this_work = released.created or work.attempt.interrupted
        status = Status.PUBLISHED if made_by_this_work else Status.UNCHANGED
        return work.outcome(status, target, **known, public=public)

    def _order(self, work: BuildWork, target: Target, prepared: Content) -> BuildOrder | None:
        """Return the build's order among other builds; None if the rule publishes builds in any order."""
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
            by_mapping=not request.names_place,
        )


def _may_be_a_bundle(build: Build | None, prepared: Sequence[Content | WorkerError]) -> bool:
    """Return whether the build does not declare what it carries, and its manifests failed validation."""
    unknown = build is not None and build.kind is OperatorKind.UNKNOWN
    return unknown and any(isinstance(each, PackageValidationError) for each in prepared)


def _with_archive(error: WorkerError, work: BuildWork) -> WorkerError:
    """Return ``error`` with the URL of the archive that it is about, if the archive came from Koji."""
    if not isinstance(error, OMPSUploadedFileError) or work.url is None:
        return error
    archive = f"the archive of manifests of {work.nvr}, {work.url}"
    return OMPSUploadedFileError(f"{error.message} ({archive})", details=error.details)


def _as_worker_error(error: Exception, nvr: str | None) -> WorkerError:
    """Return the error of an Outcome for an exception, and log the exception if it is not a WorkerError."""
    if isinstance(error, WorkerError):
        return error.as_value()
    if isinstance(error, OSError) and error.errno is not None and ResourcesExhausted.meant_by(error) is None:
        machine.log_failure(log, error, "local storage failed while working on %s", nvr, stored=True)
        drop_tracebacks(error)
        return StorageError.wrap(error)
    machine.log_failure(log, error, "an unexpected exception interrupted the work on %s", nvr)
    return unexpected_error(error)
