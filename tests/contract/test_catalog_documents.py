# SPDX-License-Identifier: GPL-3.0-or-later
"""Splitting files with several documents, before they are changed: on a real file system."""

from __future__ import annotations

import pytest

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.bundles.documents import split_documents
from tests.support.trees import tree_below, write_tree

LONG = {"of letters": "x" * 250, "of two bytes": "é" * 125, "one byte off": "x" + "é" * 124, "of three": "…" * 83}
TWO = "kind: A\n---\nkind: B\n"


def test_each_document_gets_a_file_whose_name_is_free(tmp_path):
    files = {"a.yaml": TWO, "a.1.yaml": "kind: C\n", "1.0.0/a.yaml": TWO, "1.0.0/.a.yaml": TWO, "one.yaml": "kind: D\n"}
    tree = tree_below(write_tree(tmp_path, files))

    split = split_documents(tree)

    assert {path: split.read(path).decode()[6] for path in split.files} == {
        "a.1.yaml": "C", "a.2.yaml": "A", "a.3.yaml": "B", "one.yaml": "D",
        "1.0.0/a.1.yaml": "A", "1.0.0/a.2.yaml": "B", "1.0.0/.a.1.yaml": "A", "1.0.0/.a.2.yaml": "B",
    }  # fmt: skip
    assert tree_below(tmp_path).files == split.files


@pytest.mark.parametrize("stem", LONG.values(), ids=LONG)
def test_the_parts_of_files_with_the_longest_names_fit_on_the_disk(stem, tmp_path):
    tree = tree_below(write_tree(tmp_path, {f"1.0.0/{stem}.yaml": TWO, f"1.0.0/{stem[:-1]}z.yaml": TWO}))

    split = split_documents(tree)

    assert sorted(map(split.read, split.files)) == 2 * [b"kind: A\n"] + 2 * [b"kind: B\n"]
    assert all(path.startswith(f"1.0.0/{stem[:70]}") and path.endswith(".yaml") for path in split.files)
    assert tree_below(tmp_path).files == split.files


def test_more_files_than_a_tree_may_have_are_refused_before_they_are_written(tmp_path):
    files = {f"1.0.0/{number}.yaml": "a\n---\n" * 999 for number in range(3)}
    tree = tree_below(write_tree(tmp_path, files))

    with pytest.raises(PackageValidationError, match=r"more than 2000 documents together; .*, files in") as caught:
        split_documents(tree)
    assert not caught.value.transient
    assert len(tree_below(tmp_path).files) < 2000
    assert len(split_documents(tree_below(tmp_path), most=3000).files) == 3 * 999
