# SPDX-License-Identifier: GPL-3.0-or-later
"""Parked failures for the ``failed`` commands: how they are shown, and how they are selected."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any

from omps_worker.common.errors import MessageError
from omps_worker.common.text import one_line, table
from omps_worker.messages.events import document_in

LINE_LIMIT, BODY_LINES = 2000, 500
"""The number of characters of a line, and of lines of a body, that ``failed show`` prints as text."""

_FINDINGS = "omps-error-findings"
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class ParkedFailure:
    """A message in the failed queue. Unknown values are None.

    Several copies may have the same ``id``. ``queue`` is the queue that it is in, ``topic`` the topic that it had on
    the bus. ``error`` and ``message`` say why it was parked. ``attempts`` is the number of attempts so far.
    """

    id: str
    queue: str
    topic: str
    nvr: str | None
    error: str | None
    message: str | None
    attempts: int
    first_seen: datetime | None
    parked_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the message's element in the output of ``failed list --json``; times are ISO 8601, UTC."""
        return {
            "id": self.id,
            "queue": self.queue,
            "topic": self.topic,
            "nvr": self.nvr,
            "error": self.error,
            "message": self.message,
            "attempts": self.attempts,
            "first_seen": iso_or_none(self.first_seen),
            "parked_at": iso_or_none(self.parked_at),
        }


@dataclass(frozen=True, slots=True)
class FailureSelection:
    """A selection of parked messages: those that match all criteria that are given.

    ``ids`` are exact. ``nvrs`` and ``errors`` are shell globs; one of them must match. ``older_than`` and
    ``newer_than`` are seconds since a message was parked. An unknown value matches no criterion.
    """

    ids: frozenset[str] = frozenset()
    nvrs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    older_than: float | None = None
    newer_than: float | None = None

    @property
    def everything(self) -> bool:
        """Whether all messages are selected, because no criterion is given."""
        return self == FailureSelection()

    def matches(self, parked: ParkedFailure, now: datetime) -> bool:
        """Return whether this message is selected."""
        return (
            (not self.ids or parked.id in self.ids)
            and _matches(parked.nvr, self.nvrs)
            and _matches(parked.error, self.errors)
            and self._has_age(parked.parked_at, now)
        )

    def _has_age(self, parked_at: datetime | None, now: datetime) -> bool:
        if self.older_than is None and self.newer_than is None:
            return True
        if parked_at is None:
            return False
        age = now - parked_at
        return (self.older_than is None or age > timedelta(seconds=self.older_than)) and (
            self.newer_than is None or age < timedelta(seconds=self.newer_than)
        )


def by_time(parked: Iterable[ParkedFailure]) -> list[ParkedFailure]:
    """Return the messages by the time they were parked, oldest first; those with an unknown time come first of all."""
    return sorted(parked, key=lambda message: message.parked_at or _BEGINNING)


def as_table(parked: Iterable[ParkedFailure]) -> str:
    """Return the messages as a table for a terminal."""
    heads = ["parked at", "id", "nvr", "attempts", "error", "message"]
    rows = [
        [_short_time(each.parked_at), each.id, each.nvr, each.attempts, each.error, each.message] for each in parked
    ]
    return table(heads, rows)


def details_text(details: Mapping[str, Any]) -> str:
    """Return the text that ``failed show`` prints for one message. ``details`` is what it prints with ``--json``."""
    tries = "1 attempt" if details["attempts"] == 1 else f"{details['attempts']} attempts"
    lines = [
        f"id         {details['id']}",
        f"nvr        {details['nvr'] or 'unknown'}",
        f"topic      {details['topic']} (exchange {details['exchange'] or 'unknown'})",
        f"error      {details['error'] or 'unknown'}: {details['message'] or 'no reason was given'}",
        *(f"           - {finding}" for finding in details["findings"]),
        f"history    {tries}",
    ]
    moments = [
        (details["first_seen"], "first taken by a worker"),
        (details["replayed_at"], "replayed"),
        *(
            (death["time"], f"left {death['queue']}: {death['reason']}, {death['count']} x")
            for death in details["deaths"]
        ),
        (details["parked_at"], "parked"),
    ]
    lines += [f"           {moment} {event}" for moment, event in sorted(pair for pair in moments if pair[0])]
    if details["targets"]:
        lines.append(f"targets    {', '.join(details['targets'])}")
    for name, value in details["headers"].items():
        if details["findings"] and name == _FINDINGS:
            continue
        lines.append(f"header     {name}: {value if isinstance(value, str) else json.dumps(value)}")
    if details["content_type"]:
        lines.append(f"content    {details['content_type']} {details['content_encoding'] or ''}")
    lines += ["body", *_body_lines(details)]
    return "\n".join(one_line(line)[:LINE_LIMIT].rstrip() for line in lines)


def _body_lines(details: Mapping[str, Any]) -> list[str]:
    body, notes = details["body"], []
    if details["body_base64"] is not None:
        raw = base64.b64decode(details["body_base64"])
        try:
            body = document_in(raw)
            notes = [f"  ({len(raw)} bytes, unpacked)"]
        except MessageError:
            return [f"  ({len(raw)} bytes that are not JSON; they begin with)", f"  {raw[:200]!r}"]
    lines = json.dumps(body, indent=2, ensure_ascii=False).splitlines()
    if len(lines) > BODY_LINES:
        lines[BODY_LINES:] = [f"… and {len(lines) - BODY_LINES} more lines; --json prints all of them"]
    return [*notes, *(f"  {line}" for line in lines)]


def iso_or_none(moment: datetime | None) -> str | None:
    """Return ``moment``, which is in UTC, as ISO 8601; None for None."""
    return None if moment is None else moment.isoformat()


def _short_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _matches(value: str | None, globs: tuple[str, ...]) -> bool:
    return not globs or (value is not None and any(fnmatchcase(value, glob) for glob in globs))
