# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for failed calls to an app registry: whether they are transient, and whether a push may still have an effect.

Only a refusal of the release itself (``FAULTS_OF_THE_RELEASE``) is a fault of the build. All other failures are faults
of the site, which can be fixed without a new build: a token, a permission, a plan, an image repository with the same
name, a proxy that answers instead of the registry. Such errors are transient.
"""

from __future__ import annotations

from typing import TypeVar

from omps_worker.common.errors import QuayCourierError, RegistryError
from omps_worker.common.http_client.client import Answer, HttpFault
from omps_worker.destinations.refusals import AnswerSummary, Scrubber

RETRY_AFTER_LIMIT = 3600.0
"""The longest ``Retry-After`` of a registry that is respected, in seconds."""

TOO_LARGE = 413
"""The status of a request that is too large."""

FAULTS_OF_THE_RELEASE = frozenset({400, 409, TOO_LARGE, 422})
"""Statuses that refuse the release itself: its format, its version, its size."""

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that point to a temporary fault rather than to a bad request."""
_ANSWERED_BY_A_PROXY = frozenset({408, 502, 504})
"""Statuses of a proxy that no longer waits for the registry; the registry may still be working on the request."""

Failure = TypeVar("Failure", bound=RegistryError)


def too_large(blob: bytes) -> str:
    """Return the part of an error's text which says that ``blob`` is too large."""
    return f": {len(blob)} bytes (a third more as JSON) are more than the registry, or a proxy, takes"


def unreachable(kind: type[RegistryError], what: str, fault: HttpFault, scrubber: Scrubber) -> RegistryError:
    """Return the error, of type ``kind``, for a call that got no answer."""
    # The target of a redirect may contain a credential.
    error = kind(f"{what}: {scrubber.text(str(fault))}", details={"quay_response": {}}, transient=True)
    if isinstance(error, QuayCourierError):
        error.ambiguous = error.pending = fault.sent and fault.kind != "redirect"
    return error


def failed_push(what: str, answer: Answer, summary: AnswerSummary) -> QuayCourierError:
    """Return the error for a push that the registry answered with ``answer``."""
    error = failure(QuayCourierError, what, answer, summary, transient=answer.status not in FAULTS_OF_THE_RELEASE)
    error.conflict = answer.status == 409
    # The registry may store the release after a proxy answered 502 or 504, or 200 without the registry's JSON.
    error.ambiguous = answer.status < 300 or answer.status == 408 or answer.status >= 500
    error.pending = answer.status in _ANSWERED_BY_A_PROXY
    return error


def failure(
    kind: type[Failure], what: str, answer: Answer, summary: AnswerSummary, *, transient: bool | None = None
) -> Failure:
    """Return the error, of type ``kind``, for a call that the registry answered with ``answer``.

    By default, the status decides whether the error is ``transient``.
    """
    if transient is None:
        transient = is_passing(answer.status)
    retry_after = answer.retry_after if transient else None
    if retry_after is not None:
        retry_after = min(retry_after, RETRY_AFTER_LIMIT)
    return kind(
        f"{what}: the registry answered {answer.status}, {summary.text.rstrip('.')}.",
        details={"quay_response": summary.response},
        transient=transient,
        retry_after=retry_after,
    )


def is_passing(status: int) -> bool:
    """Return whether the status points to a temporary fault rather than to a bad request.

    Redirects are among these statuses: they come from something in front of the registry.
    """
    return status >= 500 or 300 <= status < 400 or status in _PASSING
