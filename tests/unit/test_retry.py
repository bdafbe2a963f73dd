# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a message once its outcomes are known."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.errors import KojiError, PackageBusy, QuayCourierError, UnexpectedError
from omps_worker.common.model import Outcome, Status, Target
from omps_worker.publishing import retry
from omps_worker.publishing.retry import RetryDelay, RetrySchedule

SHORT, MIDDLE, LONG = RetryDelay("10s", 10), RetryDelay("1m", 60), RetryDelay("1h", 3600)
LADDER = RetrySchedule((SHORT, MIDDLE, LONG), give_up_after=86400)
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
AWAY, REFUSED, BUSY = KojiError("away"), QuayCourierError("no"), PackageBusy("busy")


def outcome(status: Status, repository: str | None = "etcd", error=None) -> Outcome:
    target = Target("community", repository) if repository else None
    return Outcome(status, "community", repository, target=target, error=error)


def failed(error, repository: str | None = "etcd") -> Outcome:
    return outcome(Status.FAILED, repository, error)


def decide(*outcomes, attempt=1, age=0.0, ladder=LADDER):
    return retry.decide(outcomes, attempt=attempt, first_seen=NOW - timedelta(seconds=age), now=NOW, schedule=ladder)


def test_what_is_done_is_done():
    outcomes = [outcome(Status.PUBLISHED), outcome(Status.UNCHANGED), outcome(Status.SKIPPED)]
    assert decide(*outcomes) == retry.RetryDecision(tuple(outcomes))


def test_a_permanent_failure_is_parked_at_once_and_names_its_targets():
    disposition = decide(outcome(Status.PUBLISHED, "a"), failed(REFUSED, "b"), failed(REFUSED, "c"))
    assert disposition.parked == retry.Park(REFUSED, ("community/b", "community/c"))
    assert disposition.again is None


def test_a_transient_failure_is_tried_again_and_says_when():
    disposition = decide(failed(AWAY))
    assert disposition.parked is None
    assert disposition.again == retry.Retry(AWAY, ("community/etcd",), SHORT)
    (told,) = disposition.outcomes
    assert (told.status, told.reason, told.error) == (Status.RETRYING, "KojiError", AWAY)
    assert told.next_attempt_at == NOW + timedelta(seconds=10)


@pytest.mark.parametrize(("attempt", "delay"), [(1, SHORT), (2, MIDDLE), (3, LONG), (4, LONG), (1000, LONG)])
def test_each_further_try_waits_longer_and_the_last_delay_repeats(attempt, delay):
    assert decide(failed(AWAY), attempt=attempt).again.delay is delay


@pytest.mark.parametrize(("seconds", "delay"), [(1, SHORT), (10, SHORT), (10.5, MIDDLE), (61, LONG), (90_000, LONG)])
def test_a_peer_that_asks_for_time_gets_the_smallest_delay_not_below_it(seconds, delay):
    asks = QuayCourierError("busy", transient=True, retry_after=seconds)
    assert decide(failed(asks), attempt=2).again.delay is delay


def test_of_several_peers_the_most_patient_one_decides():
    eager, patient = (QuayCourierError("busy", transient=True, retry_after=seconds) for seconds in (1, 50))
    assert decide(failed(eager, "a"), failed(patient, "b")).again.delay is MIDDLE


@pytest.mark.parametrize("attempt", [1, 2, 1000])
def test_work_that_found_its_package_busy_comes_back_soon_and_used_up_no_attempt(attempt):
    disposition = decide(outcome(Status.PUBLISHED, "a"), failed(BUSY, "b"), attempt=attempt)
    assert disposition.again == retry.Retry(BUSY, ("community/b",), SHORT, counts=False)
    assert [told.status for told in disposition.outcomes] == [Status.PUBLISHED, Status.RETRYING]


def test_a_busy_package_does_not_hide_that_another_target_failed():
    assert decide(failed(BUSY, "a"), failed(AWAY, "b"), attempt=2).again == retry.Retry(
        BUSY, ("community/a", "community/b"), MIDDLE, counts=True
    )


def test_a_package_that_is_busy_for_too_long_is_given_up_like_everything_else():
    assert decide(failed(BUSY), age=90_000).parked == retry.Park(BUSY, ("community/etcd",))


def test_what_was_tried_for_too_long_is_parked_with_its_last_error():
    disposition = decide(failed(AWAY), attempt=40, age=86_400)
    assert disposition.again is None
    assert disposition.parked == retry.Park(AWAY, ("community/etcd",))
    assert [told.status for told in disposition.outcomes] == [Status.FAILED]


def test_a_site_may_want_no_retries_at_all():
    assert decide(failed(AWAY), ladder=RetrySchedule((SHORT,), 0)).again is None


def test_targets_go_their_own_ways():
    disposition = decide(outcome(Status.PUBLISHED, "a"), failed(REFUSED, "b"), failed(AWAY, "c"))
    assert disposition.parked == retry.Park(REFUSED, ("community/b",))
    assert disposition.again == retry.Retry(AWAY, ("community/c",), SHORT)
    assert [told.status for told in disposition.outcomes] == [Status.PUBLISHED, Status.FAILED, Status.RETRYING]


def test_when_all_that_failed_is_parked_the_transient_error_is_the_one_to_tell():
    assert decide(failed(REFUSED, "a"), failed(AWAY, "b"), age=90_000).parked.error is AWAY


def test_without_a_target_all_are_open():
    assert decide(failed(AWAY, None)).again.targets is None
    assert decide(failed(REFUSED, None)).parked.targets is None


def test_a_failure_that_says_nothing_has_a_name_all_the_same():
    assert isinstance(decide(outcome(Status.FAILED)).parked.error, UnexpectedError)
