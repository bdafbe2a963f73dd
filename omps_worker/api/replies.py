# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as replies: the status and the body that clients of OMPS know.

``{status, error, message}``, and for some errors what a peer said in full. No reply holds a traceback, a
secret, or a path of this machine; what nobody thought of is a neutral sentence, and its traceback is in the log.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common import errors, machine
from omps_worker.common.errors import WorkerError
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

RETRY_AFTER = 10
"""After how many seconds to try again when this service cannot work for now and nobody knows better."""

STATUSES: Mapping[type[WorkerError], int] = {
    errors.OMPSUploadedFileError: 400,
    errors.OMPSExpectedFileError: 400,
    errors.PackageValidationError: 400,
    errors.OMPSInvalidVersionFormat: 400,
    errors.InvalidOrganizationName: 400,
    errors.InvalidIdempotencyKey: 400,
    errors.KojiNotAnOperatorImage: 400,
    errors.GreenwaveUnsatisfiedError: 400,
    errors.OMPSAuthorizationHeaderRequired: 403,
    errors.QuayAuthorizationError: 403,
    errors.KojiNVRBuildNotFound: 404,
    errors.QuayPackageNotFound: 404,
    errors.RequestTimeout: 408,
    errors.RequestEntityTooLarge: 413,
    errors.RequestAbandoned: 499,
    errors.KojiManifestsArchiveNotFound: 500,
    errors.KojiError: 500,
    errors.QuayCourierError: 500,
    errors.QuayPackageError: 500,
    errors.GreenwaveError: 500,
    errors.SettingsError: 500,
    errors.RegistryReplacementError: 500,
    errors.UnexpectedError: 500,
    errors.BuildHeld: 409,
    errors.OrganizationPaused: 503,
    errors.PackageBusy: 503,
    errors.BrokerUnavailable: 503,
    errors.BrokerBlocked: 503,
    errors.BrokerRefused: 503,
    errors.StorageError: 503,
    errors.ResourcesExhausted: 503,
    errors.ServiceBusy: 503,
    errors.ServiceStopping: 503,
}
"""The status of each error that a request can end with."""

EXTRAS: Mapping[type[WorkerError], str] = {
    errors.PackageValidationError: "validation_info",
    errors.GreenwaveUnsatisfiedError: "greenwave_response",
    errors.GreenwaveError: "greenwave_response",
    errors.QuayAuthorizationError: "quay_response",
    errors.QuayCourierError: "quay_response",
}
"""The further key that the reply to some errors has; {} where there is nothing to tell."""

_NEUTRAL: Mapping[type[WorkerError], str] = {
    errors.SettingsError: "The configuration of this service is at fault; its log says what is.",
    errors.BrokerError: "The lock on the package cannot be had for now: nothing was changed.",
}
"""What is said instead of messages that are for the operator of this service alone."""


@dataclass(frozen=True)
class Reply:
    """One reply: ``body`` becomes JSON."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestRefused(Exception):
    """The request ends with ``error``; ``more`` is what else the reply says."""

    def __init__(self, error: WorkerError, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.more = more or {}


def as_json(body: object) -> bytes:
    """``body`` as JSON in UTF-8, on one line that can be printed: letters stay, what moves a cursor is escaped."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not text.isprintable():
        # Outside of texts JSON has none of these; \ud800, which no UTF-8 can say, is one as well.
        text = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
    return text.encode()


def error_reply(status: int, name: str, message: str, more: Mapping[str, Any] | None = None) -> Reply:
    """The reply that tells of an error."""
    return Reply(status, {"status": status, "error": name, "message": one_line(message), **(more or {})})


def reply_to(error: BaseException) -> Reply:
    """The reply to a request that ended with ``error``, whatever it is. Logs what only the log may know."""
    more: Mapping[str, Any] = {}
    if isinstance(error, RequestRefused):
        more, error = error.more, error.error
    if not isinstance(error, WorkerError):
        machine.log_failure(log, error, "an exception that nobody thought of ended a request")
        error = errors.unforeseen(error)
    neutral = _of(error, _NEUTRAL)
    if neutral is not None:
        log.error("%s: %s", error.name, error.message)
    extra = _of(error, EXTRAS)
    if extra is not None:
        more = {**more, extra: error.details.get(extra, {})}
    reply = error_reply(_of(error, STATUSES) or 500, error.name, neutral or error.message, more)
    seconds = error.retry_after or (RETRY_AFTER if reply.status == 503 else None)
    return Reply(reply.status, reply.body, {"Retry-After": str(math.ceil(seconds))} if seconds else {})


def _of(error: WorkerError, table: Mapping[type[WorkerError], Any]) -> Any:
    """What ``table`` has for the error's class, or for the nearest one above it."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)
