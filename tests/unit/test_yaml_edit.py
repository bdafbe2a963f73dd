# SPDX-License-Identifier: GPL-3.0-or-later
"""When two values read from YAML are the same; editing is tested with the transformations that need it."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.manifests.yaml_edit import CannotEdit, equal, quoted, with_suffix, with_texts

SCALARS = [
    "",
    "1",
    1,
    1.0,
    True,
    0,
    -0.0,
    False,
    None,
    b"1",
    date(2019, 6, 1),
    datetime(2019, 6, 1, tzinfo=timezone.utc),
]
MANY = [
    *SCALARS,
    [],
    {},
    (),
    set(),
    [1],
    [1.0],
    [True],
    (1,),
    {1},
    {"a": 1},
    {"a": 1.0},
    {"b": 1},
    {1: "a"},
    {1.0: "a"},
    {True: "a"},
    {math.nan: 1},
    [[1], 2],
    [1, [2]],
    {"a": {"b": None}},
    {"a": {"c": None}},
]


def test_a_value_equals_itself_and_no_other() -> None:
    for at, one in enumerate(MANY):
        assert [equal(one, other) for other in MANY] == [at == place for place in range(len(MANY))], one


def test_what_is_not_a_number_equals_itself() -> None:
    text = "[.nan, {.nan: .nan}, {a: [.NaN]}]"

    assert equal(yaml.safe_load(text), yaml.safe_load(text))


def test_only_keys_that_are_no_text_have_an_order() -> None:
    assert equal({"a": 1, "b": 2, 3: 4}, {"b": 2, 3: 4, "a": 1})
    assert not equal({1: 1, 2: 2}, {2: 2, 1: 1})


def test_depth_is_no_matter() -> None:
    one: Any = []
    other: Any = []
    for _ in range(100_000):
        one, other = [one], [other]

    assert equal(one, other)
    while one:  # or the interpreter would free it in one breath
        one, other = one.pop(), other.pop()


@given(st.text())
def test_a_quoted_text_is_read_back_by_both_parsers(text: str) -> None:
    line = quoted(text)

    assert len(line.splitlines()) == 1
    assert yaml.load(line, Loader=yaml.CSafeLoader) == text
    assert yaml.safe_load(line) == text


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a", "\ufeff"])
def test_what_is_no_mapping_is_not_edited(text: str) -> None:
    with pytest.raises(CannotEdit):
        with_texts(text, ("a",), {"b": "c"})
    with pytest.raises(CannotEdit):
        with_suffix(text, "a", "b")


@pytest.mark.parametrize("text", ["b: c", "a: [b]", "[a]: b", "? {a: b}\n: c", "!!binary a: b"])
def test_a_suffix_needs_a_text_of_its_own(text: str) -> None:
    with pytest.raises(CannotEdit, match="a has no text of its own"):
        with_suffix(text, "a", "b")
