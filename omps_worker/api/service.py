# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests mean: the work that each asks for, and the body of the reply when it is done.

Everything here takes its time, and runs in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from omps_worker.api.replies import RequestRefused
from omps_worker.common.errors import (
    BuildHeld,
    GreenwaveError,
    KojiError,
    KojiNotAnOperatorImage,
    KojiNVRBuildNotFound,
    OMPSInvalidVersionFormat,
    OrganizationPaused,
    QuayAuthorizationError,
    QuayPackageError,
    QuayPackageNotFound,
    RegistryError,
    RequestAbandoned,
    UnexpectedError,
    WorkerError,
)
from omps_worker.common.http_client.client import printable
from omps_worker.common.model import Attempt, BuildEvent, Ignored, ManualRequest, Outcome, Status, UploadedArchive
from omps_worker.common.names import is_name
from omps_worker.common.push_request import Caller, PushRequest
from omps_worker.configuration.mapping import MappingHolder
from omps_worker.destinations.app_registry import versions
from omps_worker.publishing import holds as mapping_pauses
from omps_worker.publishing.holds import HELD
from omps_worker.publishing.prepared import PreparedBuild
from omps_worker.publishing.processor import DRAFT_BUILD
from omps_worker.publishing.superseded import SUPERSEDED

log = logging.getLogger(__name__)

PAUSES = (0.5, 2.0)
"""How many seconds to wait before asking Koji or Greenwave again when they could not answer."""

SOON = 10.0
"""How many seconds a try may have taken that is made again: a client waits for the reply."""

NO_VERSION = "invalid"
"""What the story of a build is told instead of a version that is none: there, texts may be templates."""

Found = PreparedBuild | list[Outcome] | Ignored
"""What becomes of a push before anything is released."""

Work = Callable[[PushRequest], Found]


class BuildPublisher(Protocol):
    """The part of the core that publishes; see ``processor.Processor``."""

    def prepare(self, event: BuildEvent, attempt: Attempt | None = None, request: PushRequest | None = None) -> Found:
        """Prepare what a build releases."""
        ...

    def prepare_archive(self, archive_file: Path, request: PushRequest) -> Found:
        """Prepare what an archive of manifests releases."""
        ...

    def release(self, prepared: PreparedBuild) -> list[Outcome]:
        """Release what is prepared."""
        ...


