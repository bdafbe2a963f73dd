# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written without PyYAML is what PyYAML writes, byte by byte: the digest of a release hangs on it."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import yaml

from omps_worker.manifests import yaml_dump
from omps_worker.sandbox.operators import SIZES, sized_operator
from tests.support.sources import ROOT

WIDE = 2**31 - 1

# fmt: off
WORDS = [
    "a", "yes", "No", "on", "off", "y", "N", "null", "~", "True", "x:", "x: y", "a #b", "a#b", "#", "- a",
    "-", "--", ".", " lead", "trail ", "a  b", "1", "1.0", "0x1f", "1e3", ".5", ".inf", "1_0", "1:30", "0o7",
    "2001-01-01", "=", "<<", "é", "\u2028", "\x85", "\ufeff", "😀", "\x07", "\n", "\n\n", " \n", "\r", "\t",
    "'", '"', "{", "}", "[", "]", ",", "?", "!", "&", "*", "%", "@", "`", "|", ">", "\\", ":", "::", "a:b",
    "---", "...", "--- a", "\n- x", "- ", "$ref", "--", "<<", ",", "$ref", "https://example.com/x?y=z#q",
    "end", "operators.example.com/x", "long " * 40, "x" * 130, "",
]
# fmt: on


class Literal(str):
    """A text that PyYAML writes as a block, like operator-courier's long ones."""


class Dumper(yaml.CDumper):
    pass


Dumper.add_representer(
    Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)

plainly = partial(yaml.dump, Dumper=Dumper, default_flow_style=False, width=WIDE)


def quickly(value: Any) -> str | None:
    return yaml_dump.dump(value, plainly, Literal)


def made_up(source: random.Random, depth: int) -> Any:
    kind = source.random()
    if depth and kind < 0.25:
        return {text(source, 2): made_up(source, depth - 1) for _ in range(source.randint(0, 4))}
    if depth and kind < 0.45:
        return [made_up(source, depth - 1) for _ in range(source.randint(0, 4))]
    if kind < 0.85:
        return text(source, 4)
    if kind < 0.9:
        return Literal(text(source, 4) + source.choice(["", "\n", "\n\n", " \nfoo\n", '{\n  "a": 1\n}\n']))
    return source.choice([1, -5, 0, True, False, None, 10**30])


def text(source: random.Random, most: int) -> str:
    return "".join(source.choice(WORDS) for _ in range(source.randint(0, most)))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_quickly_is_the_same(seed):
    source, written = random.Random(seed), 0
    for _ in range(400):
        value = [made_up(source, 5)]
        quick = quickly(value)
        if quick is not None:
            written += 1
            assert quick == plainly(value), value
    assert written > 100, "most are no exceptions"


@pytest.mark.parametrize("word", WORDS)
def test_a_text_is_written_as_before_wherever_it_stands(word):
    for value in ([word], [{"key": word}], [{"key": [word, [word]]}], [[[{"deep": {"er": word}}]]], [Literal(word)]):
        assert quickly(value) in (plainly(value), None)
    if word.isascii() and word.isprintable():
        assert quickly([{"key": word}]) is not None


def test_keys_that_need_quotes_are_written_quickly_too():
    value = [{"*": 1, "200": 2, ".spec": 3, "yes": 4, "a: b": 5, "/healthz": 6}]
    assert quickly(value) == plainly(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([(shared := {"a": "b"}), shared], id="an alias"),
        pytest.param([(empty := []), empty], id="an alias of nothing"),
        pytest.param([1.5], id="a fraction"),
        pytest.param([{1: "a"}], id="a key that is no text"),
        pytest.param([{"x" * 200: "a"}], id="a long key"),
        pytest.param([{"é": "a"}], id="a key of other letters"),
        pytest.param([("a", "b")], id="a tuple"),
        pytest.param([Literal("kept\n\n")], id="empty lines at the end"),
        pytest.param([], id="nothing"),
    ],
)
def test_what_is_unusual_is_left_to_pyyaml(value):
    assert quickly(value) is None


def test_lone_surrogates_are_left_to_whoever_can_write_them():
    assert quickly(["\ud800"]) is None


def manifests() -> list[Any]:
    texts = [data for size in SIZES for path, data in sized_operator(size).items() if path.endswith("yaml")]
    texts += [path.read_text("utf-8", "replace") for path in sorted((ROOT / "tests/data/manifests").rglob("*.yaml"))]
    return [document for document in map(readable, texts) if isinstance(document, dict) and document]


def readable(text: str) -> Any:
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return None


def test_manifests_are_written_quickly_and_the_same():
    documents = manifests()
    assert len(documents) > 50
    quick = [quickly([document]) for document in documents]
    assert sum(text is not None for text in quick) > 0.9 * len(documents)
    for document, written in zip(documents, quick, strict=True):
        assert written in (plainly([document]), None)
