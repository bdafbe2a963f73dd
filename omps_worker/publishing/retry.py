# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision what to do with a message once the outcomes of its work are known. It has no side effects.

Transient failures are retried after a delay: the configured delays in their order, then the last one repeatedly,
until ``give_up_after`` seconds have passed since a worker first received the message. A ``Retry-After`` selects another
delay. Permanent failures, and failures that last too long, are parked. A failure that never gives up, such as
OrganizationPaused, is retried without a time limit.

Targets are independent: the copy of the message names only those that are still open. If the mapping was edited and no
longer names one of them, the work is repeated for all targets, and those that are done are found to be released (see
``targets``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from omps_worker.common.errors import UnexpectedError, WorkerError
from omps_worker.common.model import Outcome, Status


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """The delay before a retry: in seconds, and as text as it is written in the configuration."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The delays of retries, in the order of attempts, and when to stop.

    ``give_up_after`` is in seconds, counted from the first receipt of the message.
    """

    delays: tuple[RetryDelay, ...]
    give_up_after: float

    @property
    def shortest(self) -> RetryDelay:
        """The shortest delay, for work that could not begin."""
        return min(self.delays, key=lambda delay: delay.seconds)

    def delay(self, attempt: int, retry_after: float | None) -> RetryDelay:
        """Return the delay after a failed attempt; ``attempt`` is counted from 1.

        If a peer asked for no requests for ``retry_after`` seconds, return the shortest delay that is at least that
        long, or the longest delay if none is.
        """
        if retry_after is None:
            return self.delays[min(attempt, len(self.delays)) - 1]
        ordered = sorted(self.delays, key=lambda delay: delay.seconds)
        return next((delay for delay in ordered if delay.seconds >= retry_after), ordered[-1])


@dataclass(frozen=True, slots=True)
class Park:
    """The decision to park a copy of the message in the failed queue.

    ``targets`` are the labels of the failed targets; None if the work failed before its targets were known. ``error``
    is the error that decided.
    """

    error: WorkerError
    targets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The decision to retry: a copy of the message waits for ``delay`` and comes back for ``targets``, as in ``Park``.

    ``counts`` says whether the retry counts as an attempt. It does not if the package was only busy.
    """

    error: WorkerError
    targets: tuple[str, ...] | None
    delay: RetryDelay
    counts: bool = True


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do with a message: report ``outcomes``, then make the copies, if any, then ack the message."""

    outcomes: tuple[Outcome, ...]
    parked: Park | None = None
    again: Retry | None = None


def decide(
    outcomes: Sequence[Outcome], *, attempt: int, first_seen: datetime, now: datetime, schedule: RetrySchedule
) -> RetryDecision:
    """Return which outcomes to report, and what to park and retry.

    A permanent failure is parked at once, even if another target of the same message is retried: each copy names its
    own targets.
    """
    given_up = (now - first_seen).total_seconds() >= schedule.give_up_after
    waiting = [outcome for outcome in outcomes if _transient(outcome) and not (given_up and _gives_up(outcome))]
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED and outcome not in waiting]
    parked = Park(_deciding_error(failed), _labels(failed)) if failed else None
    if not waiting:
        return RetryDecision(tuple(outcomes), parked)
    requested = [outcome.error.retry_after for outcome in waiting if outcome.error and outcome.error.retry_after]
    counts = any(outcome.error.counts for outcome in waiting if outcome.error)
    delay = schedule.delay(attempt, max(requested, default=None)) if counts or requested else schedule.shortest
    due = now + timedelta(seconds=delay.seconds)
    reported = tuple(
        replace(outcome, status=Status.RETRYING, reason=_reason(outcome), next_attempt_at=due)
        if outcome in waiting
        else outcome
        for outcome in outcomes
    )
    return RetryDecision(reported, parked, Retry(_deciding_error(waiting), _labels(waiting), delay, counts))


def _transient(outcome: Outcome) -> bool:
    return outcome.status is Status.FAILED and outcome.error is not None and outcome.error.transient


def _gives_up(outcome: Outcome) -> bool:
    return outcome.error is None or outcome.error.gives_up


def _reason(outcome: Outcome) -> str | None:
    return (outcome.error.reason if outcome.error else None) or outcome.error_name


def _deciding_error(failed: Sequence[Outcome]) -> WorkerError:
    errors = [outcome.error or UnexpectedError("The work failed without giving a reason.") for outcome in failed]
    # As long as a retry can help one target, its error is the one to report.
    return next((error for error in errors if error.transient), errors[0])


def _labels(outcomes: Sequence[Outcome]) -> tuple[str, ...] | None:
    labels = tuple(outcome.target.label for outcome in outcomes if outcome.target is not None)
    return labels if len(labels) == len(outcomes) else None
