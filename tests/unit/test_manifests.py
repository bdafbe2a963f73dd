# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tree of manifests calls itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.sandbox.operators import bundle_tree, flat_operator, nested_operator
from tests.support.trees import tree_of

REFUSED = sorted((Path(__file__).parents[1] / "data" / "manifests" / "refused").iterdir())


def read(files: Mapping[str, str | bytes]) -> OperatorManifests:
    return OperatorManifests.read(tree_of(files))


def refusal(files: Mapping[str, str | bytes]) -> str:
    with pytest.raises(PackageValidationError) as caught:
        read(files)
    error = caught.value
    assert not error.transient
    assert error.details == {"validation_info": {}}
    assert error.message.isprintable()
    return error.message


def csv(name: str, version: str) -> str:
    return f"kind: ClusterServiceVersion\nmetadata: {{name: {name}}}\nspec: {{version: {version}}}\n"


def test_a_nested_operator() -> None:
    manifests = read(nested_operator("otter", versions=("1.0.0", "1.2.0")))

    assert manifests.package_name == "otter"
    assert manifests.nested
    assert manifests.default_csv_version == "1.2.0"


def test_a_flat_operator() -> None:
    manifests = read(flat_operator("lantern", version="1.4.2"))

    assert manifests.package_name == "lantern"
    assert not manifests.nested
    assert manifests.default_csv_version == "1.4.2"


def test_the_manifests_of_a_bundle_image_have_no_package_name() -> None:
    assert refusal(bundle_tree()) == "Could not find packageName in manifests."


def test_an_empty_tree_has_no_package_name() -> None:
    assert refusal({}) == "Could not find packageName in manifests."


def test_the_first_file_by_name_that_has_one_gives_the_package_name() -> None:
    files = {"c.yaml": "packageName: third", "b.yml": "packageName: second", "a.yaml": "other: packageName"}

    assert read(files).package_name == "second"


@pytest.mark.parametrize("path", ["package.txt", "package.json", "package.YAML", "1.0.0/package.yaml", "package"])
def test_only_yaml_files_in_the_root_can_have_it(path: str) -> None:
    assert "Could not find packageName" in refusal({path: "packageName: here"})


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("p.yaml", "- packageName: otter", "p.yaml is a list: packageName must be at the top level, without a dash"),
        ("p.yaml", "spec: {packageName: otter}", "p.yaml has it below 'spec' instead of at the top level."),
        ("p.yaml", "packagename: otter", "p.yaml has 'packagename', which must be spelt packageName."),
        ("p.yaml", "package_name: otter", "p.yaml has 'package_name', which must be spelt packageName."),
        ("1.0/p.yaml", "packageName: otter", "1.0/p.yaml has it, but is in a directory"),
        ("otter.package.yaml", "", "otter.package.yaml is empty instead of a mapping with it."),
        ("otter.package.yaml", "channels: []", "otter.package.yaml has none."),
        ("p.yaml", "channels: []", ""),
    ],
)
def test_the_one_file_that_seems_meant_for_the_package_file_is_named(path: str, text: str, told: str) -> None:
    found = refusal({path: text, "csv.yaml": "kind: ClusterServiceVersion"})
    assert found.startswith(f"Could not find packageName in manifests.{' ' if told else ''}{told}")


def test_of_several_files_that_may_be_meant_none_is_named() -> None:
    files = {"a.yaml": "- packageName: otter", "b.yaml": "packagename: otter"}
    assert refusal(files) == "Could not find packageName in manifests."


def test_what_stands_twice_in_a_mapping_is_noted_with_its_file() -> None:
    files = {
        "csv.yaml": "kind: ClusterServiceVersion\nspec:\n  a: 1\n  b: [{c: 1, c: 1}]\n  a: 2\n",
        "p.yaml": "packageName: first\nchannels: []\npackageName: second\n",
        "q.yaml": "base: &b {x: 1}\nall: {<<: *b, <<: *b, x: 2}\n",
    }
    manifests = read(files)
    assert manifests.package_name == "second"
    assert [finding.sentence.partition(" in the mapping")[0] for finding in manifests.repeated] == [
        "csv.yaml: c occurs more than once",
        "csv.yaml: a occurs more than once",
        "p.yaml: packageName occurs more than once",
    ]


def test_of_keys_that_stand_twice_only_some_are_noted() -> None:
    many = "".join(f"k{number}: 1\nk{number}: 2\n" for number in range(1000))
    assert len(read({"p.yaml": f"packageName: otter\n{many}"}).repeated) == 20


