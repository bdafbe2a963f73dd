# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.broker import headers
from omps_worker.broker.connection.header_values import RawValue

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.binary(max_size=80)
    | st.datetimes() | st.just(RawValue(b"T12345678")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), (7, 7), ("7", 7), (1_000_000, 1_000_000),
     (0, 1), (-3, 1), (2**63, 1), (True, 1), (2.0, 1),
     ("x", 1), ("٣", 1), ("9" * 5000, 1), (None, 1), (b"2", 1), ([2], 1)],
)  # fmt: skip
def test_the_attempt_is_a_sane_number(value, number):
    assert headers.attempt_number({headers.ATTEMPT: value}) == number


def test_without_a_header_it_is_the_first_attempt():
    assert headers.attempt_number({}) == 1


@pytest.mark.parametrize(
    "value", ["2026-11-20T10:00:00+00:00", "2026-11-20T10:00:00Z", "2026-11-20T12:00:00+02:00",
              "2026-11-20T10:00:00", datetime(2026, 11, 20, 10, tzinfo=timezone.utc)]
)  # fmt: skip
def test_first_seen_is_read_in_each_form(value):
    assert headers.first_seen({headers.FIRST_SEEN: value}) == datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


def test_nothing_was_first_seen_in_the_future():
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert headers.first_seen({headers.FIRST_SEEN: tomorrow.isoformat()}) is None


@settings(max_examples=150, deadline=None)
@given(anything)
def test_no_header_whatever_its_value_raises(value):
    assert 1 <= headers.attempt_number({headers.ATTEMPT: value}) <= headers.LARGEST_ATTEMPT
    moment = headers.first_seen({headers.FIRST_SEEN: value})
    assert moment is None or moment.tzinfo is not None
    topic = headers.short_text({headers.TOPIC: value}, headers.TOPIC)
    assert topic is None or len(topic.encode()) <= 255
    assert isinstance(headers.text(value), str)
