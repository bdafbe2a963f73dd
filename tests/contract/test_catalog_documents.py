# SPDX-License-Identifier: GPL-3.0-or-later
"""Splitting files with several documents, before they are changed: on a real file system."""

from __future__ import annotations

import pytest

from omps_worker.common.errors import PackageValidationError
from omps_worker.configuration.settings.models import Limits
from omps_worker.destinations.catalog.bundles.documents import split_documents
from omps_worker.destinations.catalog.content import TreeContent, tree_content
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Annotation, Transformations
from omps_worker.sandbox.operators import zip_of
from tests.support.catalog_places import catalog_at
from tests.support.olm import tree_files
from tests.support.trees import tree_below, write_tree

LONG = {"of letters": "x" * 250, "of two bytes": "é" * 125, "one byte off": "x" + "é" * 124, "of three": "…" * 83}
TWO = "kind: A\n---\nkind: B\n"


def test_each_document_gets_a_file_whose_name_is_free(tmp_path):
    files = {"a.yaml": TWO, "a.1.yaml": "kind: C\n", "1.0.0/a.yaml": TWO, "1.0.0/.a.yaml": TWO, "one.yaml": "kind: D\n"}
    tree = tree_below(write_tree(tmp_path, files))

    split = split_documents(tree, 2000)

    assert {path: split.read(path).decode()[6] for path in split.files} == {
        "a.1.yaml": "C", "a.2.yaml": "A", "a.3.yaml": "B", "one.yaml": "D",
        "1.0.0/a.1.yaml": "A", "1.0.0/a.2.yaml": "B", "1.0.0/.a.1.yaml": "A", "1.0.0/.a.2.yaml": "B",
    }  # fmt: skip
    assert tree_below(tmp_path).files == split.files


@pytest.mark.parametrize("stem", LONG.values(), ids=LONG)
def test_the_parts_of_files_with_the_longest_names_fit_on_the_disk(stem, tmp_path):
    tree = tree_below(write_tree(tmp_path, {f"1.0.0/{stem}.yaml": TWO, f"1.0.0/{stem[:-1]}z.yaml": TWO}))

    split = split_documents(tree, 2000)

    assert sorted(map(split.read, split.files)) == 2 * [b"kind: A\n"] + 2 * [b"kind: B\n"]
    assert all(path.startswith(f"1.0.0/{stem[:70]}") and path.endswith(".yaml") for path in split.files)
    assert tree_below(tmp_path).files == split.files


def test_more_files_than_a_tree_may_have_are_refused_before_they_are_written(tmp_path):
    files = {f"1.0.0/{number}.yaml": "a\n---\n" * 999 for number in range(3)}
    tree = tree_below(write_tree(tmp_path, files))

    with pytest.raises(PackageValidationError, match=r"more than 2000 documents together; .*, files in") as caught:
        split_documents(tree, 2000)
    assert not caught.value.transient
    assert len(tree_below(tmp_path).files) < 2000
    assert len(split_documents(tree_below(tmp_path), most=3000).files) == 3 * 999


@pytest.mark.parametrize("annotations", [(), (Annotation("a", "b"),)], ids=["as they are", "changed"])
def test_an_archive_has_so_many_documents_as_the_configuration_lets_it_have_files(annotations, tmp_path):
    catalog = catalog_at("http://127.0.0.1:5000", transformations=Transformations(annotations=annotations))
    roles = {"1.0.0/roles.yaml": "kind: Role\n---\n" * 100}
    archive = tmp_path / "archive.zip"
    archive.write_bytes(zip_of({**tree_files([("1.0.0", {})], {"stable": "otter.v1.0.0"}), **roles}))

    def content(files: int) -> TreeContent:
        scratch = tmp_path / str(files)
        scratch.mkdir()
        return tree_content(ArchiveContents(archive, scratch, Limits(files=files)), catalog)

    assert len(content(110).bundles["otter.v1.0.0"].planned.files) == 102
    with pytest.raises(PackageValidationError, match="more than 90 documents together"):
        content(90)
