# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading points in time, alike on every Python."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.times import LONGEST, parse_time

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("2026-11-20T12:00:00Z", 0),
        ("2026-11-20T12:00:00z", 0),
        ("2026-11-20 12:00:00", 0),
        ("2026-11-20T14:00:00.5+02:00", 500_000),
        ("2026-11-20 12:00:00.1234567+00:00", 123_456),
        ("2026-11-20T12:00:00.000001", 1),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, micro):
    assert parse_time(text) == NOON.replace(microsecond=micro)
    assert parse_time(text).tzinfo is timezone.utc


@pytest.mark.parametrize("text", ["", "noon", "2026-13-01", "0001-01-01T00:00:00+02:00", "2026-11-20" + " " * LONGEST])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_what_python_writes_is_read_back(time):
    assert parse_time(time.isoformat()) == time


@given(st.text(max_size=80))
def test_any_text_is_a_time_or_refused(text):
    with suppress(ValueError):
        assert parse_time(text).tzinfo is timezone.utc
