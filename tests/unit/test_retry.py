# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from omps_worker import retry
from omps_worker.errors import KojiError, QuayCourierError, UnexpectedError
from omps_worker.model import Outcome, Status, Target


def outcome(status: Status, repository: str | None = "etcd", error=None) -> Outcome:
    target = Target("community", repository) if repository else None
    return Outcome(status, "community", repository, target=target, error=error)


def test_nothing_is_parked_when_nothing_failed():
    outcomes = [outcome(Status.PUBLISHED), outcome(Status.UNCHANGED), outcome(Status.SKIPPED)]
    assert retry.decide(outcomes) == retry.Disposition(tuple(outcomes), None)


def test_one_copy_names_the_targets_that_failed():
    permanent = QuayCourierError("no")
    parked = retry.decide(
        [outcome(Status.PUBLISHED, "a"), outcome(Status.FAILED, "b", permanent), outcome(Status.FAILED, "c", permanent)]
    ).parked
    assert parked == retry.Parked(permanent, ("community/b", "community/c"))


def test_a_transient_error_decides_before_a_permanent_one():
    transient = KojiError("away")
    parked = retry.decide(
        [outcome(Status.FAILED, "a", QuayCourierError("no")), outcome(Status.FAILED, "b", transient)]
    ).parked
    assert parked is not None
    assert parked.error is transient


def test_without_a_target_all_are_open():
    parked = retry.decide([outcome(Status.FAILED, None, KojiError("away"))]).parked
    assert parked is not None
    assert parked.targets is None


def test_a_failure_that_says_nothing_has_a_name_all_the_same():
    parked = retry.decide([outcome(Status.FAILED)]).parked
    assert parked is not None
    assert isinstance(parked.error, UnexpectedError)
