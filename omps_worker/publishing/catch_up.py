# SPDX-License-Identifier: GPL-3.0-or-later
"""Catch-up: find the builds of a period that have no release because their messages never came.

Messages can be lost before they reach the bus, so Koji is asked from time to time what was completed. Each build is
processed as ``explain`` does it: everything except the push. The digest of its content shows whether it is released.
For each missing build, the message that should have come is sent.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from omps_worker.common import times
from omps_worker.common.model import Attempt, Build, BuildEvent, BuildState, Ignored, OperatorKind, Outcome, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.common.text import one_line
from omps_worker.configuration.mapping.matching import MappingHolder, Match
from omps_worker.configuration.settings.units import Duration
from omps_worker.messages import events
from omps_worker.messages.catalog_texts import catalog_of
from omps_worker.messages.reasons import in_words
from omps_worker.publishing.processor import DRAFT_BUILD, Processor
from omps_worker.publishing.superseded import LATE_AFTER, SKIP, SUPERSEDED
from omps_worker.publishing.targets import IGNORED_BY_RULE, NO_RULE

log = logging.getLogger(__name__)

MISSING, SENT, RELEASED, SKIPPED, IGNORED = "missing", "sent", "released", "skipped", "ignored"
UNDECIDED = "undecided"
"""The statuses of a build. ``sent``: the build was missing, and its message was sent. ``undecided``: Koji or the
registry could not be queried."""

CATCH_UP_TOPIC = "omps.catch-up"
"""The topic in ``source`` of results for builds that a catch-up sent."""

_AHEAD = timedelta(minutes=5)
"""How far another clock may be ahead of this machine's before a time counts as lying in the future."""

_AGE = re.compile(r"[0-9.]+ *[A-Za-z]+")
_WHEN_HELP = 'must be a date or time such as 2026-11-21 or 2026-11-21T08:30:00Z (UTC), or an age such as "24h" or "7d"'


class Builds(Protocol):
    """The part of Koji that this module needs; see ``koji_client.builds.KojiBuilds``."""

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """Return the operator builds of a period, in the order of their completion."""
        ...


@dataclass(frozen=True, slots=True)
class BuildReport:
    """A build and its catch-up status, with the reason and the outcomes of the dry run."""

    build: Build
    status: str
    reason: str | None = None
    outcomes: Sequence[Outcome] = ()

    @property
    def detail(self) -> str:
        """The reason for people; for a build that is missing or undecided, with the targets that this is about."""
        if self.status not in (MISSING, SENT, UNDECIDED):
            return in_words(self.reason or "")
        lacking = [_label(outcome) for outcome in self.outcomes if outcome.status is Status.PUBLISHED]
        parts = [f"not in {', '.join(lacking)}"] if lacking else []
        failures: defaultdict[str, list[str]] = defaultdict(list)
        for outcome in self.outcomes:
            if outcome.error is not None:
                failures[f"{outcome.error.name}: {outcome.error.message}"].append(_label(outcome))
        parts += (f"{', '.join(filter(None, labels))}: {text}".removeprefix(": ") for text, labels in failures.items())
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return the build's element in the output of ``catch-up --json``."""
        completed = self.build.completed_at
        return {
            "nvr": self.build.nvr,
            "build_id": self.build.id,
            "completed_at": completed.isoformat() if completed else None,
            "status": self.status,
            "reason": self.reason,
            "targets": [
                {
                    "organization": outcome.organization,
                    "catalog": catalog_of(outcome),
                    "repository": outcome.repo,
                    "version": outcome.version,
                    "status": outcome.status.value,
                }
                for outcome in self.outcomes
                if outcome.place is not None
            ],
        }


@dataclass(frozen=True, slots=True)
class MissingMessage:
    """A message that a build is complete, as the build system would have sent it."""

    id: str
    body: bytes


class CatchUp:
    """Finds out which builds have no release; changes nothing."""

    def __init__(self, builds: Builds, mapping: MappingHolder, processor: Processor) -> None:
        self._builds = builds
        self._mapping = mapping
        self._processor = processor

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """Return the operator builds of a period, in the order of their completion. Raises KojiError.

        A bundle build is included only if the mapping publishes it to a catalog.
        """
        rules = self._mapping.current
        return [
            build
            for build in self._builds.completed(since, until)
            if build.kind is not OperatorKind.BUNDLE or _places(build, rules.resolve(build.facts))
        ]

    def look_into(self, builds: Sequence[Build]) -> Iterator[BuildReport]:
        """Yield a report on each build, in the order of ``builds``, as soon as it is known.

        A build is missing if one of its targets has no release of its content. It is also missing if it can never
        have one: its message then leads to a failure that is recorded. Content that is released is not missing, even
        if it is not the highest release.
        """
        # A draft supersedes nothing.
        matches = [None if build.draft else self._mapping.current.resolve(build.facts) for build in builds]
        overtaken = _overtaken(builds, matches)
        for build, match in zip(builds, matches, strict=True):
            if build.draft:
                yield BuildReport(build, IGNORED, DRAFT_BUILD)
            elif match is None or not match.targets:
                yield BuildReport(build, IGNORED, NO_RULE if match is None else IGNORED_BY_RULE)
            elif build.id in overtaken:
                yield BuildReport(build, SKIPPED, SUPERSEDED)
            else:
                yield self._look_into(build)

    def send(
        self, builds: Sequence[Build], send: Callable[[MissingMessage], object], sent_before: Container[int] = ()
    ) -> Iterator[BuildReport]:
        """Yield the same reports as ``look_into``, and call ``send`` with the message of each missing build.

        ``sent_before`` holds the ids of builds that are not sent again.
        """
        for report in self.look_into(builds):
            if report.status == MISSING and report.build.id not in sent_before:
                send(message_of(report.build))
                yield replace(report, status=SENT)
            else:
                yield report

    def _look_into(self, build: Build) -> BuildReport:
        outcomes = self._processor.process_build(build, Attempt(late=True), PushRequest(dry_run=True, reverts=False))
        if isinstance(outcomes, Ignored):
            return BuildReport(build, IGNORED, outcomes.reason)
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        transient = next((error for error in errors if error.transient), None)
        if transient is not None:
            return BuildReport(build, UNDECIDED, f"{transient.name}: {transient.message}", outcomes)
        if errors:
            return BuildReport(build, MISSING, f"{errors[0].name}: {errors[0].message}", outcomes)
        if any(outcome.status is Status.PUBLISHED for outcome in outcomes):
            return BuildReport(build, MISSING, None, outcomes)
        if any(outcome.status is Status.UNCHANGED for outcome in outcomes):
            return BuildReport(build, RELEASED, None, outcomes)
        return BuildReport(build, SKIPPED, next((outcome.reason for outcome in outcomes), None), outcomes)