@pytest.mark.parametrize("text", ["- packageName: inside", "spec: {packageName: inside}", "packageName", "", "null"])
def test_only_a_key_at_the_top_counts(text: str) -> None:
    assert "Could not find packageName" in refusal({"package.yaml": text})


@pytest.mark.parametrize(
    "name",
    [
        *("/any/path", "../up", "a/b", "Etcd", "-etcd", ".etcd", "_etcd", "etcd ", "e tcd", "étcd", "", "a" * 256),
        *("etcd\n", "a?b", "a#b", "a%2fb", "a\x00b"),
    ],
)
def test_a_name_that_no_repository_can_have_is_refused(name: str) -> None:
    message = refusal({"package.yaml": yaml.safe_dump({"packageName": name})})

    assert "packageName in package.yaml is not a valid repository name" in message


@pytest.mark.parametrize("value", ["[a]", "{a: b}", "12", "1.5", "true", "", "2019-06-01"])
def test_a_name_that_is_no_text_is_refused(value: str) -> None:
    assert "packageName in package.yaml must be text" in refusal({"package.yaml": f"packageName: {value}"})


@pytest.mark.parametrize("name", ["e", "0", "etcd", "etcd-operator", "a.b_c-d", "9lives", "a" * 255])
def test_a_name_that_a_repository_can_have_is_taken(name: str) -> None:
    assert read({"package.yaml": yaml.safe_dump({"packageName": name})}).package_name == name


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    files = nested_operator()

    assert "Failed to process yaml file /x.yaml: " in refusal({**files, "x.yaml": path.read_bytes()})
    assert "Failed to process yaml file /1.0.0/x.yml: " in refusal({**files, "1.0.0/x.yml": path.read_bytes()})


def test_files_that_operator_courier_never_reads_may_hold_anything() -> None:
    files = {"1.0.0/deeper/x.yaml": "a: [", "x.json": "a: [", "1.0.0/x.yaml.j2": "{{ a", "README": b"\xff"}

    assert read({**nested_operator(), **files}).package_name == "otter-cache"


def test_the_name_of_a_broken_file_cannot_forge_a_message() -> None:
    message = refusal({"a\nERROR: forged.yaml": "a: ["})

    assert "a ERROR: forged.yaml" in message


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("channels: [{name: a, currentCSV: op.v1}]", "1.0.0"),
        ("channels: [{name: a, currentCSV: op.v1}, {name: b, currentCSV: op.v2}]\ndefaultChannel: b", "2.0.0"),
        ("channels: [{name: a, currentCSV: op.v1}, {name: b, currentCSV: op.v2}]", None),
        ("channels: [{name: a, currentCSV: op.v1}]\ndefaultChannel: missing", None),
        ("channels: [{name: a, currentCSV: op.v1}]\ndefaultChannel: ''", "1.0.0"),
        ("channels: [{name: a, currentCSV: op.v9}]", None),
        ("channels: [{name: a, currentCSV: op.v3}]", "3.1"),
        ("channels: [{name: a, currentCSV: op.v4}]", None),
        ("channels: [{name: a, currentCSV: [op.v1]}]", None),
        ("channels: [a]", None),
        ("channels: {name: a}", None),
        ("channels: []", None),
        ("channels: [null, {name: b, currentCSV: op.v2}]\ndefaultChannel: b", "2.0.0"),
        ("defaultChannel: [a]\nchannels: [{name: [a], currentCSV: op.v1}]", "1.0.0"),
        ("", None),
    ],
)
def test_the_version_that_is_current_in_the_default_channel(package: str, version: str | None) -> None:
    files = {
        "package.yaml": f"packageName: op\n{package}\n",
        "1.yaml": csv("op.v1", "1.0.0"),
        "v2/2.yaml": csv("op.v2", "2.0.0"),
        "3.yaml": csv("op.v3", "3.1"),
        "4.yaml": csv("op.v4", "[4]"),
        "5.yaml": "kind: ClusterServiceVersion\nmetadata: op.v1\n",
        "6.yaml": "kind: [ClusterServiceVersion]\n",
    }

    assert read(files).default_csv_version == version


@given(st.dictionaries(st.sampled_from(["a.yaml", "b.yml", "v1/c.yaml", "v1/d.txt"]), st.binary(max_size=60)))
@settings(max_examples=100, deadline=None)
def test_a_tree_of_anything_is_read_or_refused(files: dict[str, bytes]) -> None:
    try:
        name = OperatorManifests.read(tree_of(files)).package_name
    except PackageValidationError:
        name = "refused"
    assert name
