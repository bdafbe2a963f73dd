# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a message once the outcomes of its work are known. Pure: it decides, others do.

What failed for the time being is tried again after a delay, and each further try waits longer;
the last delay repeats until the message has been around for too long. What failed for good, or
for too long, is parked. Targets are independent: those that are done are never done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from omps_worker.common.errors import UnexpectedError, WorkerError
from omps_worker.common.model import Outcome, Status


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """How long a retry waits: in seconds, and as it is written in the configuration."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The delays, each longer than the one before, and how many seconds after the first receipt to stop."""

    delays: tuple[RetryDelay, ...]
    give_up_after: float

    @property
    def shortest(self) -> RetryDelay:
        """For work that did not even begin."""
        return min(self.delays, key=lambda delay: delay.seconds)

    def delay(self, attempt: int, retry_after: float | None) -> RetryDelay:
        """How long to wait after the failure of an attempt, counted from 1.

        ``retry_after``: the seconds that a peer asked to be left alone; then the smallest delay
        that is not shorter, or the longest there is.
        """
        if retry_after is None:
            return self.delays[min(attempt, len(self.delays)) - 1]
        ordered = sorted(self.delays, key=lambda delay: delay.seconds)
        return next((delay for delay in ordered if delay.seconds >= retry_after), ordered[-1])


@dataclass(frozen=True, slots=True)
class Park:
    """A copy of the message goes to the failed queue.

    ``targets`` are the labels of those that failed; None where the work did not get as far as
    targets. ``error`` is the one that decided.
    """

    error: WorkerError
    targets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Retry:
    """A copy of the message waits for ``delay`` and comes back, for ``targets`` as in ``Park``.

    ``counts``: as a further attempt. Not where the work only found its package busy.
    """

    error: WorkerError
    targets: tuple[str, ...] | None
    delay: RetryDelay
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Disposition:
    """``outcomes`` are to be told; then the copies are made, if any; then the message is acked."""

    outcomes: tuple[Outcome, ...]
    parked: Park | None = None
    again: Retry | None = None


def decide(
    outcomes: Sequence[Outcome], *, attempt: int, first_seen: datetime, now: datetime, ladder: RetrySchedule
) -> Disposition:
    """What to tell, what to park and what to try again.

    A permanent failure is parked at once, also when another target of the same message is tried
    again: each copy names its own targets.
    """
    given_up = (now - first_seen).total_seconds() >= ladder.give_up_after
    waiting = [outcome for outcome in outcomes if _transient(outcome) and not (given_up and _gives_up(outcome))]
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED and outcome not in waiting]
    parked = Park(_deciding(failed), _labels(failed)) if failed else None
    if not waiting:
        return Disposition(tuple(outcomes), parked)
    asked = [outcome.error.retry_after for outcome in waiting if outcome.error and outcome.error.retry_after]
    counts = any(outcome.error.counts for outcome in waiting if outcome.error)
    delay = ladder.delay(attempt, max(asked, default=None)) if counts or asked else ladder.shortest
    due = now + timedelta(seconds=delay.seconds)
    told = tuple(
        replace(outcome, status=Status.RETRYING, reason=_reason(outcome), next_attempt_at=due)
        if outcome in waiting
        else outcome
        for outcome in outcomes
    )
    return Disposition(told, parked, Retry(_deciding(waiting), _labels(waiting), delay, counts))


def _transient(outcome: Outcome) -> bool:
    return outcome.status is Status.FAILED and outcome.error is not None and outcome.error.transient


def _gives_up(outcome: Outcome) -> bool:
    return outcome.error is None or outcome.error.gives_up


def _reason(outcome: Outcome) -> str | None:
    return (outcome.error.reason if outcome.error else None) or outcome.error_name


def _deciding(failed: Sequence[Outcome]) -> WorkerError:
    errors = [outcome.error or UnexpectedError("The work failed without saying why.") for outcome in failed]
    # As long as trying again can help one target, that is what to tell.
    return next((error for error in errors if error.transient), errors[0])


def _labels(outcomes: Sequence[Outcome]) -> tuple[str, ...] | None:
    labels = tuple(outcome.target.label for outcome in outcomes if outcome.target is not None)
    return labels if len(labels) == len(outcomes) else None
