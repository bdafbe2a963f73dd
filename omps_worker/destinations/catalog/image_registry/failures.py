# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means if an image registry does not do what it was asked: whether a retry can help.

A read never fails permanently because of what a registry answers: a catalog that cannot be read now is not an empty
catalog. Only what the worker never reads is permanent there: a blob that is too large, or outside the registry. A write
fails permanently only if the registry itself refuses the content that was sent (``FAULTS_OF_THE_CONTENT``): such an
answer has an error code. Everything else can be fixed without a new build: credentials, a quota, a proxy that answers
for the registry.
"""

from __future__ import annotations

from typing import Any

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError, ImageRegistryError
from omps_worker.common.http_client.client import Answer, HttpFault
from omps_worker.common.text import printable
from omps_worker.destinations.catalog.image_registry.answers import Unreadable, error_codes
from omps_worker.destinations.refusals import TEXT_LIMIT, Scrubber, summary_of

RETRY_AFTER_LIMIT = 3600.0
"""The longest delay, in seconds, that a registry may request."""

FAULTS_OF_THE_CONTENT = frozenset({400, 413, 422})
"""Statuses with which a registry refuses what is written: its form or its size. Proxies answer so, too."""

TOO_LARGE = 413

BLOBS_UNKNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
"""Errors that say that a blob is missing which a manifest names."""

PASSING_CODES = BLOBS_UNKNOWN | {
    "BLOB_UPLOAD_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "DIGEST_INVALID",
    "RANGE_INVALID",
    "SIZE_INVALID",
}
"""Errors that come with such a status, but say that an upload or a blob got lost or damaged: sending it again helps.

An upload that the registry does not recognise, or continues at the wrong place, is BLOB_UPLOAD_INVALID, which is 400 in
Quay and 404 in distribution; the wrong place is RANGE_INVALID (416) in distribution since 3.0.
"""

DENIED = frozenset({401, 403})
"""Statuses with which a registry refuses the caller."""


def unreachable(what: str, fault: HttpFault, scrubber: Scrubber, *, writes: bool) -> CatalogError:
    """Return the error of a call that got no answer. ``writes``: whether it may have changed something."""
    # The target of a redirect may repeat a credential.
    error = CatalogError(f"{what}: {scrubber.text(str(fault))}", details=_details({}), transient=True)
    error.ambiguous = writes and fault.sent and fault.kind != "redirect"
    return error


def unreadable(what: str, why: Unreadable | str) -> CatalogError:
    """Return the error of a read whose answer is not what it must be."""
    return CatalogError(f"{what}: {why}.", details=_details({}), transient=True)


def unusable(what: str, why: str) -> CatalogError:
    """Return the permanent error of a read of something that can never be read."""
    return CatalogError(f"{what}: {why}.", details=_details({}), transient=False)


def denied(what: str, why: str, details: dict[str, Any] | None = None) -> CatalogAuthorizationError:
    """Return the error of a login that is not accepted."""
    return CatalogAuthorizationError(f"{what}: {why}.", details=_details(details or {}))


def failure(
    what: str,
    answer: Answer,
    scrubber: Scrubber,
    *,
    writes: bool = False,
    content: bool = False,
    no_login_for: str | None = None,
) -> ImageRegistryError:
    """Return the error of a call that was answered with an error status, or with one that makes no sense.

    ``writes``: whether the call may have changed something. ``content``: whether it sent content that the registry may
    refuse. ``no_login_for``: the host of the registry, if it was called without credentials because there are none.
    """
    text, response = _told(answer, scrubber)
    said = f"the registry answered {answer.status}, {text.rstrip('.')}"
    if answer.status in DENIED:
        return denied(what, f"{said}. {_no_login(no_login_for)}" if no_login_for else said, response)
    codes = frozenset(error_codes(answer))
    of_the_content = content and answer.status in FAULTS_OF_THE_CONTENT
    refused = of_the_content and bool(codes) and not codes & PASSING_CODES
    if of_the_content and not codes:
        said = f"{said}. {_NOT_BY_THE_REGISTRY}"
        if answer.status == TOO_LARGE:
            said = f"{said}. {_RAISE_THE_LIMIT}"
    retry_after = None if refused or answer.retry_after is None else min(answer.retry_after, RETRY_AFTER_LIMIT)
    error = CatalogError(f"{what}: {said}.", details=_details(response), transient=not refused, retry_after=retry_after)
    # Proxies answer 502 and 504 while the registry goes on; a 200 may be the answer of something else.
    error.blobs_unknown = writes and bool(codes & BLOBS_UNKNOWN)
    error.ambiguous = writes and (answer.status < 300 or answer.status == 408 or answer.status >= 500)
    return error


_NOT_BY_THE_REGISTRY = "There is no error code of a registry in the answer, so a proxy in front of it may have refused"
_RAISE_THE_LIMIT = "Raise the proxy's limit on the size of a request (client_max_body_size in nginx)"


def _no_login(host: str) -> str:
    return (
        f"No login is configured for {host}: a catalog has one for its own registry with username and a password, "
        "or for any registry with auth_file"
    )


def _told(answer: Answer, scrubber: Scrubber) -> tuple[str, dict[str, Any]]:
    told = summary_of(answer, scrubber)
    errors = told.response.get("errors")
    if not isinstance(errors, list):
        return told.text, told.response
    texts = []
    for error in errors[:3]:
        if isinstance(error, dict):
            message, code = error.get("message"), error.get("code")
            words = [message] if isinstance(message, str) and message else []
            texts += [" ".join([*words, f"({code})"])] if isinstance(code, str) and code else words
    return printable("; ".join(texts), TEXT_LIMIT) or told.text, told.response


def _details(response: dict[str, Any]) -> dict[str, Any]:
    return {"registry_response": response}
