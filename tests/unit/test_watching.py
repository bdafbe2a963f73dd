# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as somebody follows them."""

from __future__ import annotations

import json
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.cli.watch_view import MAX_BYTES, ReceivedResult, ResultFilter, Tally, line, read
from omps_worker.common.errors import MessageError
from omps_worker.common.text import fit
from omps_worker.messages.reporting import result_topic

SENT_AT = "2026-03-02T10:15:04+00:00"
PUBLISHED = {
    "status": "published",
    "organization": "community",
    "repo": "etcd",
    "version": "3.0.0",
    "nvr": "etcd-operator-container-1.0-3",
    "build": {"name": "etcd-operator-container"},
    "error": None,
    "reason": None,
}
FAILED = {
    **PUBLISHED,
    "status": "failed",
    "version": None,
    "error": {"name": "PackageValidationError", "message": "the\x1b[2Jbundle is invalid"},
}


def seen(**body) -> ReceivedResult:
    return read("x.omps.release.published", "id-1", {"sent-at": SENT_AT}, json.dumps({**PUBLISHED, **body}).encode())


def columns(text):
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_a_result_is_read_with_all_that_came_with_it():
    found = seen()
    assert found.as_json() == {
        "topic": "x.omps.release.published",
        "id": "id-1",
        "sent_at": SENT_AT,
        "body": PUBLISHED,
    }
    assert read("t", None, {"sent-at": "soon"}, json.dumps(PUBLISHED).encode()).sent_at is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"status": "great"}', "no result status"),
        (b'{"status": ["published"]}', "no result status"),
        (b" " * (MAX_BYTES + 1), "more than any result"),
    ],
)
def test_what_is_no_result_is_named(body, said):
    with pytest.raises(MessageError, match=said):
        read("t", None, {}, body)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
bodies = st.fixed_dictionaries(
    {"status": st.sampled_from(["published", "failed", "retrying"])},
    optional=dict.fromkeys(("organization", "repo", "version", "nvr", "build", "error", "next_attempt_at"), anything),
)


@given(bodies, st.integers(1, 250), st.booleans(), anything)
def test_whatever_a_result_says_it_is_one_line_that_fits(body, width, colours, sent_at):
    found = read("t", None, {"sent-at": sent_at}, json.dumps(body).encode())
    plain = line(found, width, colours=False)
    assert columns(plain) <= width
    assert plain.isprintable()
    coloured = line(found, width, colours=True)
    assert coloured.count("\x1b") == 2
    ResultFilter(frozenset({"a"}), frozenset({"failed"}), ("b*",)).wants(found)


@given(st.binary(max_size=200))
def test_no_message_is_more_than_unreadable(body):
    with suppress(MessageError):
        read("t", None, {}, body)


@given(st.text(), st.integers(0, 60))
def test_fitting_text_has_exactly_that_width(text, width):
    assert columns(fit(text, width)) == width


def test_without_a_width_nothing_is_cut():
    text = line(seen(organization="o" * 200, nvr="n" * 300, reason="r" * 500))
    assert all(part in text for part in ("o" * 200 + "/etcd", "n" * 300, "r" * 500))


def test_a_line_says_what_happened_and_what_went_wrong():
    text = line(seen(), 160, colours=False)
    assert text.split()[1:] == ["published", "community/etcd", "3.0.0", "etcd-operator-container-1.0-3"]
    failed = line(read("t", None, {}, json.dumps(FAILED).encode()), 200, colours=False)
    assert "PackageValidationError: the [2Jbundle is invalid" in failed
    away = {"name": "KojiError", "message": "away"}
    retrying = line(seen(status="retrying", next_attempt_at=SENT_AT, error=away), 200, colours=False)
    assert "retry at" in retrying
    assert "KojiError: away" in retrying
    assert "superseded" in line(seen(status="skipped", reason="superseded"), 160, colours=False)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (ResultFilter(), True),
        (ResultFilter(places=frozenset({"community", "x"})), True),
        (ResultFilter(places=frozenset({"x"})), False),
        (ResultFilter(places=frozenset({"catalog:community"})), False),
        (ResultFilter(statuses=frozenset({"failed"})), False),
        (ResultFilter(components=("etcd-*",)), True),
        (ResultFilter(components=("other-*", "*-container")), True),
        (ResultFilter(components=("ETCD*",)), False),
        (ResultFilter(frozenset({"community"}), frozenset({"failed"}), ("*",)), False),
    ],
)
def test_options_of_one_kind_widen_and_those_of_different_kinds_narrow(choice, wanted):
    assert choice.wants(seen()) is wanted


def test_an_archive_without_a_build_is_of_no_component():
    assert not ResultFilter(components=("etcd*",)).wants(seen(build=None, nvr=None))


IN_CATALOG = {"organization": None, "repo": "otter-cache", "catalog": {"name": "community"}}


def test_a_place_that_does_not_fit_gives_way_to_the_name_of_the_package():
    for width, shown in (
        (120, " catalog:community/otter-cache "),
        (100, " catalog:co…/otter-cache "),
        (80, " cat…/otter-cache "),
    ):
        assert shown in line(seen(**IN_CATALOG), width)
    long = line(seen(**{**IN_CATALOG, "repo": "otter-cache-of-a-long-name"}), 80)
    assert " catalog:communi… " in long, "there is no room for both"


def test_a_wide_terminal_leaves_room_for_what_went_wrong():
    failed = seen(**{**IN_CATALOG, "status": "failed", "error": {"name": "CatalogError", "message": "m" * 80}})
    assert "m" * 40 in line(failed, 220)


def test_the_summary_counts_and_fits():
    tally = Tally()
    assert tally.line().startswith("0 result(s) since ")
    for status in ("published", "published", "failed"):
        tally.count(seen(status=status))
    assert tally.line().endswith(": 2 published, 1 failed")
    assert columns(tally.line(20)) <= 20


@pytest.mark.parametrize(
    ("prefix", "topic"), [("org.x.", "org.x.omps.release.*"), ("org.x", "org.x.omps.release.*"), ("", "omps.release.*")]
)
def test_topics_are_those_of_the_site(prefix, topic):
    assert result_topic(prefix, "*") == topic
