# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading YAML that nobody vouches for, as ``yaml.safe_load`` would read it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.manifests import yaml_reader as manifest_yaml
from omps_worker.manifests.yaml_reader import YamlFault, YamlReader

DATA = Path(__file__).parents[1] / "data" / "manifests"
ACCEPTED = sorted((DATA / "accepted").iterdir())


def stock(text: str) -> Any:
    """What operator-courier would read; None if nothing, Ellipsis if it would fail."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, LookupError, OverflowError):
        return ...


def ours(text: str) -> Any:
    try:
        return YamlReader().read(text)
    except YamlFault as fault:
        return ... if str(fault).isprintable() and len(str(fault)) < 300 else fault


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_odd_texts_mean_what_they_mean_to_everybody(path: Path) -> None:
    text = path.read_bytes().decode()

    assert repr(ours(text)) == repr(stock(text))


def test_an_alias_is_the_thing_itself_and_not_a_copy() -> None:
    value = YamlReader().read("a: &x [1]\nb: *x\nc: &d 2019-06-01\nd: *d\n")

    assert value["a"] is value["b"]
    assert value["c"] is value["d"]


def test_two_equal_dates_stay_two() -> None:
    first, second = YamlReader().read("[2019-06-01, 2019-06-01]")

    assert first is not second


def test_values_are_counted_over_all_files_of_an_operator() -> None:
    reader = YamlReader(100)
    reader.read("[a" + ", a" * 60 + "]")
    assert reader.values == 63

    with pytest.raises(YamlFault, match=r"than 100 values.* this worker's limit, values in \[consumer_config"):
        reader.read("[a" + ", a" * 60 + "]")


@pytest.mark.parametrize("text", ["[&a " + "x" * 50 + ", *a, *a]", "[" + ", ".join("x" * 30 for _ in range(4)) + "]"])
def test_text_is_counted_with_aliases_followed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert YamlReader().read(text)
    monkeypatch.setattr(manifest_yaml, "CHARACTERS", 110)

    with pytest.raises(YamlFault, match=r"characters of text.* limit of this worker"):
        YamlReader().read(text)


@pytest.mark.parametrize(
    "form", ["{}: a\n", "? !!int '{}'\n: a\n", "<<: {{{}: a}}\n"], ids=["plain", "tagged", "merged"]
)
def test_few_keys_may_be_numbers_because_some_numbers_make_dicts_slow(form: str) -> None:
    collide = [number * (2**61 - 1) for number in range(1, manifest_yaml.ODD_KEYS + 2)]

    assert len(YamlReader().read("".join(map(form.format, collide[:-1])))) == manifest_yaml.ODD_KEYS
    with pytest.raises(YamlFault, match="keys that are not text"):
        YamlReader().read("".join(map(form.format, collide)))


def test_what_only_pyyaml_understands_must_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[" + "a, " * 50 + "!!str 1]"
    assert YamlReader().read(text)[-1] == "1"

    monkeypatch.setattr(manifest_yaml, "TAGGED_NODES", 50)
    with pytest.raises(YamlFault, match="tags or merge keys"):
        YamlReader().read(text)


@pytest.mark.parametrize(("long", "is_text"), [("1" * 2000 + "g" * 2000 + "1", True), ("1:1" * 2000 + "x", False)])
def test_a_long_text_is_no_matter_for_regular_expressions(long: str, is_text: bool) -> None:
    if is_text:
        assert YamlReader().read(long) == long
    else:
        with pytest.raises(YamlFault, match="a number of more than"):
            YamlReader().read(long)


def test_depth_up_to_the_limit_is_read() -> None:
    deep = YamlReader().read("[" * manifest_yaml.DEPTH + "]" * manifest_yaml.DEPTH)
    for _ in range(manifest_yaml.DEPTH - 1):
        (deep,) = deep
    assert deep == []

    with pytest.raises(YamlFault, match="nested more than"):
        YamlReader().read("[" * (manifest_yaml.DEPTH + 1) + "]" * (manifest_yaml.DEPTH + 1))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{? [", "[{"])
def test_bottomless_depth_is_refused_in_a_small_thread_too(opening: str) -> None:
    outcome: list[Any] = []
    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: outcome.append(ours(opening * 200_000)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()

    assert outcome == [...]


def test_the_slow_parser_is_asked_about_a_bounded_amount_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_yaml, "PURE_CHARACTERS", 30)
    reader = YamlReader()

    with pytest.raises(YamlFault):
        reader.read("a:\ttab before a value")
    assert reader.read("a:\ttab before a value") == {"a": "tab before a value"}


def test_without_libyaml_the_slow_parser_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_yaml, "_LIBYAML", yaml.SafeLoader)

    for path in ACCEPTED:
        text = path.read_bytes().decode()
        assert repr(ours(text)) == repr(stock(text))


TOKENS = [
    "a", "b: ", "key", ":", ": ", " ", "  ", "\n", "\n  ", "- ", "? ", "?", "[", "]", "{", "}", ",", ", ", '"', "'",
    "#",
    " #", "&a ", "*a ", "|", "|\n", ">-\n", "|2\n", "%YAML 1.1\n---\n", "!", "!!str ", "!x ", "<<: ", "=", "1", "~",
    "...\n", "---\n", "\ufeff", "\x85", "\u2028", "@", "`", "\\", "\\n", "\r\n", "é", "😀", ".5", "1:2", "2019-01-01",
    "\\ud83d", "a: b\n", "- a\n", "  a: b\n", "\t", "\t", "yes", "0x1f", "1_0", "\0", "\x1b",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=10).map("".join))
@settings(max_examples=500, deadline=None)
def test_the_verdict_and_the_value_are_those_of_safe_load(text: str) -> None:
    expected = stock(text)

    if ("&a" not in text) or "..." not in repr(expected):
        assert repr(ours(text)) == repr(expected)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    assert repr(ours(text)) == repr(stock(text))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@given(VALUES, st.booleans(), st.sampled_from([None, '"', "|"]))
@settings(max_examples=100, deadline=None)
def test_what_was_dumped_is_read_back(value: Any, flow: bool, style: str | None) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, default_style=style, allow_unicode=True)

    assert repr(ours(text)) == repr(stock(text))


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a: 1\n\tb: 2\n"])
def test_a_tab_is_called_a_tab(text: str) -> None:
    with pytest.raises(YamlFault, match=r"it has a tab where only spaces are allowed \(line 2\)"):
        YamlReader().read(text)
