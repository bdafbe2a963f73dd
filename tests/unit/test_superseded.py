# SPDX-License-Identifier: GPL-3.0-or-later
"""When a newer build stands in the way of an older one, and when it waits for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.errors import KojiError
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


class Site:
    """A Koji with the build, newer ones with these digests (None: it cannot be released), and older ones."""

    def __init__(self, *newer, older=()):
        self.contents = dict(enumerate(newer, BUILD.id + 1))
        others = [replace(BUILD, id=number) for number in self.contents]
        elders = [replace(BUILD, id=-number, completed_at=NOW - age) for number, age in enumerate(older)]
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
    assert site.order(late=True).superseded(below)
    assert not Site().order(late=True).superseded(below)
    assert site.looked_into == []


def test_work_in_time_is_superseded_only_by_what_is_on_top_already():
    order = Site("second", "newest").order()
    assert order.superseded({"newest"})
    assert not order.superseded({"second"})


def test_who_comes_first_asks_nobody():
    site = Site("newest")
    site.error = AssertionError("asked")
    assert not site.order().superseded(frozenset())


def test_the_newest_build_that_can_be_released_counts():
    site = Site("third", "second", None)
    order = site.order()
    assert order.superseded({"second"})
    assert not order.superseded({"third"})
    assert site.looked_into == [4, 3, 4, 3]


def test_not_every_build_there_ever_was_is_downloaded():
    site = Site(*[None] * 100)
    assert not site.order().superseded({"other"})
    assert len(site.looked_into) == NEWER_LOOKED_INTO


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


def test_a_hub_that_refuses_to_list_builds_keeps_nobody_who_is_in_time():
    site = Site("newest", older=[0.1 * MINUTE])
    site.error = KojiError.refusal("Koji's hub refuses listBuilds: no such method")
    assert not site.order().superseded({"newest"})
    assert not site.order().goes_last()
    with pytest.raises(KojiError):
        site.order(late=True).superseded({"newest"})


def test_a_hub_that_is_away_is_asked_again_later():
    site = Site("newest")
    site.error = KojiError("Koji's hub is offline")
    for ask in (lambda: site.order().superseded({"newest"}), site.order().goes_last, site.order().newest):
        with pytest.raises(KojiError):
            ask()
