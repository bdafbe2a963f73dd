# SPDX-License-Identifier: GPL-3.0-or-later
"""When a newer build stands in the way of an older one, and when it waits for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Attempt, Build, Release
from omps_worker.publishing.superseded import LOOKED_INTO, OLDER_FOR, BuildOrder, is_late

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


class Site:
    """A Koji with the build, newer ones with these digests (None: it cannot be released), and older ones.

    ``older`` has ages, ``had`` the digests of builds that are older by a minute each, the latest first.
    """

    def __init__(self, *newer, older=(), had=()):
        self.contents = dict(enumerate(newer, BUILD.id + 1))
        others = [replace(BUILD, id=number) for number in self.contents]
        ages = [*older, *(number * MINUTE for number in range(1, len(had) + 1))]
        elders = [replace(BUILD, id=-number, completed_at=NOW - age) for number, age in enumerate(ages)]
        self.contents.update({-number: digest for number, digest in enumerate(had, len(older))})
        self.builds = sorted([BUILD, *others, *elders], key=lambda build: build.order, reverse=True)
        self.looked_into = []
        self.error = None

    def siblings(self, since):
        if self.error:
            raise self.error
        return iter([build for build in self.builds if build.completed_at >= since])

    def digest_of(self, build):
        self.looked_into.append(build.id)
        return self.contents[build.id]

    def order(self, build=BUILD, *, late=False):
        return BuildOrder(build, self.siblings, self.digest_of, late=late)


@pytest.mark.parametrize("below", [frozenset(), {"theirs"}])
def test_late_work_is_superseded_by_whatever_is_newer(below):
    site = Site("other")
    assert site.order(late=True).superseded(below, ())
    assert not Site().order(late=True).superseded(below, ())
    assert site.looked_into == []


def test_work_in_time_is_superseded_only_by_what_is_on_top_already():
    order = Site("second", "newest").order()
    assert order.superseded({"newest"}, ())
    assert not order.superseded({"second"}, ())


def test_who_comes_first_asks_nobody():
    site = Site("newest")
    site.error = AssertionError("asked")
    assert not site.order().superseded(frozenset(), ())


def test_the_newest_build_that_can_be_released_counts():
    site = Site("third", "second", None)
    order = site.order()
    assert order.superseded({"second"}, ())
    assert not order.superseded({"third"}, ())
    assert site.looked_into == [4, 3, 4, 3]


def test_not_every_build_there_ever_was_is_downloaded():
    site = Site(*[None] * 100)
    assert not site.order().superseded({"other"}, ())
    assert len(site.looked_into) == LOOKED_INTO


def test_the_newest_build_is_that_without_a_newer_one():
    assert not Site("other").order().newest()
    assert Site(older=[MINUTE]).order().newest()


def test_a_build_whose_time_of_completion_is_unknown_has_nothing_newer():
    order = Site("other").order(replace(BUILD, completed_at=None))
    assert order.newest()
    assert not order.goes_last()


@pytest.mark.parametrize(
    ("site", "late", "last"),
    [
        (Site(older=[0.4 * MINUTE]), False, True),
        (Site(older=[0.4 * MINUTE, 0.1 * MINUTE]), False, True),
        (Site(older=[0.6 * MINUTE]), False, False),
        (Site(), False, False),
        (Site("newer", older=[0.4 * MINUTE]), False, False),
        (Site(older=[0.4 * MINUTE]), True, False),
    ],
    ids=["one before it", "two before it", "one long before it", "alone", "in the middle", "late"],
)
def test_the_newest_of_those_completed_together_goes_last(site, late, last):
    assert site.order(late=late).goes_last() is last


# A build that went back to an earlier content


def listed(*digests):
    """Releases of these contents, in this order."""
    return tuple(Release(f"{number}.0.0", digest) for number, digest in enumerate(digests, 1))


def test_a_revert_goes_over_the_content_of_an_older_build():
    assert Site(had=["bad"]).order().reverts(listed("good", "bad"), "good")
    assert Site(had=["worse", "bad"]).order(late=True).reverts(listed("good", "bad"), "good")


@pytest.mark.parametrize(
    ("rolled_back", "reverts"),
    [(NOW + MINUTE, False), (NOW, False), (NOW - 0.5 * MINUTE, False), (NOW - 2 * MINUTE, True), (None, False)],
)
def test_a_rebuild_that_changed_nothing_goes_over_a_rollback_only_if_it_came_after_it(rolled_back, reverts):
    releases = [
        Release(f"{number}.0.0", digest, moment.isoformat() if moment else None)
        for number, (digest, moment) in enumerate(
            [("bad", NOW - 20 * MINUTE), ("good", NOW - 10 * MINUTE), ("bad", rolled_back)], 1
        )
    ]
    assert Site(had=["good", "bad"]).order().reverts(releases, "good") is reverts
    assert Site(had=["bad", "good"]).order().reverts(releases, "good")


def test_nothing_goes_over_what_came_from_elsewhere():
    site = Site(had=["older", "oldest"])
    assert not site.order().reverts(listed("good", "fixed by hand"), "good")
    assert site.looked_into == [0, -1]


def test_only_the_newest_build_can_be_a_revert():
    site = Site("newer", had=["bad"])
    assert not site.order().reverts(listed("good", "bad"), "good")
    assert site.looked_into == []


def test_content_that_is_on_top_is_no_revert_and_nobody_is_asked():
    site = Site()
    site.error = AssertionError("asked")
    assert not site.order().reverts(listed("bad", "good"), "good")


def test_not_every_build_there_ever_was_is_downloaded_to_know_what_is_on_top():
    site = Site(had=["other"] * 100)
    assert not site.order().reverts(listed("good", "bad"), "good")
    assert len(site.looked_into) == LOOKED_INTO


def test_what_is_on_top_is_not_known_from_builds_of_long_ago():
    site = Site(older=[OLDER_FOR + MINUTE])
    site.contents[0] = "bad"
    assert not site.order().reverts(listed("good", "bad"), "good")


def test_an_older_build_whose_archive_was_taken_away_is_not_known_to_be_on_top():
    def gone(_build):
        error = KojiError("Koji's file server does not have it")
        error.absent = True
        raise error

    site = Site(had=["bad"])
    order = BuildOrder(BUILD, site.siblings, gone, late=False)
    assert not order.reverts(listed("good", "bad"), "good")


def test_a_build_whose_time_of_completion_is_unknown_reverts_nothing():
    order = Site(had=["bad"]).order(replace(BUILD, completed_at=None))
    assert not order.reverts(listed("good", "bad"), "good")


# What is released since a newer build, and covered by something from elsewhere


def test_work_in_time_is_superseded_by_a_newer_build_that_is_released_below_something_from_elsewhere():
    made = NOW.isoformat()
    releases = (Release("1.0.0", "newest", made), Release("2.0.0", "elsewhere", made))
    assert Site("newest").order().superseded({"elsewhere"}, releases)


def test_a_newer_build_that_goes_back_to_a_content_of_old_supersedes_nothing_before_it_is_released_itself():
    before = (NOW - MINUTE).isoformat()
    releases = (Release("1.0.0", "newest", before), Release("2.0.0", "older", before))
    assert not Site("newest").order().superseded({"older"}, releases)


# A hub that does not answer


def test_a_hub_that_cannot_list_builds_keeps_nobody_who_is_in_time():
    site = Site("newest", older=[0.1 * MINUTE])
    site.error = KojiError("Koji's hub refuses listBuilds: Invalid method: listBuilds")
    site.error.lacking = True
    assert not site.order().superseded({"newest"}, ())
    assert not site.order().goes_last()
    assert not site.order().reverts(listed("good", "bad"), "good")
    with pytest.raises(KojiError):
        site.order(late=True).superseded({"newest"}, ())


def test_a_hub_that_is_away_is_asked_again_later():
    site = Site("newest")
    site.error = KojiError("Koji's hub is offline")
    questions = (
        lambda: site.order().superseded({"newest"}, ()),
        lambda: site.order().reverts(listed("good", "bad"), "good"),
        site.order().goes_last,
        site.order().newest,
    )
    for ask in questions:
        with pytest.raises(KojiError):
            ask()
