# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of checks, the check of Koji's file server, and the clients with which health checks query services.

``cli.site_checks`` lists what ``omps-worker check`` checks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from omps_worker.common.errors import KojiError, ResourcesExhausted, WorkerError, unexpected_error
from omps_worker.common.http_client.client import HttpClient, HttpFault, address_of, is_failure
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.machine import ThreadPool, log_failure
from omps_worker.configuration.settings.units import Duration
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.publishing.gate import Greenwave

if TYPE_CHECKING:
    from omps_worker.configuration.settings.models import WorkerSettings

log = logging.getLogger(__name__)

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one part. ``ask`` returns a detail for people, or raises Inconclusive or a WorkerError."""

    part: str
    ask: Callable[[], str]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a Check; ``state`` is OK, WARNING or FAILED."""

    part: str
    state: str
    detail: str
    error: WorkerError | None = None

    def as_json(self) -> dict[str, object]:
        """Return the part's element in the output of ``check --json``."""
        return {
            "part": self.part,
            "state": self.state,
            "detail": self.detail,
            "error": self.error.name if self.error else None,
            "transient": self.error.transient if self.error else None,
        }


def answer(check: Check) -> CheckResult:
    """Run one check and return its result. Never raises, so that no check prevents the next one."""
    try:
        return CheckResult(check.part, OK, check.ask())
    except Inconclusive as inconclusive:
        return CheckResult(check.part, WARNING, str(inconclusive))
    except WorkerError as error:
        return CheckResult(check.part, FAILED, error.message, error.as_value())
    except Exception as error:
        log_failure(log, error, "the check of %s failed unexpectedly", check.part)
        wrapped = unexpected_error(error)
        return CheckResult(check.part, FAILED, wrapped.message, wrapped)


def answers(questions: Sequence[Check]) -> Iterator[CheckResult]:
    """Run all checks at once and yield their results in the order of ``questions``, each as soon as it is known."""
    futures: list[Future[CheckResult]] = [Future() for _ in questions]
    threads = ThreadPool(len(questions), "check")

    def run(question: Check, future: Future[CheckResult]) -> None:
        future.set_result(answer(question))

    try:
        for question, future in zip(questions, futures, strict=True):
            try:
                threads.submit(partial(run, question, future))
            except ResourcesExhausted:
                run(question, future)
        for future in futures:
            yield future.result()
    finally:
        threads.close()


def check_koji_files(root_url: str, client: HttpClient) -> str:
    """Check that Koji's file server has packages, and return their URL.

    Raises KojiError if the server cannot be reached, fails or redirects, and Inconclusive if it gives another answer
    than 200.
    """
    url = root_url.rstrip("/") + "/packages/"
    try:
        answer = client.request("GET", url)
    except HttpFault as fault:
        raise KojiError(f"Koji's files cannot be reached: {fault}") from None
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or 300 <= answer.status < 400:
        raise KojiError(f"Koji's file server answers {answer.status} at {url}.")
    if answer.status != HTTPStatus.OK:
        raise Inconclusive(f"{url} answers {answer.status}: is root_url right? (Some servers list no directories.)")
    return url


def _files_are_there(root_url: str, client: HttpClient, builds: KojiBuilds | None) -> None:
    """Return if Koji's file server answers, even with a refusal. Raises KojiError if it does not.

    If the last download of ``builds`` failed because of the server, that file is requested again: a server may list
    directories and still fail for every file.
    """
    with contextlib.suppress(Inconclusive):
        check_koji_files(root_url, client)
    url = None if builds is None else builds.failed_download
    if builds is None or url is None:
        return
    status = 0
    try:
        status = client.request("GET", url, headers={"Range": "bytes=0-0"}, max_bytes=1).status
    except HttpFault as fault:
        if fault.kind != "too_large":
            raise KojiError(f"Koji's files cannot be downloaded: {fault}") from None
    if is_failure(status):
        raise KojiError(f"Koji's file server answers {status} to the download of {address_of(url)}.")
    if builds.failed_download == url:
        builds.failed_download = None


@dataclass(frozen=True)
class CheckClients:
    """Clients for checking whether the services answer. They share no connections with the clients that do the work."""

    koji: KojiBuilds
    files: Callable[[], object]
    registry: AppRegistry
    greenwave: Greenwave | None

    @classmethod
    def of(cls, worker: WorkerSettings, seconds: float, builds: KojiBuilds | None = None) -> CheckClients:
        """Return the clients for a site. Each waits ``seconds`` for an answer.

        ``builds`` is the client that downloads files for the work, if there is one.
        """
        koji = worker.koji.model_copy(update={"timeout": Duration.parse(seconds)})
        bundle = worker.ca_bundle
        return cls(
            KojiBuilds(koji, worker.limits, bundle),
            partial(_files_are_there, koji.root_url, HttpClient(timeout=seconds, ca_bundle=bundle), builds),
            AppRegistry(worker.registry.url, timeout=seconds, ca_bundle=bundle),
            Greenwave.of(worker.greenwave, timeout=seconds, ca_bundle=bundle),
        )

    def questions(self) -> dict[str, Callable[[], object]]:
        """Return the check of each service by name. A check raises the error if its service does not answer."""
        checks: dict[str, Callable[[], object]] = {
            "koji": self.koji.is_there,
            "koji_files": self.files,
            "registry": self.registry.is_there,
        }
        return checks if self.greenwave is None else {**checks, "greenwave": self.greenwave.is_there}
