# SPDX-License-Identifier: GPL-3.0-or-later
"""What each request does: its work, and the body of its reply.

The work blocks, so it runs in threads.
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
from omps_worker.configuration.mapping.matching import MappingHolder
from omps_worker.destinations import versions
from omps_worker.publishing import holds as mapping_pauses
from omps_worker.publishing.holds import HELD
from omps_worker.publishing.prepared import PreparedBuild
from omps_worker.publishing.processor import DRAFT_BUILD
from omps_worker.publishing.superseded import SUPERSEDED

log = logging.getLogger(__name__)

PAUSES = (0.5, 2.0)
"""The pauses before the retries of a request that Koji or Greenwave could not answer, in seconds."""

SOON = 10.0
"""An attempt that took longer than this many seconds is not retried, because a client is waiting for the reply."""

NO_VERSION = "invalid"
"""Stands for an invalid version in a PushRequest: the text of the client must not be taken for a version template."""

Found = PreparedBuild | list[Outcome] | Ignored
"""The result of preparing a push: a prepared build, or the outcomes if there is nothing to release."""

Work = Callable[[PushRequest], Found]


class BuildPublisher(Protocol):
    """The part of the processor that the API needs; see ``processor.Processor``."""

    def prepare(self, event: BuildEvent, attempt: Attempt | None = None, request: PushRequest | None = None) -> Found:
        """Prepare the release of a build."""
        ...

    def prepare_archive(self, archive_file: Path, request: PushRequest) -> Found:
        """Prepare the release of an archive of manifests."""
        ...

    def release(self, prepared: PreparedBuild) -> list[Outcome]:
        """Release a prepared build."""
        ...


class Deletions(Protocol):
    """The part of a destination that deletes releases; see ``destinations.Destination``."""

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package, or all of them."""
        ...


class Service:
    """The work of all requests, of v1 and v2. Thread-safe.

    ``report`` is called with the outcomes of each request and its origin; it must return immediately. ``deduplicate``:
    a push without a version makes no new release of content that is already released. ``pauses``: see PAUSES.
    """

    def __init__(
        self,
        publisher: BuildPublisher,
        deletions: Deletions,
        mapping: MappingHolder,
        report: Callable[[Sequence[Outcome], ManualRequest], object],
        *,
        deduplicate: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._publisher = publisher
        self._deletions = deletions
        self._mapping = mapping
        self._report = report
        self._deduplicate = deduplicate
        self._pauses = tuple(pauses)

    def check(self, organization: str) -> None:
        """Raise OrganizationPaused if the mapping pauses ``organization``. Sends no requests."""
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
        """Return the push of an uploaded archive, without beginning it. ``archive`` has its name and checksum."""
        request = self._request(authorization, caller, organization, repository, version)
        work = partial(self._publisher.prepare_archive, archive_file)
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
        """Return the push of a build, without beginning it."""
        request = self._request(authorization, caller, organization, repository, version)
        work = partial(self._publisher.prepare, BuildEvent(nvr=nvr), Attempt())
        return Push(self, work, request, ManualRequest(), version, nvr)

    def delete(
        self, authorization: SecretStr, organization: str, repository: str, version: str | None = None
    ) -> dict[str, Any]:
        """Delete one release of a package, or all of them; return the body of the reply.

        Raises WorkerError, or RequestRefused with the deleted releases if some could not be deleted.
        """
        if not (is_name(organization) and is_name(repository)):
            shown = printable(f"{organization}/{repository}", 200)
            raise QuayPackageNotFound(f"There is no package {shown}: the organization or repository name is invalid.")
        try:
            outcomes = self._deletions.delete(organization, repository, version, authorization)
        except QuayAuthorizationError as error:
            if version is None:
                raise
            raise QuayPackageError(error.message, details=error.details) from None
        self._report(outcomes, ManualRequest())
        deleted = [outcome.version for outcome in outcomes if outcome.error is None]
        body = {"organization": organization, "repo": repository, "deleted": deleted}
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            kind: type[RegistryError] = QuayPackageError
            message = failures[0].message
            if len(outcomes) > 1:
                message = f"{len(failures)} of {len(outcomes)} releases could not be deleted. First error: {message}"
            # OMPS reports missing rights when it queries a package, which it does not do for a single release.
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
            organization=organization,
            repository=repository,
            version=version if version is None or versions.is_valid(version) else NO_VERSION,
            new_release=version is not None or not self._deduplicate,
            authorization=authorization,
            caller=caller,
        )

    def prepare(self, work: Work, request: PushRequest) -> Found:
        """Prepare a push; retry after each of the pauses if Koji or Greenwave has a transient failure."""
        pauses = list(self._pauses)
        while True:
            start = time.monotonic()
            found = work(request)
            if isinstance(found, Ignored):
                log.info("nothing to publish: %s: %s", found.reason, found.detail)
            retry = isinstance(found, list) and _retry_soon(found[0].error)
            if not (pauses and retry and time.monotonic() - start < SOON):
                return found
            time.sleep(pauses.pop(0))

    def release(self, prepared: PreparedBuild) -> Outcome:
        """Release a prepared push, and return its outcome."""
        (outcome,) = self._publisher.release(prepared)
        if outcome.reason == SUPERSEDED:
            # A client that names a build wants that build, even if a newer one exists.
            (outcome,) = self._publisher.release(prepared.with_request(new_release=True))
        return outcome

    def report(self, outcome: Outcome, origin: ManualRequest) -> None:
        """Report the outcome of a push, unless the push was never begun."""
        if not isinstance(outcome.error, (RequestAbandoned, OrganizationPaused)):
            self._report([outcome], origin)


class Push:
    """One push, in two steps: ``prepare``, then ``release``. Each step may run in a different thread."""

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
        """The package, as ``organization/repository``; empty unless ``prepare`` has left something to release."""
        return self._prepared.packages[0] if self._prepared else ""

    def prepare(self) -> dict[str, Any] | None:
        """Fetch, validate and pack the manifests. Return the body of the reply if there is nothing to release.

        Raises WorkerError.
        """
        found = self._service.prepare(self._work, self._request)
        if isinstance(found, PreparedBuild):
            self._prepared = found
            return None
        return self._reply_body(found if isinstance(found, Ignored) else found[0])

    def release(self) -> dict[str, Any]:
        """Release the prepared build, and return the body of the reply. Raises WorkerError."""
        if self._prepared is None:
            raise UnexpectedError("A push was to be released before it was prepared.")
        return self._reply_body(self._service.release(self._prepared))

    def _reply_body(self, outcome: Outcome | Ignored) -> dict[str, Any]:
        if isinstance(outcome, Outcome):
            self._service.report(outcome, self._origin)
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
            raise BuildHeld(f"The mapping of this service holds {shown}, by the entry {outcome.held_by}.")
        if outcome.status is Status.SKIPPED:
            raise KojiNotAnOperatorImage(f"Not an operator image: {shown}")
        return {**_pushed(outcome), "nvr": outcome.nvr}


def _retry_soon(error: WorkerError | None) -> bool:
    if isinstance(error, KojiError) and error.insisted:
        return False
    return isinstance(error, (KojiError, GreenwaveError)) and error.transient and not error.retry_after


def _pushed(outcome: Outcome | Ignored) -> dict[str, Any]:
    if isinstance(outcome, Ignored) or outcome.extracted_files is None:
        # A successful push always names its files.
        raise UnexpectedError("The push ended without an outcome; the log may say why.")
    return {
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "extracted_files": sorted(outcome.extracted_files),
    }
