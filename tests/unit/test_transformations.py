# SPDX-License-Identifier: GPL-3.0-or-later
"""What an organization wants changed is changed, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from omps_worker.common.errors import PackageValidationError
from omps_worker.manifests import transformations, yaml_edit
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations, apply
from omps_worker.sandbox.operators import flat_operator, nested_operator
from tests.support.trees import tree_below, write_tree

PACKAGE = "packageName: otter\n"
CSV = "kind: ClusterServiceVersion\n"
REFUSED = sorted((Path(__file__).parents[1] / "data" / "manifests" / "refused").iterdir())

SUFFIX = Transformations(package_name_suffix="-dev")
OWNER = Transformations(annotations=(Annotation("owner", "me"),))


def changed(path: Path, files: Mapping[str, str | bytes], wanted: Transformations) -> dict[str, str]:
    """All files after ``wanted`` was applied to them."""
    apply(tree_below(write_tree(path, files)), wanted)
    return {file.relative_to(path).as_posix(): file.read_bytes().decode() for file in path.rglob("*") if file.is_file()}


def annotated(path: Path, text: str, *annotations: Annotation) -> str:
    """The text of one file after ``owner: me``, or else ``annotations``, was set in it."""
    return changed(path, {"csv.yaml": text}, Transformations(annotations=annotations) if annotations else OWNER)[
        "csv.yaml"
    ]


def refusal(path: Path, files: Mapping[str, str | bytes], wanted: Transformations) -> str:
    with pytest.raises(PackageValidationError) as caught:
        apply(tree_below(write_tree(path, files)), wanted)
    error = caught.value
    assert not error.transient
    assert error.details == {"validation_info": {}}
    assert str(path) not in error.message
    assert error.message.isprintable()
    return error.message


def meaning(text: str) -> Any:
    return yaml.safe_load(text.replace("\r\n", "\n").replace("\r", "\n"))


# The whole


def test_nothing_wanted_is_nothing_done(tmp_path: Path) -> None:
    assert not Transformations()
    assert changed(tmp_path, {"a.yaml": b"a: ["}, Transformations()) == {"a.yaml": "a: ["}


@pytest.mark.parametrize("wanted", [SUFFIX, OWNER, Transformations(replacements=(Replacement("a", "b"),))])
def test_anything_wanted_is_something(wanted: Transformations) -> None:
    assert wanted


@pytest.mark.parametrize("files", [nested_operator("otter"), flat_operator("otter")], ids=["nested", "flat"])
def test_a_whole_operator(tmp_path: Path, files: dict[str, str]) -> None:
    wanted = Transformations(
        "-dev", (Replacement("quay.example.org", "registry.test"),), (Annotation("of", "{package_name}!"),)
    )
    before = {path: meaning(text) for path, text in files.items()}

    after = {path: meaning(text) for path, text in changed(tmp_path, files, wanted).items()}

    assert OperatorManifests.read(tree_below(tmp_path)).package_name == "otter-dev"
    for path, document in before.items():
        if "packageName" in document:
            document["packageName"] = "otter-dev"
        if document.get("kind") == "ClusterServiceVersion":
            document["metadata"]["annotations"]["of"] = "otter-dev!"
        assert after[path] == json.loads(json.dumps(document).replace("quay.example.org", "registry.test"))


def test_once_is_enough(tmp_path: Path) -> None:
    wanted = Transformations("-dev", (Replacement("quay.example.org", "registry.test"),), (Annotation("a", "b"),))
    once = changed(tmp_path, nested_operator("otter"), wanted)

    assert changed(tmp_path, once, wanted) == once


def test_files_that_need_no_change_are_not_written(tmp_path: Path) -> None:
    files = {"p.yaml": "packageName: otter-dev", "csv.yaml": f"{CSV}metadata: {{annotations: {{owner: me}}}}"}
    write_tree(tmp_path, files)
    for file in tmp_path.iterdir():
        file.chmod(0o444)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}

    apply(tree_below(tmp_path), Transformations("-dev", (Replacement("absent", ""),), (Annotation("owner", "me"),)))

    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


# The suffix


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("packageName: otter\n", "packageName: otter-dev\n"),
        ("packageName: otter", "packageName: otter-dev"),
        (
            "# top\nz: 1\npackageName:   'otter'  # end\na: 2\n",
            "# top\nz: 1\npackageName:   'otter-dev'  # end\na: 2\n",
        ),
        ('"packageName": "otter" # é 😀\n', '"packageName": "otter-dev" # é 😀\n'),
        ("# 😀\r\npackageName: otter\r\nb: 1\r\n", "# 😀\r\npackageName: otter-dev\r\nb: 1\r\n"),
        ("a: 1\rpackageName: otter\rb: 1\r", "a: 1\rpackageName: otter-dev\rb: 1\r"),
        ("\ufeffpackageName: otter\n", "\ufeffpackageName: otter-dev\n"),
        ("%YAML 1.1\n---\npackageName: otter\n...\n", "%YAML 1.1\n---\npackageName: otter-dev\n...\n"),
        ('{"packageName":"otter","a":1}', '{"packageName":"otter-dev","a":1}'),
        ("packageName: |-\n  otter\n\n# next\na: 1\n", "packageName: |-\n  otter-dev\n\n# next\na: 1\n"),
        ("packageName: >-\n  otter", "packageName: >-\n  otter-dev"),
        ("? packageName\n: otter\n", "? packageName\n: otter-dev\n"),
        ("packageName:\n  otter\na: 1\n", "packageName:\n  otter-dev\na: 1\n"),
        ("packageName: &name !!str otter\n", "packageName: &name !!str otter-dev\n"),
        ("packageName: first\npackageName: otter\n", "packageName: first\npackageName: otter-dev\n"),
        ("name: &name otter\npackageName: *name\n", 'name: &name otter\npackageName: "otter-dev"\n'),
        ("&key packageName: otter\na: *key\n", "&key packageName: otter-dev\na: *key\n"),
        ('"\\x70ackageName": otter\n', '"\\x70ackageName": otter-dev\n'),
    ],
)
def test_the_suffix_is_all_that_changes(tmp_path: Path, text: str, result: str) -> None:
    assert changed(tmp_path, {"p.yaml": text}, SUFFIX) == {"p.yaml": result}
    assert meaning(result) == {**meaning(text), "packageName": "otter-dev"}


@pytest.mark.parametrize(("name", "suffix"), [("n", "o"), ("1", ".5"), ("2019-01-0", "1"), ("nu", "ll")])
def test_a_name_that_would_be_text_no_more_gets_quotes(tmp_path: Path, name: str, suffix: str) -> None:
    text = f"packageName: !!str {name}  # here\n" if name == "1" else f"packageName: {name}  # here\n"
    result = changed(tmp_path, {"p.yaml": text}, Transformations(suffix))["p.yaml"]

    assert meaning(result) == {"packageName": name + suffix}
    assert result.endswith("  # here\n")


def test_a_file_that_cannot_be_read_is_named_rather_than_a_package_name_that_is_missing(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"a.yaml": "kind: Service\n", "x.yaml": "a: ["}, Transformations("-x"))
    assert "Failed to process yaml file /x.yaml" in told


def test_a_name_that_ends_with_the_suffix_stays(tmp_path: Path) -> None:
    files = {"p.yaml": "packageName: otter-dev\n"}

    assert changed(tmp_path, files, SUFFIX) == files


def test_only_the_first_package_file_in_the_root_gets_it(tmp_path: Path) -> None:
    files = {"a.yaml": "a: {packageName: x}\n", "b.yml": PACKAGE, "c.yaml": PACKAGE, "1.0.0/a.yaml": PACKAGE}

    assert changed(tmp_path, files, SUFFIX) == {**files, "b.yml": "packageName: otter-dev\n"}


def test_a_merged_name_is_overridden(tmp_path: Path) -> None:
    text = "base: &base {packageName: otter}\n<<: *base\n"
    result = changed(tmp_path, {"p.yaml": text}, SUFFIX)["p.yaml"]

    assert result.endswith(text)
    assert meaning(result) == {"base": {"packageName": "otter"}, "packageName": "otter-dev"}


def test_a_name_that_another_value_shares_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"p.yaml": "packageName: &name otter\nalso: *name\n"}, SUFFIX)

    assert message.startswith("packageName in p.yaml cannot be changed: ")
    assert "anchors" in message


@pytest.mark.parametrize("wanted", [SUFFIX, Transformations(annotations=(Annotation("a", "{package_name}"),))])
def test_without_a_package_name_there_is_nothing_to_append_to(tmp_path: Path, wanted: Transformations) -> None:
    message = refusal(tmp_path, {"a.yaml": CSV, "1.0.0/p.yaml": PACKAGE}, wanted)

    assert message == "Could not find packageName in manifests."


def test_a_package_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "packageName in p.yaml must be text, but is a list." in refusal(
        tmp_path, {"p.yaml": "packageName: []"}, SUFFIX
    )


# Replacements


def replaced(path: Path, text: str, *replacements: Replacement) -> str:
    return changed(path, {"a.yaml": text}, Transformations(replacements=replacements))["a.yaml"]


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.YAML", "1.0/a.Yml", "1/2/3/a.yaml"])
def test_registries_are_replaced_in_yaml_files_everywhere(tmp_path: Path, name: str) -> None:
    files = {name: "image: quay.io/a: [ # quay.io", "README.md": "quay.io", "a.yaml.txt": "quay.io"}
    wanted = Transformations(replacements=(Replacement("quay.io", "registry.test"),))

    assert changed(tmp_path, files, wanted) == {**files, name: "image: registry.test/a: [ # registry.test"}


def test_replacements_follow_each_other(tmp_path: Path) -> None:
    assert replaced(tmp_path, "a b c", Replacement("a", "b"), Replacement("b", "c")) == "c c c"


def test_plain_replacements_are_no_expressions(tmp_path: Path) -> None:
    assert replaced(tmp_path, "a.c abc", Replacement("a.c", r"\1")) == r"\1 abc"


def test_mixed_line_ends_and_the_byte_order_mark_stay(tmp_path: Path) -> None:
    assert replaced(tmp_path, "\ufeffa\r\nb\nc\ra😀", Replacement("a", "é")) == "\ufeffé\r\nb\nc\ré😀"


def test_texts_do_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformations, "GROWTH", 100)
    wanted = Transformations(replacements=(Replacement("a", "bb"),))

    message = refusal(tmp_path, {"a.yaml": "a" * 70, "1/b.yaml": "a" * 70}, wanted)

    assert message == "Replacing registries would make the manifests more than 100 characters longer."


def test_a_bounded_number_of_places_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformations, "REPLACED", 100)
    wanted = Transformations(replacements=(Replacement("a", "b"),))

    assert changed(tmp_path / "1", {"a.yaml": "a" * 100}, wanted) == {"a.yaml": "b" * 100}
    assert "more than 100 places" in refusal(tmp_path / "2", {"a.yaml": "a" * 60, "b.yaml": "a" * 60}, wanted)


def test_what_utf_8_cannot_say_is_not_written(tmp_path: Path) -> None:
    wanted = Transformations(replacements=(Replacement("a", "\ud800"),))

    assert refusal(tmp_path, {"x.yaml": "a"}, wanted) == "x.yaml cannot be changed: the result would not be UTF-8 text."
    assert (tmp_path / "x.yaml").read_bytes() == b"a"


# Annotations


STYLES = [
    (
        "metadata:\n  # about\n  annotations:\n    # first\n    a: 'yes'\nspec: 1\n",
        'metadata:\n  # about\n  annotations:\n    "owner": "me"\n    # first\n    a: \'yes\'\nspec: 1\n',
    ),
    (
        "metadata:\n  annotations:\n    a: 1\n    owner:   you  # since\n    b: 12:30:45\n",
        'metadata:\n  annotations:\n    a: 1\n    owner:   "me"  # since\n    b: 12:30:45\n',
    ),
    ("metadata:\n  annotations:\n    'owner': 'you'\n", "metadata:\n  annotations:\n    'owner': \"me\"\n"),
    ('metadata:\n  "annotations":\n    "owner": no\n', 'metadata:\n  "annotations":\n    "owner": "me"\n'),
    ("metadata:\n  annotations:\n    owner:\n    b: c\n", 'metadata:\n  annotations:\n    owner: "me"\n    b: c\n'),
    ("metadata:\n  annotations:\n    owner: # who\n", 'metadata:\n  annotations:\n    owner: "me" # who\n'),
    (
        "metadata:\n  annotations:\n    owner: | # why\n      you\n      too\n\n    # b\n    b: c\n",
        'metadata:\n  annotations:\n    owner: "me" # why\n\n    # b\n    b: c\n',
    ),
    (
        "metadata:\n  annotations:\n    owner: !!str >+\n      you\n\n    b: |+\n      c\n\n# end\n",
        'metadata:\n  annotations:\n    owner: "me"\n\n    b: |+\n      c\n\n# end\n',
    ),
    (
        "metadata:\n  annotations:\n    owner: you and\n      others\n    b: c\n",
        'metadata:\n  annotations:\n    owner: "me"\n    b: c\n',
    ),
    (
        'metadata:\n  annotations:\n    owner: "you \\\n      and"\n    b: c\n',
        'metadata:\n  annotations:\n    owner: "me"\n    b: c\n',
    ),
    (
        "metadata:\n  annotations:\n    owner: &you you\n    b: c\n",
        'metadata:\n  annotations:\n    owner: "me"\n    b: c\n',
    ),
    ("metadata: {annotations: {a: b}}\n", 'metadata: {annotations: {"owner": "me", a: b}}\n'),
    ("metadata: {annotations: {a: b, owner: you}}\n", 'metadata: {annotations: {a: b, owner: "me"}}\n'),
    ('metadata: {"annotations":{"owner":"you"}}\n', 'metadata: {"annotations":{"owner":"me"}}\n'),
    ("metadata: {annotations: {owner, a}}\n", 'metadata: {annotations: {owner: "me", a}}\n'),
    (
        "metadata:\n  annotations: { # one\n    a: b,\n    c: d }\n",
        'metadata:\n  annotations: {"owner": "me",  # one\n    a: b,\n    c: d }\n',
    ),
    ("metadata:\n  annotations: {} # none\n", 'metadata:\n  annotations: {"owner": "me"} # none\n'),
    ("metadata:\n  annotations: # none\n", 'metadata:\n  annotations: {"owner": "me"} # none\n'),
    ("metadata:\n  annotations: null\n", 'metadata:\n  annotations: {"owner": "me"}\n'),
    ("metadata:\n  annotations: &none ~ # none\n", 'metadata:\n  annotations: {"owner": "me"} # none\n'),
    ("metadata:\n  # n\n  name: x\n", 'metadata:\n  annotations:\n    "owner": "me"\n  # n\n  name: x\n'),
    ("metadata: {name: x}\n", 'metadata: {annotations: {"owner": "me"}, name: x}\n'),
    ("metadata:\n", 'metadata: {annotations: {"owner": "me"}}\n'),
    ("? metadata\n", '? metadata\n: {annotations: {"owner": "me"}}\n'),
    (
        "? metadata\n: ? annotations\n  : ? a\n    : b\n",
        '? metadata\n: ? annotations\n  : "owner": "me"\n    ? a\n    : b\n',
    ),
    (
        "metadata:\n  annotations:\n    ? owner # who\n    : you\n    ? b\n",
        'metadata:\n  annotations:\n    ? owner # who\n    : "me"\n    ? b\n',
    ),
    (
        "metadata:\n  annotations:\n    ? owner # who:\n    ? b\n",
        'metadata:\n  annotations:\n    ? owner\n    : "me" # who:\n    ? b\n',
    ),
    (
        "metadata: &m\n        annotations: !!map &a\n                a: b\n",
        'metadata: &m\n        annotations: !!map &a\n                "owner": "me"\n                a: b\n',
    ),
    (
        "metadata:\n  annotations:\n    owner: you\n  annotations:\n    owner: us\n"
        "metadata:\n  annotations:\n    owner: them\n",
        "metadata:\n  annotations:\n    owner: you\n  annotations:\n    owner: us\n"
        'metadata:\n  annotations:\n    owner: "me"\n',
    ),
    (
        "base: &base {a: b, owner: you}\nmetadata:\n  annotations:\n    <<: *base\n    c: d\n",
        'base: &base {a: b, owner: you}\nmetadata:\n  annotations:\n    "owner": "me"\n    <<: *base\n    c: d\n',
    ),
    (
        "who: &who you\nmetadata:\n  annotations: {owner: *who , also: *who }\n",
        'who: &who you\nmetadata:\n  annotations: {owner: "me" , also: *who }\n',
    ),
    (
        "metadata:\n  annotations:\n    a: '\t'  # tab\t\n",
        'metadata:\n  annotations:\n    "owner": "me"\n    a: \'\t\'  # tab\t\n',
    ),
    ("metadata: {annotations: {owner: {a: b} }}\n", 'metadata: {annotations: {owner: "me" }}\n'),
    (
        'metadata:\n  annotations:\n    a: "\\ud83d\\ude00 😀 é"\n',
        'metadata:\n  annotations:\n    "owner": "me"\n    a: "\\ud83d\\ude00 😀 é"\n',
    ),
]


@pytest.mark.parametrize(("text", "result"), STYLES)
@pytest.mark.parametrize("form", ["{}", "--- # 😀\n{}...\n", "\ufeff# é\n{}", "{}\r\n"], ids=repr)
def test_the_annotation_is_all_that_changes(tmp_path: Path, text: str, result: str, form: str) -> None:
    text, result = (form.format(f"{CSV}{each}") for each in (text, result))
    if form.endswith("\r\n"):
        text, result = (each.replace("\r\n", "\n").replace("\n", "\r\n") for each in (text, result))

    assert annotated(tmp_path, text) == result
    assert meaning(result)["metadata"]["annotations"]["owner"] == "me"


def test_places_are_the_same_without_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_edit, "_LIBYAML", yaml.SafeLoader)

    for text, result in STYLES:
        assert annotated(tmp_path, f"\ufeff# 😀\n{CSV}{text}") == f"\ufeff# 😀\n{CSV}{result}"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("metadata:\n  annotations:\n    owner: you", 'metadata:\n  annotations:\n    owner: "me"'),
        ("metadata:\n  annotations:\n    owner: |-\n      you", 'metadata:\n  annotations:\n    owner: "me"'),
        ("metadata:", 'metadata: {annotations: {"owner": "me"}}'),
        ("? metadata", '? metadata\n: {annotations: {"owner": "me"}}'),
    ],
)
def test_the_last_line_needs_no_end(tmp_path: Path, text: str, result: str) -> None:
    assert annotated(tmp_path, CSV + text) == CSV + result


def test_missing_metadata_is_created_before_the_first_key_and_below_the_head(tmp_path: Path) -> None:
    assert annotated(tmp_path, f"# licence\n---\n# about\n{CSV}") == (
        f'# licence\n---\n# about\nmetadata:\n  annotations:\n    "owner": "me"\n{CSV}'
    )


def test_json_is_yaml_too(tmp_path: Path) -> None:
    assert annotated(tmp_path, '{"kind":"ClusterServiceVersion","metadata":{"annotations":{"a":"b"}}}') == (
        '{"kind":"ClusterServiceVersion","metadata":{"annotations":{"owner": "me", "a":"b"}}}'
    )


def test_several_annotations_are_set_at_once_and_those_that_are_right_stay(tmp_path: Path) -> None:
    text = f"{CSV}metadata:\n  annotations:\n    a: 'x'  # 1\n    b: y  # 2\n"
    annotations = [Annotation(name, "x") for name in "abcd"]

    assert annotated(tmp_path, text, *annotations) == (
        f'{CSV}metadata:\n  annotations:\n    "c": "x"\n    "d": "x"\n    a: \'x\'  # 1\n    b: "x"  # 2\n'
    )


def test_the_value_knows_the_package_name_with_its_suffix(tmp_path: Path) -> None:
    files = {"p.yaml": PACKAGE, "csv.yaml": CSV}
    wanted = Transformations("-dev", annotations=(Annotation("of", "{{{package_name}}}"),))

    assert meaning(changed(tmp_path, files, wanted)["csv.yaml"])["metadata"] == {"annotations": {"of": "{otter-dev}"}}


@pytest.mark.parametrize("suffix", ["", "-dev"])
def test_the_value_knows_the_package_name_under_which_it_is_released(tmp_path: Path, suffix: str) -> None:
    wanted = Transformations(suffix, (Replacement("otter", "badger"),), (Annotation("of", "{package_name}"),))

    after = changed(tmp_path, {"p.yaml": PACKAGE, "csv.yaml": CSV}, wanted)

    assert OperatorManifests.read(tree_below(tmp_path)).package_name == f"badger{suffix}"
    assert meaning(after["csv.yaml"])["metadata"] == {"annotations": {"of": f"badger{suffix}"}}


def test_a_replacement_that_leaves_no_package_name_is_told_where_the_name_is_needed(tmp_path: Path) -> None:
    wanted = Transformations("", (Replacement("packageName", "name"),), (Annotation("of", "{package_name}"),))
    assert "Could not find packageName" in refusal(tmp_path, {"p.yaml": PACKAGE, "csv.yaml": CSV}, wanted)


@pytest.mark.parametrize(
    "name", ["yes", "1", "null", "12:30:45", "<<", "=", "a: b", "#", "é😀", "- ", '"', "~", "x" * 900]
)
def test_a_name_is_text_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    text = f"{CSV}metadata:\n  annotations:\n    yes: a\n    1: b\n    null: c\n    12:30:45: d\n"
    before = meaning(text)["metadata"]["annotations"]

    assert meaning(annotated(tmp_path, text, Annotation(name, "x")))["metadata"]["annotations"] == {**before, name: "x"}


@pytest.mark.parametrize(
    "value",
    ["yes", "off", "12:30:45", "1", "", " ", "a\nb\n", "\t\r", "\0\x7f\x85\xa0", "\ufeff\u2028\ufffe", "😀\U000e0001"],
)
def test_a_value_is_text_whatever_it_looks_like(tmp_path: Path, value: str) -> None:
    result = annotated(tmp_path, CSV, Annotation("a", value))

    assert meaning(result)["metadata"]["annotations"] == {"a": value}
    assert yaml.load(result, Loader=yaml.CSafeLoader) == meaning(result)


@pytest.mark.parametrize("path", ["csv.yaml", "csv.yml", "1.0.0/csv.yaml", "1.0.0/csv.yml"])
def test_csvs_where_operator_courier_looks_are_annotated(tmp_path: Path, path: str) -> None:
    assert changed(tmp_path, {path: CSV}, OWNER)[path] != CSV


@pytest.mark.parametrize("path", ["csv.YAML", "csv.json", "1.0.0/deeper/csv.yaml", "csv"])
def test_csvs_elsewhere_are_not(tmp_path: Path, path: str) -> None:
    assert changed(tmp_path, {path: CSV}, OWNER) == {path: CSV}


@pytest.mark.parametrize(
    "text",
    [
        f"- {CSV}",
        f"spec: {{{CSV[:-1]}}}",
        "# ClusterServiceVersion",
        "kind: [ClusterServiceVersion]",
        f"{PACKAGE}{CSV}",
    ],
)
def test_what_is_no_csv_stays(tmp_path: Path, text: str) -> None:
    assert changed(tmp_path, {"a.yaml": text}, OWNER) == {"a.yaml": text}


@pytest.mark.parametrize(
    "kind",
    [
        '"\\x43lusterServiceVersion"',
        '"Cluster\\\n  ServiceVersion"',
        "!!str ClusterServiceVersion",
        "|-\n  ClusterServiceVersion",
    ],
)
def test_a_csv_is_one_however_its_kind_is_spelled(tmp_path: Path, kind: str) -> None:
    text = f"kind: {kind}\nmetadata: {{annotations: {{}}}}\n"

    assert annotated(tmp_path, text) == text.replace("{}", '{"owner": "me"}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metadata: x", "metadata in csv.yaml must be a mapping, but is text."),
        ("metadata: [x]", "metadata in csv.yaml must be a mapping, but is a list."),
        ("metadata: {annotations: [x]}", "metadata.annotations in csv.yaml must be a mapping, but is a list."),
        ("metadata: {annotations: ''}", "metadata.annotations in csv.yaml must be a mapping, but is text."),
        (
            "metadata: {annotations: 1}",
            "metadata.annotations in csv.yaml must be a mapping, but is a number or a date.",
        ),
        ("metadata: {annotations: false}", "metadata.annotations in csv.yaml must be a mapping, but is a boolean."),
        ("metadata: {annotations: !!set {a}}", "metadata.annotations in csv.yaml must be a mapping"),
        ("a: &a {b: c}\nmetadata: {annotations: *a}", "metadata.annotations is an alias"),
        ("a: &a {b: c}\nmetadata: *a", "metadata is an alias"),
        ("metadata: {annotations: &a {b: c}}\nspec: {annotations: *a}", "anchors, aliases or merge keys"),
        ("metadata: &a {annotations: {b: c}}\nspec: *a", "anchors, aliases or merge keys"),
        ("metadata: {annotations: &a {b: c}}\nspec: {<<: *a}", "anchors, aliases or merge keys"),
        ("a: &a {annotations: {b: c}}\nmetadata: {<<: *a}", "anchors, aliases or merge keys"),
        ("metadata: {annotations: {owner: &a you, also: *a}}", "anchors, aliases or merge keys"),
        ("metadata:\n  annotations:\n    owner:\n      a: b", "a mapping or a list on lines of its own"),
        ("metadata:\n  annotations:\n    owner:\n    - b", "a mapping or a list on lines of its own"),
    ],
)
def test_what_cannot_be_annotated_alone_is_refused_and_left(tmp_path: Path, text: str, reason: str) -> None:
    message = refusal(tmp_path, {"csv.yaml": CSV + text}, OWNER)

    assert reason in message
    assert "csv.yaml" in message
    assert (tmp_path / "csv.yaml").read_text() == CSV + text


# Content that cannot be read


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
@pytest.mark.parametrize("wanted", [SUFFIX, OWNER], ids=["suffix", "annotation"])
def test_what_has_to_be_looked_into_must_be_readable(tmp_path: Path, path: Path, wanted: Transformations) -> None:
    content = path.read_bytes() + b"\n# packageName, ClusterServiceVersion"

    message = refusal(tmp_path, {"a.yaml": content, "z.yaml": PACKAGE}, wanted)

    assert message.startswith("Failed to process yaml file /a.yaml: ")


@pytest.mark.parametrize("wanted", [SUFFIX, OWNER, Transformations(replacements=(Replacement("a", "b"),))])
def test_what_is_not_utf_8_is_refused(tmp_path: Path, wanted: Transformations) -> None:
    message = refusal(tmp_path, {"a.yaml": b"\xff", "p.yaml": PACKAGE}, wanted)

    assert message == "Failed to process yaml file /a.yaml: it is not UTF-8 text"


def test_a_text_that_only_the_slow_parser_reads_must_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = CSV + 'a: "\\ud83d\\ude00"\n'
    monkeypatch.setattr(yaml_edit, "PURE_CHARACTERS", 10)

    assert "too long" in refusal(tmp_path, {"a.yaml": text}, OWNER)