def _label(outcome: Outcome) -> str:
    """Return how a message names the target of an outcome, empty if none is known."""
    return "/".join(part for part in (outcome.place, outcome.repo) if part)


def _overtaken(builds: Sequence[Build], matches: Sequence[Match | None]) -> set[int]:
    """Return the ids of builds that a newer build in the list supersedes at all of their targets.

    Bundle builds are looked into one by one: a catalog has a bundle of each version.
    """
    overtaken = set()
    newer: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for build, match in reversed(list(zip(builds, matches, strict=True))):
        places = _places(build, match)
        taken = newer[build.name, build.target]
        if match and match.superseded == SKIP and build.kind is not OperatorKind.BUNDLE and places <= taken:
            overtaken.add(build.id)
        taken |= places
    return overtaken


def _places(build: Build, match: Match | None) -> set[str]:
    """Return the organizations and catalogs that the build is released to: a bundle only to catalogs."""
    targets = match.targets if match else ()
    return {each.place for each in targets if each.catalog is not None or build.kind is not OperatorKind.BUNDLE}


class CatchUpRound:
    """A catch-up that runs every ``every`` seconds and looks ``window`` seconds back each time.

    A round leaves out builds that were completed so recently that their messages may still be on the way; the next
    round covers them. No build is sent twice: a build that failed permanently is parked by then.
    """

    def __init__(self, work: CatchUp, every: float, window: float, send: Callable[[MissingMessage], object]) -> None:
        self._work = work
        self._pause = min(timedelta(seconds=every), LATE_AFTER)
        self._window = timedelta(seconds=window)
        self._send = send
        self._sent: set[int] = set()

    def once(self, over: Callable[[], bool]) -> int:
        """Run one round now and return how many builds were sent. Stop early when ``over`` returns True.

        Raises KojiError, and what ``send`` raises.
        """
        now = datetime.now(timezone.utc)
        builds = self._work.completed(now - self._window, now - self._pause)
        reports = []
        for report in self._work.send(builds, self._send, self._sent):
            reports.append(report)
            if report.status == SENT:
                self._sent.add(report.build.id)
                log.info("catch-up: %s is missing: sent to the queue (%s)", report.build.nvr, one_line(report.detail))
            if over():
                break
        else:
            self._sent.intersection_update(build.id for build in builds)
            log.info("catch-up: %s", summary(reports))
        return sum(report.status == SENT for report in reports)


def message_of(build: Build) -> MissingMessage:
    """Return the message that says the build is complete, in Fedora's dialect; see ``events``.

    The id is always the same: the one that a message about this build gets if it comes without an id.
    """
    body = json.dumps(
        {
            "attribute": "state",
            "old": None,
            "new": BuildState.COMPLETE.value,
            "build_id": build.id,
            "name": build.name,
            "version": build.version,
            "release": build.release,
            "epoch": None,
            "owner": build.owner,
            "completion_time": build.completed_at.isoformat() if build.completed_at else None,
            "task": None,
            "request": None if build.target is None else [None, build.target],
        }
    ).encode()
    return MissingMessage(events.message_id_for(BuildEvent(build_id=build.id), body), body)


def moment(text: str, now: datetime) -> datetime:
    """Parse a point in time: ISO 8601, in UTC unless it has an offset, or an age before ``now``.

    Raises ValueError, with advice on what to write, if ``text`` is neither or lies in the future.
    """
    try:
        return now - timedelta(seconds=Duration.parse(text).seconds)
    except ValueError as error:
        if _AGE.fullmatch(text):
            raise ValueError(str(error)) from None
    try:
        parsed = times.parse_time(text)
    except ValueError:
        raise ValueError(_WHEN_HELP) from None
    if parsed > now + _AHEAD:
        raise ValueError("lies in the future")
    return parsed


def summary(reports: Iterable[BuildReport]) -> str:
    """Return one line with the number of builds in each status."""
    counts: defaultdict[str, int] = defaultdict(int)
    for report in reports:
        counts[report.status] += 1
    parts = [
        f"{counts[status]} {status}"
        for status in (SENT, MISSING, RELEASED, SKIPPED, IGNORED, UNDECIDED)
        if counts[status]
    ]
    total = sum(counts.values())
    return f"{total} operator build(s)" + (f": {', '.join(parts)}" if parts else "")
