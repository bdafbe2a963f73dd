# SPDX-License-Identifier: GPL-3.0-or-later
"""Outcomes as result messages and as lines of the log.

What is written here reads as fedora-messaging would have written it (compare ``results``),
without its global configuration and its half second of imports.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from omps_worker.errors import WorkerError
from omps_worker.model import Attempt, Build, Outcome, Source, Status
from omps_worker.text import one_line, table

NAMESPACE = uuid.UUID("6f1cf5b5-5f0f-5a6c-9d0b-0d4d2f4a7c1e")
"""Result message ids are uuid5 in this namespace."""

log = logging.getLogger("omps_worker.outcomes")

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


def result_body(outcome: Outcome, source: Source | None, attempt: Attempt) -> dict[str, Any]:
    """The body of the result message for ``outcome``; see ``result_schema``."""
    return {
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "nvr": outcome.nvr,
        "extracted_files": list(outcome.extracted_files) if outcome.extracted_files is not None else None,
        "status": outcome.status.value,
        "reason": outcome.reason,
        "build": _build(outcome.build),
        "digest": outcome.digest,
        "public": outcome.public,
        "attempt": attempt.number,
        "source": {"message_id": source.message_id, "topic": source.topic} if source else None,
        "error": _error(outcome.error),
        "next_attempt_at": _time(outcome.next_attempt_at),
    }


def result_id(registry: str, body: dict[str, Any]) -> str:
    """The id of a result: the same fact has the same id, however often it is told."""
    fact = {key: body[key] for key in ("status", "organization", "repo", "version", "digest", "nvr")}
    fact["registry"] = registry
    if body["status"] in (Status.FAILED.value, Status.RETRYING.value):
        fact["attempt"] = body["attempt"]
        fact["source"] = body["source"]["message_id"] if body["source"] else None
    return str(uuid.uuid5(NAMESPACE, json.dumps(fact, sort_keys=True, separators=(",", ":"))))


def result_topic(prefix: str, status: str) -> str:
    """The topic of results of this status, under the site's prefix."""
    prefix = prefix.rstrip(".")
    return f"{prefix}.omps.release.{status}" if prefix else f"omps.release.{status}"


class Reporter:
    """Writes result messages for one site."""

    def __init__(self, topic_prefix: str, registry: str) -> None:
        self._topic_prefix = topic_prefix
        self._registry = registry

    def message(self, outcome: Outcome, source: Source | None, attempt: Attempt) -> ResultMessage:
        """The message that tells of ``outcome``."""
        body = result_body(outcome, source, attempt)
        topic = result_topic(self._topic_prefix, outcome.status.value)
        return ResultMessage(topic, result_id(self._registry, body), self._headers(outcome, body), body)

    def messages(self, outcomes: Iterable[Outcome], source: Source | None, attempt: Attempt) -> list[ResultMessage]:
        """One message for each of ``outcomes``."""
        return [self.message(outcome, source, attempt) for outcome in outcomes]

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


def outcome_line(outcome: Outcome, source: Source | None, attempt: Attempt) -> str:
    """One line for the log."""
    place = "/".join(part for part in (outcome.organization, outcome.repo) if part)
    parts = [outcome.status.value]
    if outcome.nvr or not place:
        parts.append(outcome.nvr or "a build")
    if place:
        parts.append(f"{place} {outcome.version}" if outcome.version else place)
    if outcome.reason:
        parts.append(f"({outcome.reason})")
    if outcome.error:
        nature = "transient" if outcome.error.transient else "permanent"
        parts.append(f"{outcome.error.name}, {nature}: {one_line(outcome.error.message)}")
    known = {
        "digest": outcome.digest[:12] if outcome.digest else None,
        "attempt": attempt.number,
        "seconds": f"{sum(outcome.seconds.values()):.2f}",
        "message": source.message_id if source else None,
    }
    return " ".join(parts) + " [" + " ".join(f"{key}={value}" for key, value in known.items() if value) + "]"


def log_outcome(outcome: Outcome, source: Source | None, attempt: Attempt) -> None:
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
        "error": outcome.error_name,
        "transient": error.transient if error else None,
        "attempt": attempt.number,
        "next_attempt_at": _time(outcome.next_attempt_at),
        "seconds": round(sum(outcome.seconds.values()), 3),
        "stages": {stage: round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        "message_id": source.message_id if source else None,
        "topic": source.topic if source else None,
    }
    told = {key: value for key, value in fields.items() if value not in (None, {})}
    level = _LEVELS.get(outcome.status, logging.INFO)
    log.log(level, "%s", outcome_line(outcome, source, attempt), extra=told)


def outcomes_table(outcomes: Iterable[Outcome]) -> str:
    """What became of one build, for a terminal."""
    return table(
        ["status", "organization", "repository", "version", "detail"],
        [
            (
                outcome.status,
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
    return outcome.reason


def _short(header: str) -> str:
    # An AMQP field name is a short string: at most 255 bytes.
    return header.encode()[:255].decode(errors="ignore")


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
