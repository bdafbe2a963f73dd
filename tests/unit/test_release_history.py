# SPDX-License-Identifier: GPL-3.0-or-later
"""What the list of a package's releases tells about which content came when."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.model import Release
from omps_worker.destinations.release_history import (
    CLOCKS_DIFFER,
    below,
    contents_of,
    contents_to_revert,
    highest,
    made_at,
    released_since,
    shared,
)

START = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
LATER = START + 100 * HOUR


def history(*digests, start=START):
    """Releases of these contents, one an hour, as Quay tells their times."""
    return tuple(
        Release(f"{number + 1}.0.0", digest, (start + number * HOUR).strftime("%Y-%m-%dT%H:%M:%S"))
        for number, digest in enumerate(digests)
    )


def timeless(*digests):
    return tuple(Release(release.version, release.digest) for release in history(*digests))


def test_each_version_has_its_contents_and_those_with_several_are_shared():
    releases = (Release("1.0.0", "a"), Release("2.0.0", "a"), Release("2.0.0", "b"), Release("3.0.0", None))
    assert contents_of(releases) == {"1.0.0": {"a"}, "2.0.0": {"a", "b"}}
    assert shared(releases) == {"2.0.0"}
    assert highest(releases) == "3.0.0"


def test_a_version_comes_out_on_top_of_the_highest_only_if_it_is_higher():
    releases = (Release("9.0.0", "old"), Release("10.0.0", "top"), Release("latest", "odd"))
    assert below(releases, None) == below(releases, "10.0.1") == {"top"}
    assert below(releases, "9.5.0") == below((), None) == frozenset()


@pytest.mark.parametrize("releases", [history("a", "b"), timeless("a", "b"), history("x", "a", "b")], ids=str)
def test_what_was_released_after_a_content_lies_over_it(releases):
    assert contents_to_revert(releases, "a", LATER) == {"b"}
    assert contents_to_revert(releases, "a", None) == {"b"}


@pytest.mark.parametrize("releases", [(), history("b"), history("b", "a"), history("a", "b", "a")], ids=str)
def test_nothing_lies_over_what_is_on_top_or_was_never_released(releases):
    assert contents_to_revert(releases, "a", LATER) == frozenset()


@pytest.mark.parametrize("completed_at", [START, START + HOUR, None])
def test_a_rollback_is_somebodys_decision_and_nothing_lies_over_it(completed_at):
    assert contents_to_revert(history("old", "new", "old"), "new", completed_at) == frozenset()
    assert contents_to_revert(timeless("old", "new", "old"), "new", LATER) == frozenset()
    assert contents_to_revert(history("old", "x", "new", "y", "old"), "new", completed_at) == frozenset()


def test_a_build_that_was_completed_after_its_content_was_released_is_no_rollback_but_a_revert():
    releases = history("a", "b", "a")
    last_release_of_b = START + HOUR
    assert contents_to_revert(releases, "b", last_release_of_b + 2 * CLOCKS_DIFFER) == {"a"}
    assert contents_to_revert(releases, "b", last_release_of_b + CLOCKS_DIFFER / 2) == frozenset()


def test_the_content_of_another_media_type_is_not_known_and_lies_over_nothing():
    assert contents_to_revert((*history("a"), Release("7.0.0", None)), "a", LATER) == frozenset()


def test_versions_that_are_none_are_not_on_top():
    assert contents_to_revert((*history("a"), Release("latest", "b")), "a", LATER) == frozenset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21T12:00:00", START),
        ("2026-11-21T12:00:00Z", START),
        ("2026-11-21T13:00:00+01:00", START),
        ("Sat, 21 Nov 2026 12:00:00 -0000", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_as_registries_tell_them(text, moment):
    assert made_at(Release("1.0.0", "a", text)) == moment


def test_a_content_is_released_since_a_time_if_one_of_its_releases_is_known_to_be():
    releases = history("a", "b", "a")
    assert released_since(releases, "a", START + 2 * HOUR)
    assert released_since(releases, "a", START + 2 * HOUR + timedelta(milliseconds=900))
    assert not released_since(releases, "b", START + 2 * HOUR)
    assert not released_since(timeless("a"), "a", START)


contents = st.lists(st.sampled_from("abc"), max_size=8)


@given(contents, st.sampled_from("abc"), st.integers(-2, 10).map(lambda hours: START + hours * HOUR))
def test_once_a_revert_is_released_and_somebody_else_puts_the_same_on_top_again_it_is_left_there(
    digests, ours, completed_at
):
    before = history(*digests)
    over = contents_to_revert(before, ours, completed_at)
    assert over <= contents_of(before)[highest(before) or ""]
    if over:
        # The revert is released after its build was completed; then what was on top comes back.
        (theirs,) = over
        after = (*before, *history(*["-"] * len(digests), ours, theirs, start=completed_at + HOUR)[len(digests) :])
        assert contents_to_revert(after[:-1], ours, completed_at) == frozenset()
        assert contents_to_revert(after, ours, completed_at) == frozenset()
