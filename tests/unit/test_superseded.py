# SPDX-License-Identifier: GPL-3.0-or-later
"""When a newer build stands in the way of an older one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.model import Attempt, Build
from omps_worker.superseded import NEWER_LOOKED_INTO, BuildOrder, is_late

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
BUILD = Build(1, "otter-container-1.0-1", "otter-container", "1.0", "1", state=1, completed_at=NOW)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("attempt", "age", "late"),
    [
        (Attempt(), 9 * MINUTE, False),
        (Attempt(), 11 * MINUTE, True),
        (Attempt(), -MINUTE, False),
        (Attempt(2, interrupted=True), MINUTE, True),
        (Attempt(late=True), MINUTE, True),
        (Attempt(interrupted=True), MINUTE, False),
    ],
)
def test_retries_replays_and_old_builds_come_late(attempt, age, late):
    assert is_late(replace(BUILD, completed_at=NOW - age), attempt, NOW) is late


def test_a_build_that_does_not_know_when_it_was_completed_comes_late_only_when_its_message_does():
    unknown = replace(BUILD, completed_at=None)
    assert not is_late(unknown, Attempt(), NOW)
    assert is_late(unknown, Attempt(2), NOW)


def newer(*digests):
    """The order of a build with one newer build for each digest; None: it cannot be released."""
    builds = [replace(BUILD, id=number) for number, _ in enumerate(digests, 2)]
    contents = dict(zip((build.id for build in builds), digests, strict=True))
    asked = []

    def digest_of(build):
        asked.append(build.id)
        return contents[build.id]

    return builds, digest_of, asked


@pytest.mark.parametrize("below", [frozenset(), {"theirs"}])
def test_late_work_is_superseded_by_whatever_is_newer(below):
    builds, digest_of, asked = newer("other")
    assert BuildOrder(lambda: builds, digest_of, late=True).superseded(below)
    assert not BuildOrder(list, digest_of, late=True).superseded(below)
    assert asked == []


def test_redelivered_work_is_superseded_only_by_what_is_on_top_already():
    builds, digest_of, _ = newer("newest")
    order = BuildOrder(lambda: builds, digest_of, late=False, redelivered=True)
    assert order.superseded({"newest"})
    assert not order.superseded({"another"})


def test_work_in_time_asks_nobody():
    def nobody():
        raise AssertionError("asked")

    assert not BuildOrder(nobody, nobody, late=False, redelivered=True).superseded(frozenset())
    assert not BuildOrder(nobody, nobody, late=False).superseded({"newest"})


def test_the_newest_build_that_can_be_released_counts():
    builds, digest_of, asked = newer(None, "second", "third")
    order = BuildOrder(lambda: builds, digest_of, late=False, redelivered=True)
    assert order.superseded({"second"})
    assert not order.superseded({"third"})
    assert asked == [2, 3, 2, 3]


def test_not_every_build_there_ever_was_is_downloaded():
    builds, digest_of, asked = newer(*[None] * 100)
    assert not BuildOrder(lambda: builds, digest_of, late=False, redelivered=True).superseded({"other"})
    assert len(asked) == NEWER_LOOKED_INTO


def test_the_newest_build_is_that_without_a_newer_one():
    builds, digest_of, _ = newer("other")
    assert not BuildOrder(lambda: iter(builds), digest_of, late=False).newest()
    assert BuildOrder(lambda: iter(()), digest_of, late=False).newest()
