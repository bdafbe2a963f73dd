# SPDX-License-Identifier: GPL-3.0-or-later
"""Outcomes as result messages and as lines of the log.

What is written here reads as fedora-messaging would have written it (compare ``results``),
without its global configuration and its half second of imports.
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
from omps_worker.messages.result_ids import result_id

log = logging.getLogger("omps_worker.outcomes")
warnings_log = logging.getLogger("omps_worker.warnings")

_ACHIEVED = (Status.PUBLISHED, Status.UNCHANGED, Status.DELETED)
"""What a dry run only foresees. What fails or is skipped is so already."""

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
"""fedora-messaging's severities: who is to be bothered."""


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """One result, ready for the bus."""

    topic: str
    id: str
    headers: dict[str, Any]
    body: dict[str, Any]

    @property
    def payload(self) -> bytes:
        """The body as JSON text."""
        return json.dumps(self.body).encode()


def result_body(outcome: Outcome, origin: Origin, attempt: Attempt) -> dict[str, Any]:
    """The body of the result message for ``outcome``; see ``result_schema``."""
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
        "attempt": attempt.number,
        "source": _source(origin),
        "error": _error(outcome.error),
        "next_attempt_at": _time(outcome.next_attempt_at),
    }


def result_topic(prefix: str, status: str) -> str:
    """The topic of results of this status, under the site's prefix."""
    prefix = prefix.rstrip(".")
    return f"{prefix}.omps.release.{status}" if prefix else f"omps.release.{status}"


class Reporter:
    """Writes result messages for one site."""

    def __init__(self, topic_prefix: str, registry: str) -> None:
        self._topic_prefix = topic_prefix
        self._registry = registry

    def message(self, outcome: Outcome, origin: Origin, attempt: Attempt) -> ResultMessage:
        """The message that tells of ``outcome``."""
        body = result_body(outcome, origin, attempt)
        topic = result_topic(self._topic_prefix, outcome.status.value)
        id_ = result_id(self._registry, outcome, origin, attempt)
        return ResultMessage(topic, id_, self._headers(outcome, body), body)

    def messages(self, outcomes: Iterable[Outcome], origin: Origin, attempt: Attempt) -> list[ResultMessage]:
        """One message for each of ``outcomes``."""
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
            headers[_short(f"fedora_messaging_rpm_{build['name']}")] = True
            if build["owner"]:
                headers[_short(f"fedora_messaging_user_{build['owner']}")] = True
        return headers


def outcome_line(outcome: Outcome, origin: Origin, attempt: Attempt) -> str:
    """One line for the log."""
    place = _place(outcome)
    parts = [outcome.status.value]
    if outcome.nvr or not place:
        parts.append(outcome.nvr or _brought(origin) or "a build")
    if place:
        parts.append(f"{place} {outcome.version}" if outcome.version else place)
    if outcome.reason and outcome.reason != outcome.error_name:
        parts.append(f"({full_reason_of(outcome)})")
    if outcome.error:
        nature = "transient" if outcome.error.transient else "permanent"
        parts.append(f"{outcome.error.name}, {nature}: {one_line(outcome.error.message)}")
    if outcome.next_attempt_at:
        parts.append(f"Next attempt at {outcome.next_attempt_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%SZ}.")
    known = {
        "digest": outcome.digest[:12] if outcome.digest else None,
        "attempt": attempt.number,
        "seconds": f"{sum(outcome.seconds.values()):.2f}",
        "message": None if isinstance(origin, ManualRequest) else origin.message_id,
        "file": _brought(origin),
    }
    return " ".join(parts) + " [" + " ".join(f"{key}={value}" for key, value in known.items() if value) + "]"


def log_outcome(outcome: Outcome, origin: Origin, attempt: Attempt) -> None:
    """Tell the log: a line for people, and what it says as fields for machines."""
    error, target = outcome.error, outcome.target
    fields = {
        "status": outcome.status.value,
        "nvr": outcome.nvr,
        "organization": outcome.organization,
        "repository": outcome.repo,
        "target": target.label if target else None,
        "version": outcome.version,
        "digest": outcome.digest,
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
        "file": _brought(origin),
    }
    told = {key: value for key, value in fields.items() if value not in (None, {})}
    level = _LEVELS.get(outcome.status, logging.INFO)
    log.log(level, "%s", outcome_line(outcome, origin, attempt), extra=told)
    for warning in outcome.warnings if outcome.status is Status.PUBLISHED else ():
        warnings_log.warning("%s: %s", outcome.nvr or _brought(origin) or _place(outcome), one_line(warning))


def reason_of(outcome: Outcome) -> str | None:
    """The reason of an outcome, with the build that it is about."""
    return f"{outcome.reason} by {outcome.superseded_by}" if outcome.superseded_by else outcome.reason


def full_reason_of(outcome: Outcome) -> str | None:
    """The same for people, who learn which entry of the mapping holds a build, and what publishes it all the same."""
    if outcome.held_by:
        return f"{outcome.reason} by {outcome.held_by} of the mapping; omps-worker push --held publishes it"
    return reason_of(outcome)


def warnings_of(outcomes: Iterable[Outcome]) -> list[str]:
    """What is odd about the manifests of ``outcomes``, each sentence once."""
    return list(dict.fromkeys(one_line(warning) for outcome in outcomes for warning in outcome.warnings))


def outcomes_table(outcomes: Iterable[Outcome], *, dry_run: bool = False) -> str:
    """What became of one build, for a terminal; with ``dry_run`` what would become of it."""
    return table(
        ["status", "organization", "repository", "version", "detail"],
        [
            (
                f"would be {outcome.status}" if dry_run and outcome.status in _ACHIEVED else outcome.status,
                outcome.organization,
                outcome.repo,
                outcome.version,
                _detail(outcome),
            )
            for outcome in outcomes
        ],
    )


def _detail(outcome: Outcome) -> str | None:
    if outcome.error:
        return f"{outcome.error.name}: {outcome.error.message}"
    if outcome.status is Status.UNCHANGED:
        return "this content is released already, as that version"
    return full_reason_of(outcome)


def _place(outcome: Outcome) -> str:
    return "/".join(part for part in (outcome.organization, outcome.repo) if part)


def _short(header: str) -> str:
    # An AMQP field name is a short string: at most 255 bytes.
    return header.encode()[:255].decode(errors="ignore")


def _brought(origin: Origin) -> str | None:
    """The name of the file that somebody brought."""
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
