# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies to errors, with the status and the body that clients of OMPS know.

The body is ``{status, error, message}``; for some errors it also has the full answer of another service. A reply never
contains a traceback, a secret, or a path of this machine. The reply to an unexpected exception is a neutral sentence;
the traceback is in the log.
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
"""The default Retry-After of a 503, in seconds."""

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
"""The HTTP status of each error that can end a request."""

EXTRAS: Mapping[type[WorkerError], str] = {
    errors.PackageValidationError: "validation_info",
    errors.GreenwaveUnsatisfiedError: "greenwave_response",
    errors.GreenwaveError: "greenwave_response",
    errors.QuayAuthorizationError: "quay_response",
    errors.QuayCourierError: "quay_response",
}
"""The extra key in the reply to some errors; its value is {} if there is nothing to report."""

_NEUTRAL: Mapping[type[WorkerError], str] = {
    errors.SettingsError: "The configuration of this service has a fault; the log of the service names it.",
    errors.BrokerError: "The lock on the package is currently unavailable: nothing was changed.",
}
"""Messages that replace those that only the operator of this service should see."""


@dataclass(frozen=True)
class Reply:
    """One reply; ``body`` is sent as JSON."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestRefused(Exception):
    """Ends a request with ``error``; ``more`` has further keys for the reply."""

    def __init__(self, error: WorkerError, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.more = more or {}


def as_json(body: object) -> bytes:
    """Return ``body`` as JSON in UTF-8, on one printable line: letters stay, control characters are escaped."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not text.isprintable():
        # Unprintable characters occur only inside strings. They include lone surrogates, which UTF-8 cannot encode.
        text = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
    return text.encode()


def error_reply(status: int, name: str, message: str, more: Mapping[str, Any] | None = None) -> Reply:
    """Return the reply to an error; ``more`` has further keys of the body."""
    return Reply(status, {"status": status, "error": name, "message": one_line(message), **(more or {})})


def reply_to(error: BaseException) -> Reply:
    """Return the reply to a request that ended with ``error``, any exception. Logs what the reply must not contain."""
    more: Mapping[str, Any] = {}
    if isinstance(error, RequestRefused):
        more, error = error.more, error.error
    if not isinstance(error, WorkerError):
        machine.log_failure(log, error, "an unexpected exception ended a request")
        error = errors.unexpected_error(error)
    neutral = _entry_for(error, _NEUTRAL)
    if neutral is not None:
        log.error("%s: %s", error.name, error.message)
    extra = _entry_for(error, EXTRAS)
    if extra is not None:
        more = {**more, extra: error.details.get(extra, {})}
    reply = error_reply(_entry_for(error, STATUSES) or 500, error.name, neutral or error.message, more)
    seconds = error.retry_after or (RETRY_AFTER if reply.status == 503 else None)
    return Reply(reply.status, reply.body, {"Retry-After": str(math.ceil(seconds))} if seconds else {})


def _entry_for(error: WorkerError, table: Mapping[type[WorkerError], Any]) -> Any:
    """Return the entry of ``table`` for the error's class, or for its nearest base class; None if there is none."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)
