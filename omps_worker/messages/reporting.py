# SPDX-License-Identifier: GPL-3.0-or-later
"""Outcomes as result messages, as log lines and as tables.

Result messages look as if fedora-messaging had written them (compare ``results``). This module does not use it because
of its global configuration and its import time of half a second.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from omps_worker.common.errors import WorkerError
from omps_worker.common.model import Attempt, Build, ManualRequest, Origin, Outcome, Status
from omps_worker.common.text import one_line, table
from omps_worker.messages.catalog_texts import catalog_of, channel_lines, done_text, losses, plan_text
from omps_worker.messages.reasons import NOT_REACHED, UNREACHED, how_to_publish, in_words
from omps_worker.messages.result_ids import result_id

log = logging.getLogger("omps_worker.outcomes")
warnings_log = logging.getLogger("omps_worker.warnings")

_ACHIEVED = (Status.PUBLISHED, Status.UNCHANGED, Status.DELETED)
"""Statuses that a dry run only predicts. A failed or skipped outcome is already final."""

_LEVELS = {Status.FAILED: logging.ERROR, Status.RETRYING: logging.WARNING}

_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40
SEVERITIES = {
    Status.PUBLISHED: _INFO,
    Status.UNCHANGED: _DEBUG,
    Status.SKIPPED: _DEBUG,
    Status.FAILED: _ERROR,
    Status.RETRYING: _WARNING,
    Status.DELETED: _INFO,
}
"""The severity of each status, in fedora-messaging's numbers."""


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """A result, ready to be published to the bus."""

    topic: str
    id: str
    headers: dict[str, Any]
    body: dict[str, Any]

    @property
    def payload(self) -> bytes:
        """The body as JSON text."""
        return json.dumps(self.body).encode()


def result_body(outcome: Outcome, origin: Origin, attempt: Attempt) -> dict[str, Any]:
    """Return the body of the result message for ``outcome``; see ``result_schema``."""
    return {
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "nvr": outcome.nvr,
        "extracted_files": list(outcome.extracted_files) if outcome.extracted_files is not None else None,
        "status": outcome.status.value,
        "reason": outcome.reason,
        "superseded_by": outcome.superseded_by,
        "held_by": outcome.held_by,
        "warnings": list(outcome.warnings),
        "build": _build(outcome.build),
        "digest": outcome.digest,
        "public": outcome.public,
        "catalog": catalog_of(outcome),
        "attempt": attempt.number,
        "source": _source(origin),
        "error": _error(outcome.error),
        "next_attempt_at": _time(outcome.next_attempt_at),
    }


def result_topic(prefix: str, status: str) -> str:
    """Return the topic of results with ``status``, below the site's prefix."""
    prefix = prefix.rstrip(".")
    return f"{prefix}.omps.release.{status}" if prefix else f"omps.release.{status}"


class Reporter:
    """Builds the result messages of one site.

    ``topic_prefix`` is the site's prefix for topics, ``registry`` the base URL of the registry.
    """

    def __init__(self, topic_prefix: str, registry: str) -> None:
        self._topic_prefix = topic_prefix
        self._registry = registry

    def message(self, outcome: Outcome, origin: Origin, attempt: Attempt) -> ResultMessage:
        """Return the result message for ``outcome``."""
        body = result_body(outcome, origin, attempt)
        topic = result_topic(self._topic_prefix, outcome.status.value)
        id_ = result_id(self._registry, outcome, origin, attempt)
        return ResultMessage(topic, id_, self._headers(outcome, body), body)

    def messages(self, outcomes: Iterable[Outcome], origin: Origin, attempt: Attempt) -> list[ResultMessage]:
        """Return one result message for each outcome."""
        return [self.message(outcome, origin, attempt) for outcome in outcomes]

    def _headers(self, outcome: Outcome, body: dict[str, Any]) -> dict[str, Any]:
        headers: dict[str, Any] = {
            "fedora_messaging_schema": f"omps.Release{outcome.status.value.capitalize()}V1",
            "fedora_messaging_schema_package": "omps_worker",
            "sent-at": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
            "fedora_messaging_severity": SEVERITIES[outcome.status],
            "priority": 0,
            "omps-registry": self._registry,
        }
        build = body["build"]
        if build:
            headers[_header_name(f"fedora_messaging_rpm_{build['name']}")] = True
            if build["owner"]:
                headers[_header_name(f"fedora_messaging_user_{build['owner']}")] = True
        return headers


def outcome_line(outcome: Outcome, origin: Origin, attempt: Attempt) -> str:
    """Return the log line for ``outcome``."""
    place = _package(outcome)
    parts = [outcome.status.value]
    if outcome.nvr or not place:
        parts.append(outcome.nvr or _file_name(origin) or "a build")
    if place:
        parts.append(f"{place} {outcome.version}" if outcome.version else place)
    if outcome.catalog is not None and outcome.status is Status.PUBLISHED:
        parts += [f"({loss})" for loss in losses(outcome.catalog)]
    if outcome.reason and outcome.reason != outcome.error_name:
        parts.append(f"({full_reason_of(outcome)})")
    if outcome.error:
        nature = "transient" if outcome.error.transient else "permanent"
        parts.append(f"{outcome.error.name}, {nature}: {one_line(outcome.error.message)}")
    if outcome.next_attempt_at:
        parts.append(f"Next attempt at {outcome.next_attempt_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%SZ}.")
    details = {
        "digest": outcome.digest[:12] if outcome.digest else None,
        "attempt": attempt.number,
        "seconds": f"{sum(outcome.seconds.values()):.2f}",
        "message": None if isinstance(origin, ManualRequest) else origin.message_id,
        "file": _file_name(origin),
    }
    return " ".join(parts) + " [" + " ".join(f"{key}={value}" for key, value in details.items() if value) + "]"


