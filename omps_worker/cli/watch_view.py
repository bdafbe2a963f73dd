# SPDX-License-Identifier: GPL-3.0-or-later
"""Received results: reading, filtering, formatting and counting them for ``watch``."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from omps_worker.common import times
from omps_worker.common.errors import MessageError
from omps_worker.common.http_client.client import parse_json
from omps_worker.common.model import CATALOG, Status
from omps_worker.common.text import fit, listed, one_line, width_of
from omps_worker.messages.reasons import in_words

MAX_BYTES = 2**20
"""The maximum size of a result's body; its ``details`` have at most 64 KiB."""

STATUSES = tuple(status.value for status in Status)

_FIXED = 8 + 9 + 10 + 5 * 2
"""The width of the columns time, status and version, with the gaps."""

_USUAL_WIDTH = 120

_WIDEST_PACKAGE, _WIDEST_NVR = 48, 56
"""How wide the columns of the package and of the NVR become on a wide terminal."""

_SHORTEST_PLACE = 4
"""How many columns of a place are shown at least, in front of the whole name of a package."""

_COLOURS = {
    "published": "32",
    "unchanged": "36",
    "skipped": "90",
    "failed": "31",
    "retrying": "33",
    "deleted": "35",
}


@dataclass(frozen=True)
class ReceivedResult:
    """One result from the bus. ``sent_at`` comes from its header; None if that is missing or invalid."""

    topic: str
    id: str | None
    sent_at: datetime | None
    body: Mapping[str, Any] = field(repr=False)

    @property
    def status(self) -> str:
        """The status, one of ``STATUSES``."""
        return str(self.body["status"])

    def as_json(self) -> dict[str, Any]:
        """Return ``topic``, ``id``, ``sent_at`` (ISO 8601) and ``body`` for the JSON output."""
        sent_at = self.sent_at.isoformat() if self.sent_at else None
        return {"topic": self.topic, "id": self.id, "sent_at": sent_at, "body": self.body}


def read(topic: str, message_id: str | None, headers: Mapping[str, Any], body: bytes) -> ReceivedResult:
    """Return the result in a message.

    Raises MessageError if the message is not a result: any client of the bus can publish to these topics.
    """
    if len(body) > MAX_BYTES:
        raise MessageError(f"it has {len(body)} bytes, more than any result")
    found = parse_json(body)
    if not isinstance(found, dict):
        raise MessageError("it is not a JSON object")
    if found.get("status") not in STATUSES:
        raise MessageError("it has no result status")
    return ReceivedResult(topic, message_id, _time_of(headers.get("sent-at")), found)


def _time_of(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return times.parse_time(value)
    except ValueError:
        return None


@dataclass(frozen=True)
class ResultFilter:
    """Selects results. An empty set selects all.

    ``places`` are organizations, and ``catalog:`` with the name of a catalog. ``components`` are globs.
    """

    places: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    components: tuple[str, ...] = ()

    def wants(self, seen: ReceivedResult) -> bool:
        """Return whether the result is selected."""
        if self.places and _place(seen.body) not in self.places:
            return False
        if self.statuses and seen.status not in self.statuses:
            return False
        build = seen.body.get("build")
        component = _text(build, "name") if isinstance(build, dict) else ""
        return not self.components or any(fnmatch.fnmatchcase(component, glob) for glob in self.components)


class Tally:
    """Counts results by status."""

    def __init__(self, now: datetime | None = None) -> None:
        self._since = now or datetime.now(timezone.utc)
        self._counts: Counter[str] = Counter()

    def count(self, seen: ReceivedResult) -> None:
        """Count one result."""
        self._counts[seen.status] += 1

    def line(self, width: int | None = None) -> str:
        """Return the counts on one line, at most ``width`` columns wide."""
        total = self._counts.total() if hasattr(self._counts, "total") else sum(self._counts.values())
        named = ", ".join(f"{self._counts[status]} {status}" for status in STATUSES if self._counts[status])
        text = f"{total} result(s) since {_clock(self._since)}{': ' if named else ''}{named}"
        return text if width is None else fit(text, width).rstrip()


def line(seen: ReceivedResult, width: int | None = None, *, colours: bool = False) -> str:
    """Return one result as one line: time, status, package, version, NVR (or the name of the archive) and detail.

    With ``width``, each cell is cut to its share of the columns; without, nothing is cut.
    """
    body = seen.body
    remaining = max((width or _USUAL_WIDTH) - _FIXED, 0)
    # From 117 columns on, catalog:community/otter-cache fits; what is left over is for the detail.
    package_columns = min(max(remaining * 3 // 8, 16), _WIDEST_PACKAGE)
    cells = (
        (_clock(seen.sent_at or datetime.now(timezone.utc)), 8),
        (seen.status, 9),
        (_package(body, package_columns if width else None), package_columns),
        (_text(body, "version") or "-", 10),
        (_text(body, "nvr") or _file(body) or "-", min(max(remaining * 3 // 8, 16), _WIDEST_NVR)),
    )
    shown = [fit(text, columns if width else max(columns, width_of(text))) for text, columns in cells]
    text = "  ".join([*shown, _detail(body)])
    text = (fit(text, width) if width else text).rstrip()
    if not colours:
        return text
    begin, end = 10, min(19, len(text))
    return f"{text[:begin]}\x1b[{_COLOURS[seen.status]}m{text[begin:end]}\x1b[0m{text[end:]}"


def _detail(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    if not isinstance(error, dict):
        return in_words(_text(body, "reason")) or _dropped(body)
    text = f"{_text(error, 'name')}: {_text(error, 'message')}"
    next_attempt_at = _time_of(body.get("next_attempt_at"))
    return f"retry at {_clock(next_attempt_at)}: {text}" if next_attempt_at else text


def _dropped(body: Mapping[str, Any]) -> str:
    """Return which bundles an update dropped; not of a deletion, whose purpose that is."""
    catalog = body.get("catalog")
    dropped = catalog.get("dropped") if isinstance(catalog, dict) and body["status"] == Status.PUBLISHED.value else None
    names = [one_line(each) for each in dropped if isinstance(each, str)] if isinstance(dropped, list) else []
    return f"dropped {listed(names)}" if names else ""


def _package(body: Mapping[str, Any], columns: int | None) -> str:
    """Return the place and the package. What does not fit is cut from the place: it is shorter than a useful name."""
    place, name = _place(body), _text(body, "repo")
    whole = "/".join(part for part in (place, name) if part) or "-"
    if columns is None or not (place and name) or width_of(whole) <= columns:
        return whole
    room = columns - width_of(name) - 1
    return f"{fit(place, room).rstrip()}/{name}" if room >= _SHORTEST_PLACE else whole


def _place(body: Mapping[str, Any]) -> str:
    """Return the organization, or ``catalog:`` and the name of the catalog; empty if no target was known."""
    catalog = body.get("catalog")
    name = _text(catalog, "name") if isinstance(catalog, dict) else ""
    return f"{CATALOG}{name}" if name else _text(body, "organization")


def _file(body: Mapping[str, Any]) -> str:
    source = body.get("source")
    return _text(source, "file") if isinstance(source, dict) else ""


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return one_line(value) if isinstance(value, str) else ""


def _clock(moment: datetime) -> str:
    """Return the local time of day."""
    try:
        return moment.astimezone().strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "??:??:??"
