# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests that explode, that are no YAML, or that hold something else than they should."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from omps_worker.sandbox.operators import zip_of
from tests.support.hostile import CRD, CSV, DONE, FLAT, MANIFESTS, NESTED, PACKAGE, Target, flat_with, target

Text = str | bytes | Callable[[], "str | bytes"]

TWO_TARGETS = """
version: 1
rules:
  - match: {component: "*-container"}
    publish: [{organization: community}, {organization: partners, version: csv}]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Target]:
    with target(mapping=TWO_TARGETS) as made:
        yield made


def laughs(levels: int, width: int, form: str) -> str:
    """Aliases of lists, or merges, of aliases: a billion laughs."""
    lines = ["a0: &a0 " + {"list": "[lol]", "map": "{lol: lol}", "merge": "{lol: lol}"}[form]]
    for level in range(1, levels):
        below = [f"*a{level - 1}"] * width
        if form == "list":
            value = f"[{', '.join(below)}]"
        elif form == "map":
            value = "{" + ", ".join(f"k{n}: {alias}" for n, alias in enumerate(below)) + "}"
        else:
            value = f"{{<<: [{', '.join(below)}]}}"
        lines.append(f"a{level}: &a{level} {value}")
    return "\n".join(lines) + "\n"


def colliding(count: int, form: str = "{}: 0\n") -> str:
    """Keys that a dict cannot tell apart without comparing each with each."""
    return "".join(form.format(number * (2**61 - 1)) for number in range(1, count + 1))


EXTRA_REFUSED: dict[str, Text] = {
    # bombs
    "a billion laughs in lists": laughs(9, 10, "list"),
    "a billion laughs in mappings": laughs(9, 10, "map"),
    "a billion laughs in merge keys": laughs(9, 10, "merge"),
    "doubling laughs": laughs(40, 2, "list"),
    "doubling merges": laughs(40, 2, "merge"),
    "merges that are just few enough to count": laughs(15, 2, "merge"),
    "a megabyte of text five thousand times": lambda: f"x: &a {'y' * 2**20}\ny: [{'*a, ' * 5000}]\n",
    "a thousand keys four hundred times by merging": lambda: (
        "a: &a {" + ", ".join(f"k{n}: v" for n in range(1000)) + "}\nb:\n" + "- {<<: *a}\n" * 400
    ),
    "ten thousand keys that collide": lambda: colliding(10_000),
    "three thousand tagged keys that collide": lambda: colliding(3000, "? !!int '{}'\n: 0\n"),
    "a set that collides": lambda: "a: !!set\n" + colliding(5000, "  ? {}\n"),
    "too many values": lambda: "[" + "a," * 260_000 + "]",
    "too many empty mappings": lambda: "[" + "{}," * 260_000 + "]",
    "eighteen megabytes of text": lambda: "a: " + "b " * 9 * 2**20,
    "eighteen megabytes of line breaks": lambda: "\n" * 18 * 2**20,
    "eighteen megabytes of document starts": lambda: "---\n" * (4 * 2**20),
    "a number of nine megabytes": lambda: "a: " + "1" * 9 * 2**20,
    "a number of sixties": lambda: "a: 1" + ":1" * 2**20 + "x",
    "five thousand numbers of a thousand digits in other bases": lambda: "- 0x" + "f" * 1200 + "\n",
    "tags in two hundred thousand values": lambda: "a: !!str b\nc: [" + "d," * 200_000 + "]",
    # depth
    "brackets a thousand deep": "[" * 1000 + "]" * 1000,
    "brackets that never close": lambda: "[" * 2**20,
    "mappings a thousand deep": "{a: " * 1000 + "}" * 1000,
    "dashes a thousand deep": "- " * 1000 + "a",
    "complex keys a thousand deep": "? " * 1000 + "a",
    "indentation five thousand deep": lambda: "".join(" " * depth + "a:\n" for depth in range(5000)),
    # anchors
    "a list in itself": "&a [*a]",
    "a mapping in itself": "a: &a {b: *a}",
    "a merge with itself": "a: &a {<<: *a}",
    "an alias of nothing": "a: *b",
    "an alias of a later anchor": "a: *b\nb: &b c",
    "the same anchor twice": "a: &x 1\nb: &x 2",
    "an anchor of a megabyte": lambda: f"a: *{'x' * 2**20}",
    # tags
    "python/object": "!!python/object/apply:os.system ['touch /tmp/hostile']",
    "python/name": "a: !!python/name:os.system",
    "python/tuple": "a: !!python/tuple [1, 2]",
    "an unknown tag": "a: !hostile b",
    "an unknown long tag": "a: !<tag:example.com,2019:x> b",
    "a tag handle that is not declared": "a: !e!x b",
    "an int that is none": "a: !!int hostile",
    "a float that is none": "a: !!float {}",
    "a boolean that is none": "a: !!bool [true]",
    "a timestamp that is none": "a: !!timestamp yesterday",
    "binary that is none": "a: !!binary é",
    "an ordered map that is none": "a: !!omap {b: c}",
    "pairs that are none": "a: !!pairs [b]",
    "a merge with a text": "a: {<<: text}",
    "a merge with texts": "a: {<<: [a, b]}",
    # dates and numbers
    "the thirteenth month": "a: 2019-13-01",
    "the thirty-second day": "a: 2019-01-32",
    "the year zero": "a: 0000-01-01",
    "the twenty-fifth hour": "a: 2019-01-01 25:00:00",
    "a zone of ninety-nine hours": "a: 2019-01-01 00:00:00 +99:00",
    "a float of sixties that has no end": lambda: "a: 1" + ":59" * 330 + ".5",
    # form
    "two documents": "a: b\n---\nc: d\n",
    "a hundred thousand documents": lambda: "---\na\n" * 100_000,
    "a list as a key": "[a]: b",
    "a mapping as a key": "{a: b}: c",
    "a list as a key of a set": "!!set {[a]}",
    "a tab for indentation": "a:\n\tb: c\n",
    "a tab where a value begins": "a:\n  - b\n\t- c\n",
    "an unclosed quote": "a: 'b",
    "an unclosed quote of megabytes": lambda: "a: '" + "b" * 2**20,
    "a bad escape": r'a: "\q"',
    "an escape beyond Unicode": r'a: "\UFFFFFFFF"',
    "a directive that is unknown to all": "%YAML 9.9\n---\na\n",
    "a directive twice": "%YAML 1.1\n%YAML 1.1\n---\na\n",
    "a reserved character": "a: @b",
    "a backtick": "a: `b`",
    "a percent sign": "a: %b",
    "no space after a colon in a flow": "{a:b, c:d}}",
    "a NUL": "a: b\0c",
    "a bell": "a: b\x07c",
    "a surrogate": b"a: \xed\xa0\x80",
    "a byte that is no UTF-8": b"a: \xff",
    "half a character": b"a: \xc3",
    "an overlong NUL": b"a: \xc0\x80",
    "Latin-1": "a: é".encode("latin-1"),
    "UTF-16 with a mark": "a: b".encode("utf-16"),
    "UTF-16 without a mark": "a: b".encode("utf-16-be"),
    "UTF-32": "a: b".encode("utf-32"),
    "UTF-7 that is not": b"+AGE-: +AGI-: c",
    "a byte order mark in the middle": "a: b\ufeffc: d\n\ufeff- x",
    "a zip": b"PK\x03\x04" + bytes(200),
    "html": "<!DOCTYPE html>\n<html>\n<title>404 Not Found: nginx</title>\n</html>",
    "a merge conflict": "a: b\n<<<<<<< HEAD\nc: d\n=======\ne: f\n>>>>>>> other\n",
    "a Jinja template": "a: {{ b }}\n{% if c %}\nd: e\n{% endif %}\n",
}

EXTRA_HARMLESS: dict[str, Text] = {
    "an empty file": b"",
    "only a comment": "# nothing",
    "null": "null",
    "a text": "hostile",
    "a number": "7",
    "a list": "- a\n- b\n",
    "a byte order mark": codecs.BOM_UTF8 + b"a: b",
    "carriage returns": "a: b\r\nc: d\re: f\n",
    "a megabyte on one line": lambda: "a: " + "b" * 2**20,
    "ten thousand keys that are the same": lambda: "a: b\n" * 10_000,
    "a key of a megabyte": lambda: "? " + "k" * 2**20 + "\n: v\n",
    "a hundred thousand values": lambda: "[" + "a," * 100_000 + "]",
    "infinity and no number": "[.inf, -.inf, .NaN, 1e999]",
    "numbers of sixties": "[1:30, 190:20:30, 190:20:30.15]",
    "hexadecimal and octal": "[0xff, 0777, 0b1010, 1_000, 0o7]",
    "a number of a thousand digits": "a: " + "9" * 999,
    "brackets two hundred deep": "[" * 200 + "]" * 200,
    "a leap second": "a: 2016-12-31 23:59:59.999999Z",
    "before the beginning of time": "a: 0001-01-01 00:00:00 +10:00",
    "after the end of time": "a: 9999-12-31 23:59:59 -10:00",
    "Norwegian": "country: no",
    "a merge key": "a: &a {b: c}\nd: {<<: *a}\n",
    "a merge key of many": "a: &a {b: c}\nd: {<<: [*a, *a, *a]}\n",
    "a set, an ordered map and pairs": "a: !!set {b, c}\nd: !!omap [e: f]\ng: !!pairs [h: i, h: j]\n",
    "binary": "a: !!binary aGVsbG8=",
    "a string that is tagged": "a: !!str 1",
    "a value key": "{=: a}",
    "right to left": 'a: "\\u202egnp"',
    "a thousand keys that collide": lambda: colliding(999),
    "YAML 1.1 says its version": "%YAML 1.1\n---\na\n...\n",
    "JSON": '{"a": [1, 2.5, true, null, "\\u00e9"]}',
    "a text with half a surrogate pair": 'a: "\\ud800"',
    "another kind of object": "kind: Deployment\nspec: []\n",
}


def of(text: Text) -> str | bytes:
    return text() if callable(text) else text


@pytest.mark.parametrize("text", EXTRA_REFUSED.values(), ids=EXTRA_REFUSED)
def test_hostile_yaml_is_refused_by_name(site: Target, text: Text) -> None:
    assert site.attack(flat_with(extra=of(text))) == {MANIFESTS}


@pytest.mark.parametrize("text", EXTRA_HARMLESS.values(), ids=EXTRA_HARMLESS)
def test_odd_yaml_beside_the_manifests_does_no_harm(site: Target, text: Text) -> None:
    assert site.attack(flat_with(extra=of(text))) <= {*DONE, "QuayCourierError"}


@pytest.mark.parametrize("text", list(EXTRA_REFUSED)[::6])
def test_hostile_yaml_of_a_build_that_does_not_say_what_it_is_is_refused_too(site: Target, text: str) -> None:
    assert site.attack(zip_of({"a.yaml": of(EXTRA_REFUSED[text])}), legacy=True) == {MANIFESTS}


PACKAGE_NAMES = (
    "", " ", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "-rf", "--help", "A", "Lantern", "läntern", "lantern ",
    "lan tern",
    "lantern\n", "lan\ttern", "lan\0tern", "lan\u202etern", "lantern%2f..", "lantern?x=1", "lantern#x", "lantern;x",
    "@lantern",
    "lantern:1", "_lantern", "😀", "n" * 256, "n" * 100_000, "$(reboot)", "<script>", "null\u0000", "\ud800",
    7, 1.5, True, None, [], ["lantern"], {}, {"a": "b"}, float("nan"), float("inf"),
)  # fmt: skip


@pytest.mark.parametrize("name", PACKAGE_NAMES, ids=lambda name: repr(name)[:30])
def test_a_hostile_package_name_never_reaches_the_registry(site: Target, name: Any) -> None:
    asked = len(site.registry.log)
    document = {**yaml.safe_load(FLAT[PACKAGE]), "packageName": name}
    assert site.attack(flat_with(package=yaml.dump(document))) == {MANIFESTS}
    assert len(site.registry.log) == asked


WRONG = (
    None,
    "",
    "text",
    "é\x85\u2028" * 99,
    7,
    -1,
    1.5,
    float("nan"),
    True,
    [],
    [None],
    ["a"],
    [[]],
    [{}],
    {},
    {"a": "b"},
    {1: 2},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document: keys of mappings and the first items of lists."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def fields() -> Iterator[Any]:
    for name, file, depth in (("package", PACKAGE, 4), ("csv", CSV, 4), ("crd", CRD, 4)):
        for path in places(yaml.safe_load(FLAT[file])):
            if len(path) <= depth:
                yield pytest.param(name, file, path, id=f"{name} {'.'.join(map(str, path))}")


@pytest.mark.parametrize(("name", "file", "path"), list(fields()))
def test_a_field_of_another_type_leads_to_an_outcome_with_a_name(
    site: Target, name: str, file: str, path: tuple[Any, ...]
) -> None:
    document = yaml.load(FLAT[file], yaml.CSafeLoader)
    for wrong in (KeyError, *WRONG):
        text = yaml.dump(with_value(document, path, wrong), Dumper=yaml.CSafeDumper)
        told = site.prepared(flat_with(**{name: text}))
        assert told in (MANIFESTS, "published"), f"{wrong!r}: {told}"


@pytest.mark.parametrize("name", ["package", "csv", "crd"])
@pytest.mark.parametrize("wrong", [{}, [], {"kind": []}, {"kind": {}}, {"packageName": {}}, {"kind": "x"}], ids=repr)
def test_a_manifest_of_another_kind_leads_to_an_outcome_with_a_name(site: Target, name: str, wrong: Any) -> None:
    assert site.attack(flat_with(**{name: yaml.dump(wrong)})) <= {MANIFESTS, *DONE, "OMPSInvalidVersionFormat"}


@pytest.mark.parametrize(
    "version", ["1.0", "1", 1.0, "01.0.0", "v1.0.0", "1.0.0-x", "9" * 500 + ".0.0", "../1.0.0", [], None, True, 10**900,
                float("nan"), "1.0.0\n", "１.0.0", "1.0.0 "], ids=lambda version: repr(version)[:30],
)  # fmt: skip
def test_a_version_that_is_none_fails_one_target_only(site: Target, version: Any) -> None:
    document = with_value(yaml.safe_load(FLAT[CSV]), ("spec", "version"), version)
    told = site.attack(flat_with(csv=yaml.dump(document)))
    assert told & {*DONE, MANIFESTS}
    assert told - {*DONE} <= {"OMPSInvalidVersionFormat", MANIFESTS}


def many_csvs(count: int) -> dict[str, str]:
    return {f"c{n}.yaml": f"kind: ClusterServiceVersion\nmetadata: {{name: n{n}}}\n" for n in range(count)}


def owning(times: int, name: str) -> str:
    return FLAT[CSV].replace("    owned:\n", f"    owned:\n    - {{name: &n {name}}}\n" + "    - {name: *n}\n" * times)


COSTLY: dict[str, Callable[[], dict[str, str]]] = {
    "twenty thousand channels and fifteen hundred versions": lambda: {
        **many_csvs(1500),
        PACKAGE: "packageName: lantern\nchannels:\n- &c {name: s, currentCSV: lantern.v1.4.2}\n" + "- *c\n" * 20_000,
    },
    "twenty thousand resources that nobody defines": lambda: {CSV: owning(20_000, "nobody")},
    "long names of resources that nobody defines": lambda: {CSV: owning(90, "n" * 100_000)},
    "three thousand resources and a thousand definitions": lambda: {
        CSV: owning(3000, "nobody"),
        **{f"d{n}.yaml": "kind: CustomResourceDefinition\n" for n in range(1000)},
    },
    "examples of five million lists": lambda: {
        CSV: FLAT[CSV].replace("alm-examples:", f"alm-examples: '[{'[],' * 3_000_000}[]]'\n    more:")
    },
    "examples a hundred thousand deep": lambda: {
        CSV: FLAT[CSV].replace("alm-examples:", f"alm-examples: '{'[' * 99_000}'\n    more:")
    },
    "examples of a number of a million digits": lambda: {
        CSV: FLAT[CSV].replace("alm-examples:", f"alm-examples: '{'1' * 1_000_000}'\n    more:")
    },
}


@pytest.mark.parametrize("levels", [500, 5_000, 100_000])
def test_examples_nested_however_deep_are_taken_or_refused_as_manifests(site: Target, levels: int) -> None:
    for example in ("[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels):
        csv = FLAT[CSV].replace("alm-examples:", f"alm-examples: '{example}'\n    more:")
        assert site.prepared(zip_of({**FLAT, CSV: csv})) in {MANIFESTS, *DONE}


@pytest.mark.parametrize("files", COSTLY.values(), ids=COSTLY)
def test_manifests_that_are_costly_to_compare_are_refused(site: Target, files: Callable[[], dict[str, str]]) -> None:
    assert site.attack(zip_of({**FLAT, **files()})) == {MANIFESTS}


@pytest.mark.parametrize(
    "files",
    [
        {"second.package.yaml": NESTED["otter-cache.package.yaml"]},
        {"1.0.0/" + CSV: FLAT[CSV]},
        {"bundle.yaml": "data: {packages: []}"},
        {"a.yaml": "packageName: lantern"},
        {"a/b.yaml": "packageName: lantern"},
    ],
    ids=["two packages", "flat and nested", "a bundle already", "a package without channels", "a package further down"],
)
def test_a_tree_of_two_minds_leads_to_an_outcome_with_a_name(site: Target, files: dict[str, str]) -> None:
    assert site.attack(zip_of({**FLAT, **files})) <= {MANIFESTS, *DONE}
