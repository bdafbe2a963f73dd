# SPDX-License-Identifier: GPL-3.0-or-later
"""Catching up: how people say when, and the message that should have come."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.model import Build, BuildEvent
from omps_worker.messages.events import decode, message_id_for
from omps_worker.publishing.catch_up import CATCH_UP_TOPIC, BuildReport, message_of, moment, summary

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
BUILD = Build(
    42,
    "otter-container-1.0^git-7",
    "otter-container",
    "1.0^git",
    "7",
    1,
    "jdoe",
    "otters-1-candidate",
    completed_at=NOW,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=timezone.utc)),
        ("2026-11-20 08:30", datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc)),
        ("2026-11-20T08:30:00", datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc)),
        ("2026-11-20T08:30:00Z", datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc)),
        ("2026-11-20T08:30:00.5+02:00", datetime(2026, 11, 20, 6, 30, 0, 500000, tzinfo=timezone.utc)),
    ],
)
def test_times_and_ages_are_understood(text, meant):
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "24", "-1h", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_is_refused_with_what_to_write_instead(text):
    with pytest.raises(ValueError, match="must be a date or time such as"):
        moment(text, NOW)


def test_the_future_is_refused():
    with pytest.raises(ValueError, match="future"):
        moment("2027-01-01", NOW)


@given(st.text(max_size=30))
def test_whatever_people_write_is_a_time_or_a_clear_fault(text):
    try:
        understood = moment(text, NOW)
    except ValueError as error:
        understood, told = None, str(error)
    assert understood.tzinfo if understood else ("must be" in told or "future" in told)


def test_the_message_says_of_a_build_what_the_mapping_needs():
    message = message_of(BUILD)
    event = decode(message.body, topic=CATCH_UP_TOPIC)
    assert isinstance(event, BuildEvent)
    assert (event.build_id, event.facts, event.completed_at) == (42, BUILD.facts, NOW)
    assert (event.name, event.version, event.release) == (BUILD.name, BUILD.version, BUILD.release)


def test_the_message_has_the_id_that_any_message_without_one_gets():
    assert message_of(BUILD).id == message_of(BUILD).id == message_id_for(BuildEvent(build_id=42), b"whatever")


def test_a_summary_names_what_there_was():
    found = [BuildReport(BUILD, status) for status in ("released", "sent", "released")]
    assert summary(found) == "3 operator build(s): 1 sent, 2 released"
    assert summary([]) == "0 operator build(s)"
