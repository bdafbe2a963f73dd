# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds whose messages never came: which of a period have no release.

The bus loses messages at its source, so now and then Koji is asked what was completed. Each build is
then gone through as ``explain`` does, up to but without the push: the digest of its content tells
whether it is released. What is missing gets the message that should have come.
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
from omps_worker.common.model import Attempt, Build, BuildEvent, BuildState, Ignored, Outcome, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping import MappingHolder, Match
from omps_worker.configuration.settings.units import Duration
from omps_worker.messages import events
from omps_worker.publishing.processor import DRAFT_BUILD, Processor
from omps_worker.publishing.superseded import LATE_AFTER, SKIP, SUPERSEDED
from omps_worker.publishing.targets import IGNORED_BY_RULE, NO_RULE

log = logging.getLogger(__name__)

MISSING, SENT, RELEASED, SKIPPED, IGNORED = "missing", "sent", "released", "skipped", "ignored"
UNDECIDED = "undecided"
"""What is found out about a build. ``sent``: it was missing and got its message. ``undecided``: Koji
or the registry could not be asked."""

CATCH_UP_TOPIC = "omps.catch-up"
"""The topic that results name as that of their source."""

_AHEAD = timedelta(minutes=5)
"""How far a clock may be ahead of ours before a time counts as lying in the future."""

_AGE = re.compile(r"[0-9.]+ *[A-Za-z]+")
_WHEN_HELP = 'must be a date or time such as 2026-11-21 or 2026-11-21T08:30:00Z (UTC), or an age such as "24h" or "7d"'


class Builds(Protocol):
    """The part of Koji that this needs; see ``koji_client.builds.KojiBuilds``."""

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """The operator builds of a period, in the order of their completion."""
        ...


@dataclass(frozen=True, slots=True)
class BuildReport:
    """A build, and what was found out about it."""

    build: Build
    status: str
    reason: str | None = None
    outcomes: Sequence[Outcome] = ()

    def as_json(self) -> dict[str, Any]:
        """One element of what ``catch-up --json`` prints."""
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
                    "repository": outcome.repo,
                    "version": outcome.version,
                    "status": outcome.status.value,
                }
                for outcome in self.outcomes
                if outcome.organization is not None
            ],
        }


@dataclass(frozen=True, slots=True)
class MissingMessage:
    """A message about a build that is complete, as the build system would have sent it."""

    id: str
    body: bytes


class CatchUp:
    """Goes through builds; changes nothing."""

    def __init__(self, builds: Builds, mapping: MappingHolder, processor: Processor) -> None:
        self._builds = builds
        self._mapping = mapping
        self._processor = processor

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """The operator builds that there were, in the order of their completion. Raises KojiError."""
        return self._builds.completed(since, until)

    def look_into(self, builds: Sequence[Build]) -> Iterator[BuildReport]:
        """What there is to say about each, in their order, and as soon as it is known.

        A build is missing if one of its targets has no release of its content, and also if it can
        never have one: then its message leads to a failure that is recorded. Content that is released
        is not missing, wherever it lies.
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
        """The same, and the message of each that is missing is handed to ``send``, but not of ``sent_before``."""
        for found in self.look_into(builds):
            if found.status == MISSING and found.build.id not in sent_before:
                send(message_of(found.build))
                yield replace(found, status=SENT)
            else:
                yield found

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


def _overtaken(builds: Sequence[Build], matches: Sequence[Match | None]) -> set[int]:
    """The ids of builds that a newer one of the same list supersedes wherever they go."""
    overtaken = set()
    newer: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for build, match in reversed(list(zip(builds, matches, strict=True))):
        organizations = {target.organization for target in match.targets} if match else set()
        known = newer[build.name, build.target]
        if match and match.superseded == SKIP and organizations <= known:
            overtaken.add(build.id)
        known |= organizations
    return overtaken


class ScheduledCatchUp:
    """A catch-up that is done every ``every`` seconds, each time ``window`` seconds back.

    It leaves out what was completed just now, as far as the next one will see it: messages need a
    while. No build is sent twice; who failed for good is parked by then.
    """

    def __init__(self, work: CatchUp, every: float, window: float, send: Callable[[MissingMessage], object]) -> None:
        self._work = work
        self._pause = min(timedelta(seconds=every), LATE_AFTER)
        self._window = timedelta(seconds=window)
        self._send = send
        self._sent: set[int] = set()

    def once(self, over: Callable[[], bool]) -> int:
        """Do it now, until ``over``; how many builds were sent. Raises KojiError, and what ``send`` raises."""
        now = datetime.now(timezone.utc)
        builds = self._work.completed(now - self._window, now - self._pause)
        found = []
        for each in self._work.send(builds, self._send, self._sent):
            found.append(each)
            if each.status == SENT:
                self._sent.add(each.build.id)
                log.info("catch-up: %s has no release: sent to the queue", each.build.nvr)
            if over():
                break
        else:
            self._sent.intersection_update(build.id for build in builds)
            log.info("catch-up: %s", summary(found))
        return sum(each.status == SENT for each in found)


def message_of(build: Build) -> MissingMessage:
    """The message that says the build is complete, in Fedora's dialect; see ``events``.

    It always has the same id, that of a message about this build which came without one.
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
    """A point in time as people write it: ISO 8601, UTC unless it has an offset, or an age before ``now``.

    Raises ValueError, with what to write instead, also for what lies in the future.
    """
    try:
        return now - timedelta(seconds=Duration.parse(text).seconds)
    except ValueError as error:
        if _AGE.fullmatch(text):
            raise ValueError(str(error)) from None
    try:
        found = times.moment(text)
    except ValueError:
        raise ValueError(_WHEN_HELP) from None
    if found > now + _AHEAD:
        raise ValueError("lies in the future")
    return found


def summary(found: Iterable[BuildReport]) -> str:
    """How many of each there were, on one line."""
    counts: defaultdict[str, int] = defaultdict(int)
    for each in found:
        counts[each.status] += 1
    parts = [
        f"{counts[status]} {status}"
        for status in (SENT, MISSING, RELEASED, SKIPPED, IGNORED, UNDECIDED)
        if counts[status]
    ]
    total = sum(counts.values())
    return f"{total} operator build(s)" + (f": {', '.join(parts)}" if parts else "")
