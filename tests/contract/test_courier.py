# SPDX-License-Identifier: GPL-3.0-or-later
"""Our fast way through operator-courier and operator-courier as it comes: one verdict, one content."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.manifests import bundle
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.sandbox.operators import Files, bundle_tree, flat_operator, nested_operator, sized_operator
from tests.support import plain_courier
from tests.support.plain_courier import Answer
from tests.support.trees import packed_files, tree_below, write_tree

DATA = Path(__file__).parents[1] / "data" / "manifests"


def ours(directory: Path, repository: str) -> Answer:
    tree = tree_below(directory)
    try:
        made = bundle.prepare(tree, OperatorManifests.read(tree), repository)
    except PackageValidationError as error:
        verdict = plain_courier.ordered(error.details["validation_info"])
        return Answer(False, verdict, {}, crashed=not verdict)
    verdict = {"errors": [], "warnings": sorted(made.courier_warnings)}
    return Answer(True, verdict, plain_courier.content(packed_files(made.blob)))


def assert_equal(directory: Path, repository: str) -> Answer:
    """Both say the same; operator-courier's crashes and empty verdicts are refusals without a verdict of ours."""
    plain = plain_courier.ask(directory, repository)
    fast = ours(directory, repository)
    assert fast.accepted == plain.accepted
    assert fast.verdict == plain.verdict
    assert fast.content == plain.content
    return fast


@pytest.mark.parametrize("size", ["flat", "nested"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_operators(tmp_path: Path, size: str, seed: int) -> None:
    files = sized_operator(size, seed)
    directory = write_tree(tmp_path, files)

    assert assert_equal(directory, OperatorManifests.read(tree_below(directory)).package_name).accepted


def test_stray_files_and_files_that_are_left_out(tmp_path: Path) -> None:
    stray = {
        "art.yaml": "a: b",
        "1.0.0/image-references": "x",
        "docs/a.txt": "x",
        "1.0.0/b/c.yaml": "a: [",
        "d": b"\xff",
    }

    assert assert_equal(write_tree(tmp_path, {**nested_operator(), **stray}), "otter-cache").accepted


def test_a_tree_that_is_flat_and_nested_at_once(tmp_path: Path) -> None:
    files = flat_operator("otter-cache") | nested_operator()

    assert assert_equal(write_tree(tmp_path, files), "otter-cache").accepted


def test_a_bundle_images_manifests(tmp_path: Path) -> None:
    assert not assert_equal(write_tree(tmp_path, bundle_tree()), "heron").accepted


def test_another_repository(tmp_path: Path) -> None:
    assert not assert_equal(write_tree(tmp_path, flat_operator()), "other").accepted


@pytest.mark.parametrize("path", sorted((DATA / "accepted").iterdir()), ids=lambda path: path.stem)
def test_texts_that_are_odd(tmp_path: Path, path: Path) -> None:
    """As a file of its own, and as a part of the CSV that is parsed and dumped again."""
    text = path.read_bytes()
    assert_equal(write_tree(tmp_path / "nested", {**nested_operator(), "1.0.0/x.yaml": text}), "otter-cache")

    operator = flat_operator()
    name = "lantern.v1.4.2.clusterserviceversion.yaml"
    operator[name] = operator[name].replace(
        "keywords: [", 'note: "\\ud83d\\ude00"\n  again: &a [b]\n  more: *a\n  keywords: ['
    )
    assert assert_equal(write_tree(tmp_path / "flat", {**operator, "x.yaml": text}), "lantern")


# These go round for ever, or would take more memory or time than operator-courier's way can bound.
OURS_ALONE = {"billion_laughs", "merge_bomb", "recursive_alias", "recursive_merge", "huge_number",
              "huge_sexagesimal_number", "deep_indentation"}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((DATA / "refused").iterdir()) if path.stem not in OURS_ALONE],
    ids=lambda path: path.stem,
)
def test_texts_that_are_refused(tmp_path: Path, path: Path) -> None:
    files = {**nested_operator(), "1.0.0/x.yaml": path.read_bytes()}

    assert not assert_equal(write_tree(tmp_path, files), "otter-cache").accepted


PACKAGE: dict[str, Any] = {
    "channels": [{"name": "stable", "currentCSV": "small.v1"}],
    "defaultChannel": "stable",
}
CSV: dict[str, Any] = {
    "apiVersion": "operators.coreos.com/v1alpha1",
    "kind": "ClusterServiceVersion",
    "metadata": {"name": "small.v1", "annotations": {"alm-examples": "[]", "certified": "false", "support": "Us"}},
    "spec": {
        "version": "1.0.0",
        "description": "First line \n  second\n",
        "installModes": [],
        "install": {"strategy": "deployment", "spec": {"deployments": [], "permissions": []}},
        "customresourcedefinitions": {"owned": [{"name": "as.b", "kind": "A", "version": "v1"}]},
    },
}
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "as.b"},
    "spec": {
        "group": "b",
        "names": {"kind": "A", "plural": "as"},
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}
ODD: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    0,
    1.5,
    True,
    [None],
    [{}],
    {"a": None},
    ["x"],
    "é: \U0001f600",
    "a\tb",
    "1.0.0",
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    if isinstance(value, (dict, list)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys:
            yield value, key
            yield from places(value[key])


@st.composite
def documents(draw: st.DrawFn, original: dict[str, Any]) -> str:
    """``original`` with a few of its parts gone, or replaced by something odd, as YAML."""
    document = copy.deepcopy(original)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        container, key = draw(st.sampled_from(list(places(document)) or [({0: 0}, 0)]))
        if draw(st.booleans()):
            del container[key]
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    text: str = yaml.safe_dump(document, default_flow_style=draw(st.sampled_from([False, None, True])))
    return text


@st.composite
def trees(draw: st.DrawFn) -> Files:
    """A small package, flat or nested or neither."""
    # The name is on its own, and in another style: ours is refused before operator-courier is asked.
    channels = draw(documents(PACKAGE).filter(lambda text: not text.startswith("{")))
    files = {"package.yaml": f"packageName: small\n{channels}"}
    for directory in draw(st.sampled_from([[""], ["1/"], ["1/", "2/"], ["", "1/"], []])):
        files[f"{directory}csv.yaml"] = draw(documents(CSV))
        for number in range(draw(st.sampled_from([1, 1, 1, 0, 2]))):
            files[f"{directory}crd{number}.yml"] = draw(documents(CRD))
    for path in draw(st.lists(st.sampled_from(["x.yaml", "1/x.yaml", "3/x.yaml", "1/art.yaml", "x.txt"]), max_size=1)):
        files[path] = draw(st.sampled_from(["a: b", "a: [", "- 1", "", "kind: [A]", "packageName: x", "a:\tb"]))
    return files


@given(trees(), st.sampled_from(["small", "small", "small", "x"]))
@settings(max_examples=100, deadline=None)
def test_small_random_packages(tmp_path_factory: pytest.TempPathFactory, files: Files, repository: str) -> None:
    assert_equal(write_tree(tmp_path_factory.mktemp("tree"), files), repository)
