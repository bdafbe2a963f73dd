# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a CSV holds and however it was written: annotations are set, and nothing else changes."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations, apply
from tests.support.trees import tree_below, write_tree

CSV = "kind: ClusterServiceVersion\n"
WORDS = st.sampled_from(
    ["yes", "off", "12:30:45", "1", "0x1f", "null", "a", "é😀", "a b", "#", ": ", "x\ny\n", "\t", "\xa0"]
)
VALUES = st.recursive(
    WORDS | st.text(max_size=8) | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
STYLES = st.fixed_dictionaries(
    {
        "default_style": st.sampled_from([None, "'", '"', "|", ">"]),
        "default_flow_style": st.sampled_from([None, True, False]),
        "indent": st.integers(2, 6),
        "width": st.sampled_from([20, 80, 100_000]),
        "allow_unicode": st.booleans(),
        "explicit_start": st.booleans(),
        "explicit_end": st.booleans(),
        "sort_keys": st.booleans(),
    }
)
CSVS = st.fixed_dictionaries(
    {"kind": st.just("ClusterServiceVersion"), "spec": VALUES},
    optional={
        "a": VALUES,
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "name": VALUES,
                "annotations": st.none()
                | st.dictionaries(WORDS, WORDS | st.text(max_size=40), max_size=3)
                | st.just({"alm-examples": json.dumps([{"yes": "off", "é": ["12:30:45 " * 9]}], indent=1), "z": ""}),
            },
        ),
    },
)


def annotated(path: Path, text: str, *annotations: Annotation) -> str:
    apply(tree_below(write_tree(path, {"csv.yaml": text})), Transformations(annotations=annotations))
    return (path / "csv.yaml").read_bytes().decode()


def meaning(text: str) -> Any:
    return yaml.safe_load(text.replace("\r\n", "\n").replace("\r", "\n"))


class Plain(yaml.SafeDumper):
    """A dumper that repeats what is there twice: what aliases share is another matter."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def difference(before: str, after: str) -> tuple[int, int]:
    """Where ``before`` begins to differ from ``after``, and where it ends to."""
    start = common(before, after)
    return start, len(before) - common(before[start:][::-1], after[start:][::-1])


def sorted_keys(value: Any) -> Any:
    """``value`` with the keys of its mappings in an order that depends on them alone."""
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value, key=repr)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


def common(one: str, other: str) -> int:
    """How many letters at the beginning are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@given(CSVS, STYLES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), WORDS)
@settings(max_examples=150)
def test_an_annotation_is_added_to_csvs_of_every_style(
    tmp_path_factory: pytest.TempPathFactory,
    csv: dict[str, Any],
    style: dict[str, Any],
    end: str,
    mark: bool,
    value: str,
) -> None:
    text = yaml.dump(csv, Dumper=Plain, **style).replace("\n", end)
    text = "\ufeff" + text if mark else text
    before = meaning(text)
    path = tmp_path_factory.mktemp("tree")

    after = annotated(path, text, Annotation("example.org/owner", value))

    metadata = before.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), "example.org/owner": value}
    assert repr(sorted_keys(meaning(after))) == repr(
        sorted_keys({**before, "metadata": {**metadata, "annotations": annotations}})
    )
    start, stop = difference(text, after)
    assert text[start:stop] in ("", "null", "~", "!!null 'null'", '!!null "null"'), "only an empty value may go"
    assert annotated(path, after, Annotation("example.org/owner", value)) == after


@given(CSVS, STYLES, st.sampled_from(["\n", "\r\n", "\r"]), WORDS | st.text(max_size=50))
@settings(max_examples=150)
def test_an_annotation_is_overwritten_in_csvs_of_every_style(
    tmp_path_factory: pytest.TempPathFactory, csv: dict[str, Any], style: dict[str, Any], end: str, old: str
) -> None:
    metadata = {**csv.get("metadata", {}), "name": "x"}
    annotations = {**(metadata.get("annotations") or {}), "example.org/owner": f"{old}<old>"}
    text = yaml.dump({**csv, "metadata": {**metadata, "annotations": annotations}}, Dumper=Plain, **style).replace(
        "\n", end
    )
    before = meaning(text)
    path = tmp_path_factory.mktemp("tree")

    after = annotated(path, text, Annotation("example.org/owner", "<new>"))

    before["metadata"]["annotations"]["example.org/owner"] = "<new>"
    assert repr(meaning(after)) == repr(before)
    start, stop = difference(text, after)
    assert start > text.index("example.org/owner") + len("example.org/owner")
    assert stop <= text.index("<old>") + len('<old>"')


TOKENS = [
    "kind: ClusterServiceVersion\n", "metadata:", "annotations:", "owner:", " ", "\n", "\n  ", "\n    ", "{", "}", ", ",
    "&a ", "*a", "<<: *a", "? ", ": ", "|\n", "'", '"', "# c\n", "- ", "a", "\r\n", "\ufeff", "packageName: n", "...\n",
    "---\n", "!!str ", "~", "\t", "[", "]", "😀",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join))
@settings(max_examples=300)
def test_a_tree_of_anything_is_changed_as_meant_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("tree")
    text = CSV + "metadata:\n  annotations:\n    " + text
    wanted = Transformations("o", (Replacement("😀", "é"),), (Annotation("owner", "me"),))
    try:
        apply(tree_below(write_tree(path, {"a.yaml": text, "p.yaml": "packageName: n\n"})), wanted)
    except PackageValidationError:
        return
    document = meaning((path / "a.yaml").read_bytes().decode())
    if "packageName" not in document and document["kind"] == "ClusterServiceVersion":
        assert document["metadata"]["annotations"]["owner"] == "me"
