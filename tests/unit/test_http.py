# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of answers once they are here."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.http_client.client import Answer, parse_json, place_of, printable, seconds_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=100)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='[]{}":,\\ud8au0e19.-NaIfty ', max_size=30).map(str.encode))
@settings(max_examples=300)
def test_whatever_bytes_come_they_are_json_that_can_be_written_again_or_none(body: bytes) -> None:
    value = parse_json(body)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b"NaN",
        b"[Infinity]",
        b"[-1e999]",
        b"\xff\xfe1\x00",
        b"9" * 10_000,
    ],
    ids=[
        "empty",
        "html",
        "cut",
        "deep list",
        "deep object",
        "nan",
        "infinity",
        "infinite number",
        "utf-16",
        "huge number",
    ],
)
def test_what_cannot_be_used_as_json_is_none(body: bytes) -> None:
    assert Answer(200, {}, body).json() is None


def test_half_a_surrogate_pair_does_not_travel_on() -> None:
    assert parse_json(rb'{"error": "\ud800", "\udfff": ["\ud83d\ude00"]}') == {"error": "?", "?": ["😀"]}


@given(st.text(), st.integers(min_value=1, max_value=50))
@settings(max_examples=200)
def test_printable_text_is_one_short_line_that_can_be_encoded(text: str, limit: int) -> None:
    line = printable(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    line.encode()


@given(st.binary(max_size=3000))
@settings(max_examples=50)
def test_the_text_of_any_body_is_printable(body: bytes) -> None:
    assert Answer(500, {}, body).text().isprintable()


def test_a_place_names_no_password_path_or_query() -> None:
    assert place_of("https://user:pw@koji.example.com:8443/hub?token=1#x") == "https://koji.example.com:8443"
    assert place_of("http://[") == "an invalid address"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("999999999", 86400.0),
        ("-5", None),
        ("soon", None),
        ("²", None),
        ("9" * 5000, 86400.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds(value: str | None, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(minutes=2)
    answer = Answer(503, {"Retry-After": format_datetime(later, usegmt=True)}, b"")
    assert answer.retry_after == pytest.approx(120, abs=10)


def test_the_text_of_an_answer_hides_its_body() -> None:
    assert "secret" not in repr(Answer(200, {}, b"secret"))
