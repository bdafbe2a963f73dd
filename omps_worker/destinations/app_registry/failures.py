# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means when an app registry does not do what it was asked: whose fault it is, and whether it may be done yet.

Only what a registry says against the release itself (``FAULTS_OF_THE_RELEASE``) is a fault of the build. All else is
one of the site, which somebody mends without a new build: a token, a right, a plan, an image repository in the way, a
proxy that answers in the registry's stead. Such errors are transient.
"""

from __future__ import annotations

from typing import TypeVar

from omps_worker.common.errors import QuayCourierError, RegistryError
from omps_worker.common.http_client.client import Answer, HttpFault
from omps_worker.destinations.app_registry.answers import AnswerSummary, Scrubber

RETRY_AFTER_LIMIT = 3600.0
"""The longest time, in seconds, for which a registry may ask to be left alone."""

TOO_LARGE = 413
"""The status of a request with more bytes than are taken."""

FAULTS_OF_THE_RELEASE = frozenset({400, 409, TOO_LARGE, 422})
"""Statuses that refuse a release for what it is: its form, its version, its size."""

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that say nothing against the request itself."""
_ANSWERED_BY_A_PROXY = frozenset({408, 502, 504})
"""Statuses of one who no longer waits for the registry, which may go on working."""

Failure = TypeVar("Failure", bound=RegistryError)


def too_large(blob: bytes) -> str:
    """How to say that a release of these bytes is too large."""
    return f": {len(blob)} bytes (a third more as JSON) are more than the registry, or a proxy, takes"


def unreachable(kind: type[RegistryError], what: str, fault: HttpFault, scrubber: Scrubber) -> RegistryError:
    """The error, of that ``kind``, of a call that got no answer."""
    # Where a redirect leads may repeat a credential.
    error = kind(f"{what}: {scrubber.text(str(fault))}", details={"quay_response": {}}, transient=True)
    if isinstance(error, QuayCourierError):
        error.ambiguous = error.pending = fault.sent and fault.kind != "redirect"
    return error


def failed_push(what: str, answer: Answer, told: AnswerSummary) -> QuayCourierError:
    """The error of a push that was answered so."""
    error = failure(QuayCourierError, what, answer, told, transient=answer.status not in FAULTS_OF_THE_RELEASE)
    error.conflict = answer.status == 409
    # Proxies answer 502 and 504 while the registry goes on storing; so may a 200 that is none.
    error.ambiguous = answer.status < 300 or answer.status == 408 or answer.status >= 500
    error.pending = answer.status in _ANSWERED_BY_A_PROXY
    return error


def failure(
    kind: type[Failure], what: str, answer: Answer, told: AnswerSummary, *, transient: bool | None = None
) -> Failure:
    """The error, of that ``kind``, of a call that was answered so; transient if the status is, unless told."""
    if transient is None:
        transient = is_passing(answer.status)
    retry_after = answer.retry_after if transient else None
    if retry_after is not None:
        retry_after = min(retry_after, RETRY_AFTER_LIMIT)
    return kind(
        f"{what}: the registry answered {answer.status}, {told.text.rstrip('.')}.",
        details={"quay_response": told.response},
        transient=transient,
        retry_after=retry_after,
    )


def is_passing(status: int) -> bool:
    """Whether it says nothing against the request itself. A redirect comes from something in front of the registry."""
    return status >= 500 or 300 <= status < 400 or status in _PASSING
