# SPDX-License-Identifier: GPL-3.0-or-later
"""Old never on top: builds that come late or out of order, between our Koji and our registry."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omps_worker.common.model import Attempt, OperatorKind, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.parts import parts

RETRY, REPLAY = Attempt(2, interrupted=True), Attempt(interrupted=True, late=True)
FRESH, REDELIVERED, CATCH_UP = Attempt(), Attempt(interrupted=True), Attempt(late=True)
PUSH = "POST /cnr/api/v1/packages/.*"

TO_TWO_PLACES = """
version: 1
rules:
  - match: {component: "*-container", nvr: "*-2.*"}
    publish: [{organization: partners}]
  - match: {component: "*-container"}
    publish: [{organization: community}, {organization: partners}]
"""

RULE = """
version: 1
rules:
  - match: {component: "*-container"}
    superseded: %s
    publish: [{organization: community%s}]
"""


def content(number: int) -> bytes:
    return operators.zip_of(operators.flat_operator("lantern", version=f"1.0.{number}"))


def build_of(site, number, *, contents=None, minutes_ago=1.0, **more):
    """A build; ``contents`` says which content it has, if not one of its own."""
    completed_at = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago) + timedelta(milliseconds=number)
    more = {"manifests": content(number if contents is None else contents), **more}
    return site.koji.add_build("lantern-container", "1.0", str(number), completed_at=completed_at, **more)


def told(outcomes):
    assert isinstance(outcomes, list)
    return [(outcome.status, outcome.version or outcome.reason) for outcome in outcomes]


def only(outcomes):
    (outcome,) = told(outcomes)
    return outcome


SKIPPED = (Status.SKIPPED, "superseded")


@pytest.fixture
def site():
    with parts() as made:
        yield made


# Late work


@pytest.mark.parametrize("attempt", [RETRY, REPLAY, CATCH_UP])
def test_late_work_gives_way_to_a_newer_build_that_is_still_to_come(site, attempt):
    older, newer = build_of(site, 1), build_of(site, 2)
    assert only(site.process(older, attempt)) == SKIPPED
    assert site.registry.packages() == ()
    assert only(site.process(newer, attempt)) == (Status.PUBLISHED, "1.0.0")


def test_a_message_about_a_build_of_long_ago_comes_late(site):
    older, newer = build_of(site, 1, minutes_ago=11), build_of(site, 2, minutes_ago=10.5)
    assert only(site.process(older)) == SKIPPED
    assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")


@pytest.mark.parametrize("attempt", [FRESH, REDELIVERED])
def test_work_in_time_does_not_give_way_to_what_is_still_to_come(site, attempt):
    older, newer = build_of(site, 1), build_of(site, 2)
    assert only(site.process(older, attempt)) == (Status.PUBLISHED, "1.0.0")
    assert only(site.process(newer, attempt)) == (Status.PUBLISHED, "2.0.0")


@pytest.mark.parametrize("attempt", [FRESH, REDELIVERED])
def test_work_that_was_overtaken_does_not_come_out_on_top(site, attempt):
    older, newer = build_of(site, 1), build_of(site, 2)
    assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")
    assert only(site.process(older, attempt)) == SKIPPED
    assert site.versions("community", "lantern") == ["1.0.0"]


@pytest.mark.parametrize("attempt", [FRESH, REDELIVERED])
def test_what_was_overtaken_by_another_that_is_not_the_newest_is_published_as_the_newest_is_still_to_come(
    site, attempt
):
    first, second, third = (build_of(site, number) for number in range(3))
    assert only(site.process(second)) == (Status.PUBLISHED, "1.0.0")
    assert only(site.process(first, attempt)) == (Status.PUBLISHED, "2.0.0")
    assert only(site.process(third)) == (Status.PUBLISHED, "3.0.0")


def test_builds_that_are_completed_together_all_become_releases_and_the_newest_the_last():
    with parts(quiet=2.0) as site:
        builds = [build_of(site, number) for number in range(12)]
        with ThreadPoolExecutor(12) as threads:
            outcomes = list(map(only, threads.map(site.process, reversed(builds))))
        assert {status for status, _ in outcomes} == {Status.PUBLISHED}
        assert site.versions("community", "lantern") == [f"{number}.0.0" for number in range(1, 13)]
        assert outcomes[0] == (Status.PUBLISHED, "12.0.0")


def test_a_build_that_is_completed_alone_waits_for_nobody():
    with parts(quiet=1e9) as site:
        build_of(site, 1, minutes_ago=5)
        assert only(site.process(build_of(site, 2))) == (Status.PUBLISHED, "1.0.0")


@pytest.mark.parametrize("more", [{"dry_run": True}, {"new_release": True}, {"version": "7.0.0"}], ids=str)
def test_who_asks_by_hand_for_something_certain_waits_for_nobody(more):
    with parts(quiet=1e9) as site:
        build_of(site, 1)
        (outcome,) = site.process(build_of(site, 2), **more)
        assert outcome.status is Status.PUBLISHED


def test_a_newer_build_that_can_never_be_released_overtakes_nobody(site):
    oldest, older = build_of(site, 1), build_of(site, 2)
    build_of(site, 3, manifests=b"no zip")
    assert only(site.process(older)) == (Status.PUBLISHED, "1.0.0")
    assert only(site.process(oldest)) == SKIPPED


def test_when_the_newer_build_cannot_be_looked_into_now_the_work_is_tried_again(site):
    older, newer = build_of(site, 1), build_of(site, 2)
    site.process(newer)
    site.processor._orders._digests.clear()  # it was done by another worker
    site.koji.faults.add(Fault("GET /kojiroot/.*/2/.*", status=503))
    (outcome,) = site.process(older)
    assert (outcome.status, outcome.error.name, outcome.error.transient) == (Status.FAILED, "KojiError", True)
    assert only(site.process(older, RETRY)) == SKIPPED


def test_when_koji_does_not_answer_late_work_is_tried_again(site):
    older = build_of(site, 1)
    build_of(site, 2)
    site.koji.faults.add(Fault("POST /kojihub", after=4, status=502))
    (outcome,) = site.process(older, RETRY)
    assert (outcome.error.name, outcome.error.transient) == ("KojiError", True)
    assert site.registry.packages() == ()


@pytest.mark.parametrize(
    "other",
    [{"target": "otters-2-candidate"}, {"task": False}, {"kind": OperatorKind.BUNDLE}, {"manifests": None}],
    ids=str,
)
def test_what_is_of_another_target_or_no_operator_does_not_supersede(site, other):
    build = build_of(site, 1)
    build_of(site, 2, **other)
    assert only(site.process(build, RETRY)) == (Status.PUBLISHED, "1.0.0")


def test_a_build_gives_way_only_where_the_newer_one_goes():
    with parts(TO_TWO_PLACES) as site:
        older = build_of(site, 1)
        site.koji.add_build("lantern-container", "2.0", "1", manifests=content(2))
        community, partners = told(site.process(older, RETRY))
        assert (community, partners) == ((Status.PUBLISHED, "1.0.0"), SKIPPED)


def test_a_rule_may_ask_for_old_builds_too():
    with parts(RULE % ("publish", "")) as site:
        older, newer = build_of(site, 1), build_of(site, 2)
        assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")
        assert only(site.process(older, RETRY)) == (Status.PUBLISHED, "2.0.0")
        assert only(site.process(newer, RETRY)) == (Status.PUBLISHED, "1.0.0")
        assert site.versions("community", "lantern") == ["1.0.0", "2.0.0"]


def test_who_asks_for_a_new_release_gets_one_of_an_old_build(site):
    older, newer = build_of(site, 1, minutes_ago=60), build_of(site, 2, minutes_ago=50)
    site.process(newer)
    assert only(site.process(older)) == SKIPPED
    assert only(site.process(older, new_release=True)) == (Status.PUBLISHED, "2.0.0")


def test_a_dry_run_says_that_a_build_would_give_way(site):
    older = build_of(site, 1, minutes_ago=60)
    build_of(site, 2, minutes_ago=50)
    assert only(site.process(older, dry_run=True)) == SKIPPED


def test_a_version_of_the_operators_own_gives_way_as_well_when_it_comes_late():
    with parts(RULE % ("skip", ", version: csv")) as site:
        older = build_of(site, 1)
        build_of(site, 2)
        assert only(site.process(older, RETRY)) == SKIPPED


def test_a_version_below_the_highest_does_not_come_out_on_top_and_is_published_in_time():
    with parts(RULE % ("skip", ", version: csv")) as site:
        older, newer = build_of(site, 1), build_of(site, 2)
        assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.2")
        assert only(site.process(older)) == (Status.PUBLISHED, "1.0.1")


# What is released already


@pytest.mark.parametrize(("attempt", "status"), [(FRESH, Status.UNCHANGED), (RETRY, Status.PUBLISHED)])
def test_an_old_build_that_is_released_already_is_named_and_not_skipped(site, attempt, status):
    older, newer = build_of(site, 1), build_of(site, 2)
    site.process(older)
    site.process(newer)
    assert only(site.process(older, attempt)) == (status, "1.0.0")
    assert site.versions("community", "lantern") == ["1.0.0", "2.0.0"]


@pytest.mark.parametrize("attempt", [FRESH, REDELIVERED, RETRY, CATCH_UP])
def test_a_build_that_goes_back_to_an_old_content_is_published_again(site, attempt):
    good, bad = build_of(site, 1), build_of(site, 2)
    site.process(good)
    site.process(bad)
    revert = build_of(site, 3, contents=1)
    assert only(site.process(revert, attempt)) == (Status.PUBLISHED, "3.0.0")
    first, _, last = site.registry.releases("community", "lantern")
    assert first.digest == last.digest
    assert only(site.process(revert)) == (Status.UNCHANGED, "3.0.0")
    assert only(site.process(revert, RETRY)) == (Status.PUBLISHED, "3.0.0")
    assert only(site.process(bad, RETRY)) == (Status.PUBLISHED, "2.0.0")
    assert len(site.versions("community", "lantern")) == 3


def test_a_revert_whose_answer_was_lost_is_not_published_a_third_time(site):
    site.process(build_of(site, 1))
    site.process(build_of(site, 2))
    revert = build_of(site, 3, contents=1)
    site.registry.faults.add(Fault(PUSH, drop_answer=True))
    assert only(site.process(revert)) == (Status.PUBLISHED, "3.0.0")
    assert site.versions("community", "lantern") == ["1.0.0", "2.0.0", "3.0.0"]


def test_an_old_content_stays_where_it_is_when_a_newer_build_follows_the_revert(site):
    site.process(build_of(site, 1))
    site.process(build_of(site, 2))
    revert = build_of(site, 3, contents=1)
    build_of(site, 4)
    assert only(site.process(revert)) == (Status.UNCHANGED, "1.0.0")


def test_the_first_push_of_a_redelivered_message_is_no_revert(site):
    build = build_of(site, 1)
    site.process(build)
    assert only(site.process(build, REDELIVERED)) == (Status.PUBLISHED, "1.0.0")
    assert site.versions("community", "lantern") == ["1.0.0"]


def released_in_turn(site, *contents, ago=30.0, **more):
    """Builds with these contents, each completed and released before the next one is."""
    builds = []
    for number, each in enumerate(contents, 1):
        builds.append(build_of(site, number, contents=each, minutes_ago=ago - number, **more))
        site.process(builds[-1])
    return builds


def test_a_build_that_goes_back_and_forth_is_published_each_time(site):
    # Minutes lie between a release and the next build that is completed.
    now = datetime.now(timezone.utc)
    for number, contents in enumerate((1, 2, 1, 2, 1)):
        build = site.koji.add_build(
            "lantern-container",
            "1.0",
            str(number),
            manifests=content(contents),
            completed_at=now + timedelta(minutes=5 * number),
        )
        assert only(site.process(build)) == (Status.PUBLISHED, f"{number + 1}.0.0")


# What is on top came from elsewhere


ELSEWHERE = {
    "another target": {"target": "otters-2-candidate"},
    "no target": {"task": False},
}
AGAIN = [FRESH, REDELIVERED, RETRY, REPLAY, CATCH_UP]


def again_and_again(site, builds, times=20):
    """Process each build many times; the versions of the package before and after that."""
    before = site.versions("community", "lantern")
    for number in range(times):
        for build in builds:
            status, _ = only(site.process(build, AGAIN[number % len(AGAIN)]))
            assert status in {Status.UNCHANGED, Status.PUBLISHED, Status.SKIPPED}
    return before, site.versions("community", "lantern")


@pytest.mark.parametrize("ago", [5.0, 60.0])
@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
def test_builds_of_two_targets_are_each_released_once(site, elsewhere, ago):
    builds = [build_of(site, 1, minutes_ago=ago), build_of(site, 2, minutes_ago=ago, **elsewhere)]
    assert [only(site.process(build)) for build in builds] == [
        (Status.PUBLISHED, "1.0.0"),
        (Status.PUBLISHED, "2.0.0"),
    ]
    before, after = again_and_again(site, builds)
    assert before == after == ["1.0.0", "2.0.0"]


def test_components_that_bring_the_same_package_are_each_released_once(site):
    other = site.koji.add_build("beacon-container", "1.0", "1", manifests=content(2))
    builds = [build_of(site, 1), other]
    for build in builds:
        site.process(build)
    before, after = again_and_again(site, builds)
    assert before == after == ["1.0.0", "2.0.0"]


def test_targets_whose_contents_change_places_do_not_go_on_for_ever(site):
    one, two = ({"target": "otters-1-candidate"}, {"target": "otters-2-candidate"})
    builds = [
        build_of(site, number, contents=contents, **where)
        for number, (contents, where) in enumerate([(1, one), (2, two), (2, one), (1, two)])
    ]
    again_and_again(site, builds, times=2)
    before, after = again_and_again(site, builds)
    assert before == after


def test_a_hot_fix_from_a_file_stays_on_top(site, tmp_path):
    builds = released_in_turn(site, 1, 2)
    archive = tmp_path / "fix.zip"
    archive.write_bytes(content(7))
    (fix,) = site.processor.process_archive(archive, PushRequest(organization="community"))
    assert (fix.status, fix.version) == (Status.PUBLISHED, "3.0.0")
    before, after = again_and_again(site, builds)
    assert before == after == ["1.0.0", "2.0.0", "3.0.0"]


def test_a_hot_fix_gives_way_to_the_next_build(site, tmp_path):
    released_in_turn(site, 1)
    archive = tmp_path / "fix.zip"
    archive.write_bytes(content(7))
    site.processor.process_archive(archive, PushRequest(organization="community"))
    assert only(site.process(build_of(site, 2))) == (Status.PUBLISHED, "3.0.0")


@pytest.mark.parametrize("ago", [5.0, 60.0])
def test_a_rollback_stays_on_top(site, ago):
    old, new = released_in_turn(site, 1, 2, ago=ago)
    assert only(site.process(old, new_release=True)) == (Status.PUBLISHED, "3.0.0")
    before, after = again_and_again(site, [new, old])
    assert before == after == ["1.0.0", "2.0.0", "3.0.0"]


def test_a_rollback_gives_way_to_the_next_build_also_if_that_has_the_content_that_was_taken_back(site):
    old, _ = released_in_turn(site, 1, 2)
    site.process(old, new_release=True)
    later = datetime.now(timezone.utc) + timedelta(minutes=5)
    build = site.koji.add_build("lantern-container", "1.0", "3", manifests=content(2), completed_at=later)
    assert only(site.process(build)) == (Status.PUBLISHED, "4.0.0")
    before, after = again_and_again(site, [old, build], times=4)
    assert before == after


def test_work_in_time_does_not_come_out_on_top_of_a_newer_build_that_something_from_elsewhere_covers(site):
    older, newer = build_of(site, 1), build_of(site, 2)
    assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")
    site.process(build_of(site, 3, target="otters-2-candidate"))
    assert only(site.process(older)) == SKIPPED


def test_to_know_what_is_on_top_few_archives_are_downloaded_and_each_once(site):
    builds = released_in_turn(site, 1, 2, 3, 4, 5, 6)
    site.process(build_of(site, 9, target="otters-2-candidate"))
    site.processor._orders._digests.clear()  # by another worker

    def downloads():
        return sum("/files/" in entry.target for entry in site.koji.log)

    before = downloads()
    for _ in range(3):
        assert only(site.process(builds[-1], CATCH_UP)) == (Status.UNCHANGED, "6.0.0")
    assert downloads() - before == 3 + 3


def test_content_that_is_on_top_is_not_looked_for_in_koji(site):
    build = build_of(site, 1)
    site.process(build)
    before = len(site.koji.calls)
    assert only(site.process(build, CATCH_UP)) == (Status.UNCHANGED, "1.0.0")
    assert "listBuilds" not in site.koji.calls[before:]


# The database of the hub has a bad moment


def test_late_work_waits_for_a_hub_whose_database_has_a_bad_moment(site):
    older, newer = build_of(site, 1), build_of(site, 2)
    assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")
    for attempt in (FRESH, REDELIVERED, RETRY, REPLAY):
        site.koji.break_call("listBuilds", "canceling statement due to statement timeout")
        (outcome,) = site.process(older, attempt)
        assert (outcome.error.name, outcome.error.transient) == ("KojiError", True)
        assert "statement timeout" in outcome.error.message
        site.koji.recover()
    assert only(site.process(older)) == SKIPPED
    assert site.versions("community", "lantern") == ["1.0.0"]


def test_a_hub_that_has_no_lists_of_builds_keeps_nothing_that_is_in_time(site):
    older, newer = build_of(site, 1), build_of(site, 2)
    site.koji.remove_call("listBuilds")
    assert only(site.process(newer)) == (Status.PUBLISHED, "1.0.0")
    assert only(site.process(older)) == (Status.PUBLISHED, "2.0.0")
    assert only(site.process(newer)) == (Status.UNCHANGED, "1.0.0")
    (late,) = site.process(build_of(site, 0), RETRY)
    assert (late.error.name, late.error.transient) == ("KojiError", True)


def test_the_version_of_a_revert_is_the_operators_own_where_the_rule_says_so():
    with parts(RULE % ("skip", ", version: csv")) as site:
        site.process(build_of(site, 1))
        site.process(build_of(site, 2))
        assert only(site.process(build_of(site, 3, contents=1))) == (Status.UNCHANGED, "1.0.1")


# Whatever the order


ATTEMPTS = (FRESH, REDELIVERED, RETRY, REPLAY, CATCH_UP)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 5).flatmap(
        lambda count: st.tuples(
            st.permutations(list(range(count))),
            st.lists(st.tuples(st.integers(0, count - 1), st.sampled_from(ATTEMPTS)), max_size=4),
            st.lists(st.sampled_from(ATTEMPTS), min_size=count, max_size=count),
            st.lists(st.integers(0, count - 1), min_size=count, max_size=count),
            st.lists(st.sampled_from((1.0, 60.0)), min_size=count, max_size=count),
        )
    )
)
def test_the_newest_build_ends_on_top_whatever_comes_late(story):
    order, repeats, attempts, contents, ages = story
    ages = sorted(ages, reverse=True)
    with parts() as site:
        builds = [
            build_of(site, number, contents=contents[number], minutes_ago=ages[number]) for number in range(len(order))
        ]
        for number, attempt in [*zip(order, attempts, strict=True), *repeats]:
            site.process(builds[number], attempt)
        newest = site.processor.process_build(
            site.builds.find(build_id=builds[-1]["id"]), FRESH, PushRequest(dry_run=True)
        )
        assert told(newest) == [(Status.UNCHANGED, site.versions("community", "lantern")[-1])]
        digests = [release.digest for release in site.registry.releases("community", "lantern")]
        assert all(one != other for one, other in pairwise(digests))


TARGETS = ("otters-1-candidate", "otters-2-candidate")
DEEDS = st.one_of(
    st.tuples(st.just("build"), st.integers(1, 3), st.sampled_from(TARGETS)),
    st.tuples(st.just("hot-fix"), st.integers(1, 4), st.none()),
    st.tuples(st.just("rollback"), st.integers(0, 7), st.none()),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(DEEDS, min_size=2, max_size=8), st.sampled_from((5.0, 600.0)), st.randoms(use_true_random=False))
def test_whatever_was_built_and_done_by_hand_repeated_messages_soon_release_nothing_more(deeds, ago, chance):
    with parts() as site:
        builds = []
        for number, (deed, which, target) in enumerate(deeds):
            if deed == "build":
                age = ago - number * 0.1
                builds.append(build_of(site, number, contents=which, target=target, minutes_ago=age))
                site.process(builds[-1])
            elif deed == "rollback" and builds:
                site.process(builds[which % len(builds)], new_release=True)
            elif deed == "hot-fix":
                with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
                    Path(archive.name).write_bytes(content(which))
                    site.processor.process_archive(Path(archive.name), PushRequest(organization="community"))
        again_and_again(site, chance.sample(builds, len(builds)), times=2)
        before, after = again_and_again(site, chance.sample(builds, len(builds)), times=5)
        assert before == after


def test_the_newest_of_many_builds_that_are_redelivered_at_once_ends_on_top(site):
    builds = [build_of(site, number) for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        redelivered = threads.map(site.process, reversed(builds), [REDELIVERED] * len(builds))
        outcomes = [only(outcomes) for outcomes in redelivered]
    assert {status for status, _ in outcomes} <= {Status.PUBLISHED, Status.SKIPPED}
    assert outcomes[0] == (Status.PUBLISHED, site.versions("community", "lantern")[-1])