def log_outcome(outcome: Outcome, origin: Origin, attempt: Attempt) -> None:
    """Log ``outcome``: as a line for people, with the same facts as fields for programs."""
    error, target = outcome.error, outcome.target
    fields = {
        "status": outcome.status.value,
        "nvr": outcome.nvr,
        "organization": outcome.organization,
        "catalog": outcome.catalog_name,
        "repository": outcome.repo,
        "target": target.label if target else None,
        "version": outcome.version,
        "digest": outcome.digest,
        "catalog_digest": outcome.catalog.digest if outcome.catalog else None,
        "reason": outcome.reason,
        "superseded_by": outcome.superseded_by,
        "held_by": outcome.held_by,
        "warnings": list(outcome.warnings) or None,
        "error": outcome.error_name,
        "transient": error.transient if error else None,
        "attempt": attempt.number,
        "next_attempt_at": _time(outcome.next_attempt_at),
        "seconds": round(sum(outcome.seconds.values()), 3),
        "stages": {stage: round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        "message_id": None if isinstance(origin, ManualRequest) else origin.message_id,
        "topic": None if isinstance(origin, ManualRequest) else origin.topic,
        "file": _file_name(origin),
    }
    known_fields = {key: value for key, value in fields.items() if value not in (None, {})}
    level = _LEVELS.get(outcome.status, logging.INFO)
    log.log(level, "%s", outcome_line(outcome, origin, attempt), extra=known_fields)
    for warning in outcome.warnings if outcome.status is Status.PUBLISHED else ():
        warnings_log.warning("%s: %s", outcome.nvr or _file_name(origin) or _package(outcome), one_line(warning))


def reason_of(outcome: Outcome) -> str | None:
    """Return the reason of ``outcome``, with the NVR of the superseding build if there is one."""
    return f"{outcome.reason} by {outcome.superseded_by}" if outcome.superseded_by else outcome.reason


def full_reason_of(outcome: Outcome) -> str | None:
    """Return the reason with what belongs to it and what helps: for a held build, and for a bundle that is not reached.

    The reason itself is still that of results; see ``reasons.in_words``.
    """
    if outcome.held_by:
        return f"{outcome.reason} by {outcome.held_by} of the mapping; {how_to_publish(outcome.nvr)}"
    if outcome.reason == UNREACHED and outcome.catalog_name and not outcome.superseded_by:
        return f"{outcome.reason}: {NOT_REACHED}"
    return reason_of(outcome)


def warnings_of(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the warnings about the manifests of ``outcomes``, each sentence once."""
    return list(dict.fromkeys(one_line(warning) for outcome in outcomes for warning in outcome.warnings))


def outcomes_table(outcomes: Iterable[Outcome], *, dry_run: bool = False) -> str:
    """Return the outcomes of one build as a table for a terminal; with ``dry_run``, what they would be."""
    return table(
        ["status", "organization", "repository", "version", "detail"],
        [
            (
                f"would be {outcome.status}" if dry_run and outcome.status in _ACHIEVED else outcome.status,
                outcome.place,
                outcome.repo,
                outcome.version,
                _detail(outcome, dry_run=dry_run),
            )
            for outcome in outcomes
        ],
    )


def _detail(outcome: Outcome, *, dry_run: bool) -> str | None:
    if outcome.error:
        return f"{outcome.error.name}: {outcome.error.message}"
    if outcome.catalog is not None and dry_run:
        return "; ".join([plan_text(outcome) or "", *channel_lines(outcome.catalog)])
    if outcome.catalog is not None and outcome.status in (Status.PUBLISHED, Status.UNCHANGED):
        return done_text(outcome)
    if outcome.status is Status.UNCHANGED:
        return "this content is released already, as that version"
    if outcome.held_by:
        return f"{outcome.reason} by {outcome.held_by} of the mapping; --held publishes it"
    if outcome.superseded_by:
        return f"{reason_of(outcome)}; --new-release publishes it nevertheless"
    reason = full_reason_of(outcome)
    return None if reason is None else in_words(reason)


def _package(outcome: Outcome) -> str:
    return "/".join(part for part in (outcome.place, outcome.repo) if part)


def _header_name(name: str) -> str:
    # An AMQP field name is a short string: at most 255 bytes.
    return name.encode()[:255].decode(errors="ignore")


def _file_name(origin: Origin) -> str | None:
    """Return the name of the uploaded file; None if the work did not come from an upload."""
    return origin.archive.file if isinstance(origin, ManualRequest) and origin.archive else None


def _source(origin: Origin) -> dict[str, Any] | None:
    if not isinstance(origin, ManualRequest):
        return {"message_id": origin.message_id, "topic": origin.topic, "replayed": origin.replayed}
    return {"file": origin.archive.file, "sha256": origin.archive.sha256} if origin.archive else None


def _build(build: Build | None) -> dict[str, Any] | None:
    if build is None:
        return None
    return {
        "id": build.id,
        "name": build.name,
        "version": build.version,
        "release": build.release,
        "owner": build.owner,
    }


def _error(error: WorkerError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "name": error.name,
        "message": error.message,
        "details": error.details,
        "transient": error.transient,
    }


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(timezone.utc).isoformat() if moment else None
