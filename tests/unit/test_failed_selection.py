# SPDX-License-Identifier: GPL-3.0-or-later
"""Which failures are meant, and how people are shown them."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from omps_worker.messages.dead_letter import FailureSelection, ParkedFailure, as_table, by_time, details_text

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
ONE = ParkedFailure(
    id="abc",
    queue="omps-worker.failed",
    topic="org.example.buildsys.build.state.change",
    nvr="etcd-operator-container-1.0-1",
    error="QuayCourierError",
    message="The registry did not take it.",
    attempts=3,
    first_seen=NOW - timedelta(hours=3),
    parked_at=NOW - timedelta(hours=1),
)
UNKNOWN = replace(ONE, nvr=None, error=None, message=None, first_seen=None, parked_at=None)


@pytest.mark.parametrize(
    "selection",
    [
        FailureSelection(),
        FailureSelection(frozenset({"abc", "other"})),
        FailureSelection(nvrs=("etcd-*",)),
        FailureSelection(nvrs=("nothing", "*-1.0-1")),
        FailureSelection(errors=("Quay*",)),
        FailureSelection(errors=("QuayCourierError",), nvrs=("etcd*",), older_than=60, newer_than=7200),
        FailureSelection(older_than=3599),
        FailureSelection(newer_than=3601),
    ],
)
def test_what_fits_everything_that_is_given_is_meant(selection):
    assert selection.matches(ONE, NOW)


@pytest.mark.parametrize(
    "selection",
    [
        FailureSelection(frozenset({"ab"})),
        FailureSelection(frozenset({"abc"}), errors=("KojiError",)),
        FailureSelection(nvrs=("ETCD-*",)),
        FailureSelection(nvrs=("etcd",)),
        FailureSelection(errors=("Koji*",), nvrs=("etcd*",)),
        FailureSelection(older_than=3601),
        FailureSelection(newer_than=3599),
        FailureSelection(older_than=60, newer_than=600),
    ],
)
def test_what_misses_one_thing_is_not(selection):
    assert not selection.matches(ONE, NOW)


def test_what_is_not_known_fits_only_where_it_is_not_asked_for():
    assert FailureSelection().matches(UNKNOWN, NOW)
    assert FailureSelection(frozenset({"abc"})).matches(UNKNOWN, NOW)
    for selection in (
        FailureSelection(nvrs=("*",)),
        FailureSelection(errors=("*",)),
        FailureSelection(older_than=0),
        FailureSelection(newer_than=1),
    ):
        assert not selection.matches(UNKNOWN, NOW)


def test_only_no_choice_at_all_is_everything():
    assert FailureSelection().everything
    assert not FailureSelection(older_than=0).everything


def test_the_json_is_what_the_contract_says():
    assert ONE.as_json() == {
        "id": "abc",
        "queue": "omps-worker.failed",
        "topic": "org.example.buildsys.build.state.change",
        "nvr": "etcd-operator-container-1.0-1",
        "error": "QuayCourierError",
        "message": "The registry did not take it.",
        "attempts": 3,
        "first_seen": "2026-11-20T09:00:00+00:00",
        "parked_at": "2026-11-20T11:00:00+00:00",
    }
    assert list(UNKNOWN.as_json().values()).count(None) == 5


def test_the_longest_parked_comes_first():
    later = replace(ONE, id="later", parked_at=NOW)
    assert by_time([later, ONE, UNKNOWN]) == [UNKNOWN, ONE, later]


def test_the_table_cannot_move_a_cursor():
    lines = as_table([replace(ONE, id="a\x1b[2Jb\nc", message="x\ry")]).splitlines()
    assert len(lines) == 3
    assert "a [2Jb c" in lines[2]
    assert "2026-11-20 11:00:00Z" in lines[2]


def details(**more: Any) -> dict[str, Any]:
    return {
        **ONE.as_json(),
        "exchange": "amq.topic",
        "findings": [],
        "targets": ["community/etcd"],
        "replayed_at": None,
        "deaths": [
            {"queue": "omps-worker.retry.10s", "reason": "expired", "count": 2, "time": "2026-11-20T10:00:00+00:00",
             "exchange": "", "topic": "omps-worker.retry.10s"},
        ],
        "content_type": "application/json",
        "content_encoding": None,
        "headers": {"sent-at": "yesterday", "x": {"y": 1}},
        "body": {"name": "ätcd"},
        "body_base64": None,
        **more,
    }  # fmt: skip


def test_a_failure_is_told_in_the_order_in_which_it_happened():
    text = details_text(details(findings=["1/a.yaml: csv spec not defined"]))
    assert "\n           - 1/a.yaml: csv spec not defined\nhistory " in text
    assert [line for line in text.splitlines() if "2026-" in line] == [
        "           2026-11-20T09:00:00+00:00 first taken by a worker",
        "           2026-11-20T10:00:00+00:00 left omps-worker.retry.10s: expired, 2 x",
        "           2026-11-20T11:00:00+00:00 parked",
    ]
    for words in ("QuayCourierError: The registry did not take it.", "3 attempts", "community/etcd", '"name": "ätcd"'):
        assert words in text


def test_a_body_that_is_packed_is_shown_unpacked():
    text = b'{"attribute": "state"}'
    packed = b"\x00\x53\x77\xa1" + bytes([len(text)]) + text
    shown = details_text(details(body=None, body_base64=base64.b64encode(packed).decode()))
    assert '"attribute": "state"' in shown
    assert "27 bytes, unpacked" in shown


def test_a_body_that_nobody_can_read_is_shown_as_it_begins():
    shown = details_text(details(body=None, body_base64=base64.b64encode(b"\x1b[2J\x00noise").decode()))
    assert "10 bytes that are not JSON" in shown
    assert r"b'\x1b[2J\x00noise'" in shown


def test_nothing_that_is_shown_can_move_a_cursor_or_fill_a_screen():
    shown = details_text(
        details(id="a\x1b[2J", message="b\x9b", headers={"c\n": "d\r"}, body=["\x7f\u202e"] * 1000, topic="t" * 9000)
    )
    assert all(line.isprintable() for line in shown.splitlines())
    assert len(shown.splitlines()) < 530
    assert max(map(len, shown.splitlines())) <= 2000
    assert "more lines" in shown