class Deletions(Protocol):
    """The part of a destination that deletes; see ``destinations.Destination``."""

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package, or all."""
        ...


class Service:
    """The requests of v1 and v2, for any number of threads.

    ``tell`` is told what became of each, and who asked; it must return at once. ``deduplicate``: a push
    without a version makes no new release of content that is released already.
    """

    def __init__(
        self,
        story: BuildPublisher,
        deletions: Deletions,
        mapping: MappingHolder,
        tell: Callable[[Sequence[Outcome], ManualRequest], object],
        *,
        deduplicate: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._story = story
        self._deletions = deletions
        self._mapping = mapping
        self._tell = tell
        self._deduplicate = deduplicate
        self._pauses = tuple(pauses)

    def check(self, organization: str) -> None:
        """Return if something may be pushed to ``organization`` for now; raises OrganizationPaused. Asks nobody."""
        mapping_pauses.check(self._mapping.current, organization)

    def push_archive(
        self,
        archive_file: Path,
        archive: UploadedArchive,
        authorization: SecretStr,
        caller: Caller,
        organization: str,
        repository: str | None = None,
        version: str | None = None,
    ) -> Push:
        """The push of an uploaded archive, of which ``archive`` says what it is. Nothing is done yet."""
        request = self._request(authorization, caller, organization, repository, version)
        work = partial(self._story.prepare_archive, archive_file)
        return Push(self, work, request, ManualRequest(archive), version)

    def push_build(
        self,
        nvr: str,
        authorization: SecretStr,
        caller: Caller,
        organization: str,
        repository: str | None = None,
        version: str | None = None,
    ) -> Push:
        """The push of the archive of a build. Nothing is done yet."""
        request = self._request(authorization, caller, organization, repository, version)
        work = partial(self._story.prepare, BuildEvent(nvr=nvr), Attempt())
        return Push(self, work, request, ManualRequest(), version, nvr)

    def delete(
        self, authorization: SecretStr, organization: str, repository: str, version: str | None = None
    ) -> dict[str, Any]:
        """Delete one release of a package, or all; raises WorkerError, and Refused for what went only half."""
        if not (is_name(organization) and is_name(repository)):
            shown = printable(f"{organization}/{repository}", 200)
            raise QuayPackageNotFound(f"There is no package {shown}: no organization or repository is called that.")
        try:
            outcomes = self._deletions.delete(organization, repository, version, authorization)
        except QuayAuthorizationError as error:
            if version is None:
                raise
            raise QuayPackageError(error.message, details=error.details) from None
        self._tell(outcomes, ManualRequest())
        deleted = [outcome.version for outcome in outcomes if outcome.error is None]
        body = {"organization": organization, "repo": repository, "deleted": deleted}
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            kind: type[RegistryError] = QuayPackageError
            message = failures[0].message
            if len(outcomes) > 1:
                message = f"{len(failures)} of {len(outcomes)} releases could not be deleted; the first: {message}"
            # OMPS names missing rights when it looks at a package, which it does not for a single release.
            forbidden = all(isinstance(failure, QuayAuthorizationError) for failure in failures)
            if forbidden and not deleted and version is None:
                kind = QuayAuthorizationError
            raise RequestRefused(kind(message, retry_after=failures[0].retry_after), body)
        return body

    def _request(
        self,
        authorization: SecretStr,
        caller: Caller,
        organization: str,
        repository: str | None,
        version: str | None,
    ) -> PushRequest:
        return PushRequest(
            organization,
            repository,
            version if version is None or versions.is_valid(version) else NO_VERSION,
            new_release=version is not None or not self._deduplicate,
            authorization=authorization,
            caller=caller,
        )

    def insist(self, work: Work, request: PushRequest) -> Found:
        """Do it, and again as long as somebody who is asked before anything is pushed only needs a moment."""
        pauses = list(self._pauses)
        while True:
            start = time.monotonic()
            found = work(request)
            if isinstance(found, Ignored):
                log.info("nothing to publish: %s: %s", found.reason, found.detail)
            passing = isinstance(found, list) and _passing(found[0].error)
            if not (pauses and passing and time.monotonic() - start < SOON):
                return found
            time.sleep(pauses.pop(0))

    def release(self, prepared: PreparedBuild) -> Outcome:
        """What became of a push that is prepared."""
        (outcome,) = self._story.release(prepared)
        if outcome.reason == SUPERSEDED:
            # Whoever asks for a push by name means that build, old or not.
            (outcome,) = self._story.release(prepared.with_request(new_release=True))
        return outcome

    def tell(self, outcome: Outcome, origin: ManualRequest) -> None:
        """Say what became of it to whoever wants to know, unless it was never begun."""
        if not isinstance(outcome.error, (RequestAbandoned, OrganizationPaused)):
            self._tell([outcome], origin)


class Push:
    """One push in two steps, which are done in a thread each, one after the other."""

    def __init__(
        self,
        service: Service,
        work: Work,
        request: PushRequest,
        origin: ManualRequest,
        version: str | None,
        nvr: str | None = None,
    ) -> None:
        self._service = service
        self._work = work
        self._request = request
        self._origin = origin
        self._version = version
        self._nvr = nvr
        self._prepared: PreparedBuild | None = None

    @property
    def package(self) -> str:
        """Where it goes, as ``organization/repository``; known when it is prepared and not over."""
        return self._prepared.packages[0] if self._prepared else ""

    def prepare(self) -> dict[str, Any] | None:
        """Fetch, look at and pack what is to be released; the reply, if there is nothing left. Raises WorkerError."""
        found = self._service.insist(self._work, self._request)
        if isinstance(found, PreparedBuild):
            self._prepared = found
            return None
        return self._replied(found if isinstance(found, Ignored) else found[0])

    def release(self) -> dict[str, Any]:
        """Release it; the reply. Raises WorkerError."""
        if self._prepared is None:
            raise UnexpectedError("A push was to be released that is not prepared.")
        return self._replied(self._service.release(self._prepared))

    def _replied(self, outcome: Outcome | Ignored) -> dict[str, Any]:
        if isinstance(outcome, Outcome):
            self._service.tell(outcome, self._origin)
            if self._version is not None and isinstance(outcome.error, OMPSInvalidVersionFormat):
                versions.checked(self._version, "from the request")
            if self._nvr is not None and isinstance(outcome.error, KojiNVRBuildNotFound):
                raise KojiNVRBuildNotFound(f"NVR not found: {printable(self._nvr, 200)}")
            if outcome.error is not None:
                raise outcome.error
        if self._nvr is None:
            return _pushed(outcome)
        shown = printable(self._nvr, 200)
        if isinstance(outcome, Ignored) and outcome.reason == DRAFT_BUILD:
            raise KojiNotAnOperatorImage(f"Not an operator image yet: {printable(outcome.detail, 300)}.")
        if isinstance(outcome, Ignored):
            raise KojiNotAnOperatorImage(f"Not an operator image: {shown}")
        if outcome.reason == HELD:
            raise BuildHeld(f"The mapping of this service holds {shown}, by {outcome.held_by}.")
        if outcome.status is Status.SKIPPED:
            raise KojiNotAnOperatorImage(f"Not an operator image: {shown}")
        return {**_pushed(outcome), "nvr": outcome.nvr}


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
