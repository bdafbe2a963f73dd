# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests mean: the work that each asks for, and the body of the reply when it is done.

Everything here takes its time, and runs in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from omps_worker import versions
from omps_worker.api.replies import Refused
from omps_worker.errors import (
    BuildHeld,
    GreenwaveError,
    KojiError,
    KojiNotAnOperatorImage,
    KojiNVRBuildNotFound,
    OMPSInvalidVersionFormat,
    QuayAuthorizationError,
    QuayPackageError,
    QuayPackageNotFound,
    RegistryError,
    UnexpectedError,
    WorkerError,
)
from omps_worker.http import printable
from omps_worker.model import Attempt, BroughtArchive, BuildEvent, ByHand, Ignored, Outcome, Status
from omps_worker.names import is_name
from omps_worker.organizations import Organizations
from omps_worker.pauses import HELD
from omps_worker.places import Place
from omps_worker.processor import DRAFT_BUILD, Request
from omps_worker.superseded import SUPERSEDED

log = logging.getLogger(__name__)

PAUSES = (0.5, 2.0)
"""How many seconds to wait before asking Koji or Greenwave again when they could not answer."""

SOON = 10.0
"""How many seconds a try may have taken that is made again: a client waits for the reply."""

NO_VERSION = "invalid"
"""What the story of a build is told instead of a version that is none: there, texts may be templates."""

Work = Callable[[Request], "list[Outcome] | Ignored"]


class Story(Protocol):
    """The part of the core that publishes; see ``processor.Processor``."""

    def process(
        self, event: BuildEvent, attempt: Attempt | None = None, request: Request | None = None
    ) -> list[Outcome] | Ignored:
        """Publish one build."""
        ...

    def process_archive(self, archive_file: Path, request: Request) -> list[Outcome] | Ignored:
        """Publish an archive of manifests."""
        ...


class Deletions(Protocol):
    """The part of the core that deletes; see ``deletions.Deleter``."""

    def delete(self, place: Place, version: str | None = None) -> list[Outcome]:
        """Delete one release of a package, or all."""
        ...


class Service:
    """The requests of v1 and v2, for any number of threads.

    ``tell`` is told what became of each, and who asked; it must return at once. ``deduplicate``: a push
    without a version makes no new release of content that is released already.
    """

    def __init__(
        self,
        story: Story,
        deletions: Deletions,
        organizations: Organizations,
        tell: Callable[[Sequence[Outcome], ByHand], object],
        *,
        deduplicate: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._story = story
        self._deletions = deletions
        self._organizations = organizations
        self._tell = tell
        self._deduplicate = deduplicate
        self._pauses = tuple(pauses)

    def push_archive(
        self,
        archive_file: Path,
        archive: BroughtArchive,
        authorization: SecretStr,
        organization: str,
        repository: str | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """Publish an uploaded archive, of which ``archive`` says what it is; raises WorkerError."""
        work = partial(self._story.process_archive, archive_file)
        return _pushed(self._push(work, ByHand(archive), authorization, organization, repository, version))

    def push_build(
        self,
        nvr: str,
        authorization: SecretStr,
        organization: str,
        repository: str | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """Publish the archive of a build; raises WorkerError."""

        def work(request: Request) -> list[Outcome] | Ignored:
            return self._story.process(BuildEvent(nvr=nvr), Attempt(), request)

        try:
            outcome = self._push(work, ByHand(), authorization, organization, repository, version)
        except KojiNVRBuildNotFound:
            raise KojiNVRBuildNotFound(f"NVR not found: {printable(nvr, 200)}") from None
        if isinstance(outcome, Ignored) and outcome.reason == DRAFT_BUILD:
            raise KojiNotAnOperatorImage(f"Not an operator image yet: {printable(outcome.detail, 300)}.")
        if isinstance(outcome, Outcome) and outcome.reason == HELD:
            raise BuildHeld(f"The mapping of this service holds {printable(nvr, 200)}.")
        if isinstance(outcome, Ignored) or outcome.status is Status.SKIPPED:
            raise KojiNotAnOperatorImage(f"Not an operator image: {printable(nvr, 200)}")
        return {**_pushed(outcome), "nvr": outcome.nvr}

    def delete(
        self, authorization: SecretStr, organization: str, repository: str, version: str | None = None
    ) -> dict[str, Any]:
        """Delete one release of a package, or all; raises WorkerError, and Refused for what went only half."""
        if not (is_name(organization) and is_name(repository)):
            shown = printable(f"{organization}/{repository}", 200)
            raise QuayPackageNotFound(f"There is no package {shown}: no organization or repository is called that.")
        outcomes = self._deletions.delete(self._organizations.place(organization, repository, authorization), version)
        self._tell(outcomes, ByHand())
        deleted = [outcome.version for outcome in outcomes if outcome.error is None]
        body = {"organization": organization, "repo": repository, "deleted": deleted}
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            kind: type[RegistryError] = QuayPackageError
            message = failures[0].message
            if len(outcomes) > 1:
                message = f"{len(failures)} of {len(outcomes)} releases could not be deleted; the first: {message}"
            if not deleted and all(isinstance(failure, QuayAuthorizationError) for failure in failures):
                kind = QuayAuthorizationError
            raise Refused(kind(message, retry_after=failures[0].retry_after), body)
        return body

    def _push(
        self,
        work: Work,
        origin: ByHand,
        authorization: SecretStr,
        organization: str,
        repository: str | None,
        version: str | None,
    ) -> Outcome | Ignored:
        """What became of it; Ignored if there is no finished build. Raises the WorkerError that it failed with."""
        request = Request(
            organization,
            repository,
            version if version is None or versions.is_valid(version) else NO_VERSION,
            new_release=version is not None or not self._deduplicate,
            authorization=authorization,
        )
        outcome = self._insist(work, request)
        if outcome.reason == SUPERSEDED:
            # Whoever asks for a push by name means that build, old or not.
            outcome = self._insist(work, replace(request, new_release=True))
        if isinstance(outcome, Ignored):
            return outcome
        self._tell([outcome], origin)
        if outcome.error is None:
            return outcome
        if version is not None and isinstance(outcome.error, OMPSInvalidVersionFormat):
            versions.checked(version, "from the request")
        raise outcome.error

    def _insist(self, work: Work, request: Request) -> Outcome | Ignored:
        """Do it, and again as long as somebody who is asked before anything is pushed only needs a moment."""
        pauses = list(self._pauses)
        while True:
            start = time.monotonic()
            outcomes = work(request)
            if isinstance(outcomes, Ignored):
                log.info("nothing to publish: %s: %s", outcomes.reason, outcomes.detail)
                return outcomes
            (outcome,) = outcomes
            if not (pauses and _passing(outcome.error) and time.monotonic() - start < SOON):
                return outcome
            time.sleep(pauses.pop(0))


def _passing(error: WorkerError | None) -> bool:
    if isinstance(error, KojiError) and error.insisted:
        return False
    return isinstance(error, (KojiError, GreenwaveError)) and error.transient and not error.retry_after


def _pushed(outcome: Outcome | Ignored) -> dict[str, Any]:
    if isinstance(outcome, Ignored) or outcome.extracted_files is None:
        # A push without a fault says what it pushed.
        raise UnexpectedError("A push ended without saying how; the log may tell.")
    return {
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "extracted_files": sorted(outcome.extracted_files),
    }
