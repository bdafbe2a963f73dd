# SPDX-License-Identifier: GPL-3.0-or-later
"""What opm refuses about a package of a catalog."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.grammars.graph import reached_from
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import FILE_BLOBS, FILE_BYTES, NotAPackageFile, PackageFile
from tests.support.olm import bundle_blob, channel, image, package_blob, small_package

HEAD = {"name": "otter.v1.1.0", "replaces": "otter.v1.0.0"}
BUNDLES = (bundle_blob("otter.v1.0.0", "1.0.0"), bundle_blob("otter.v1.1.0", "1.1.0"))


def found(*blobs: Mapping[str, Any]) -> list[str]:
    return [finding.text for finding in rules.faults(blobs)]


def with_blob(**changes: Any) -> tuple[Mapping[str, Any], ...]:
    """The small package with changes of its first bundle."""
    return (package_blob(), channel("stable", HEAD, "otter.v1.0.0"), {**BUNDLES[0], **changes}, BUNDLES[1])


def with_properties(*properties: Any) -> tuple[Mapping[str, Any], ...]:
    return with_blob(properties=[*BUNDLES[0]["properties"], *properties])


def deprecated(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"schema": "olm.deprecations", "package": "otter", "entries": list(entries), **more}


def entry(schema: str, name: str | None = None, message: str = "old") -> dict[str, Any]:
    reference = {"schema": schema} if name is None else {"schema": schema, "name": name}
    return {"reference": reference, "message": message}


def test_a_package_without_faults_has_none():
    assert rules.faults(small_package().blobs()) == []
    rules.check(small_package())


REFUSED = {
    "no channel": ((package_blob(),), "has no channel"),
    "two packages": ((package_blob(), *small_package().blobs()), "2 blobs of olm.package"),
    "no default channel": ((package_blob(""), *small_package().blobs()[1:]), "no default channel"),
    "other default channel": ((package_blob("x"), *small_package().blobs()[1:]), "default channel x does not exist"),
    "upper case": ((package_blob(name="Otter"),), "'Otter' cannot be the name"),
    "dots": ((package_blob(name="otter.io"),), "'otter.io' cannot be the name"),
    "too long": ((package_blob(name="o" * 64),), "cannot be the name"),
    "dash at the end": ((package_blob(name="otter-"),), "cannot be the name"),
    "icon": ((package_blob(icon={"base64data": "x", "mediatype": "image/png"}),), "icon is no base64"),
    "icon of another type": ((package_blob(icon=[]),), "its icon is a list"),
    "icon with a number": (
        (package_blob(icon={"base64data": "AAAA", "mediatype": 1}),),
        "mediatype of the icon is no text",
    ),
    "bundle without a name": ((*small_package().blobs(), bundle_blob("", "2.0.0")), "a bundle without a name"),
    "entry without a name": ((*small_package().blobs(), channel("x", "")), "it has an entry without a name"),
    "two equal channels": ((*small_package().blobs(), small_package().channels[0]), "channel stable is there 2 times"),
    "channel without entries": ((*small_package().blobs(), channel("x")), "channel x: it has no entry"),
    "channel without a name": ((*small_package().blobs(), channel("", "otter.v1.0.0")), "channel without a name"),
    "entry without a bundle": ((*small_package().blobs(), channel("x", "y")), "no bundle for its entry y"),
    "two equal entries": (
        (*small_package().blobs(), channel("x", "otter.v1.0.0", "otter.v1.0.0")),
        "its entry otter.v1.0.0 is there 2 times",
    ),
    "bundle in no channel": ((*small_package().blobs(), bundle_blob("x", "2.0.0")), "bundle x is in no channel"),
    "two equal bundles": ((*small_package().blobs(), BUNDLES[0]), "bundle otter.v1.0.0 is there 2 times"),
    "two equal versions": (
        (*small_package().blobs(), bundle_blob("x", "1.0.0"), channel("x", "x")),
        "version 1.0.0 is that of several bundles: otter.v1.0.0, x",
    ),
    "other package": ((*small_package().blobs(), channel("x", "y", package="b")), "is of another package, 'b'"),
    "two heads": (
        (package_blob(), channel("stable", "otter.v1.0.0", "otter.v1.1.0"), *BUNDLES),
        "2 heads, which nothing replaces or skips: otter.v1.0.0, otter.v1.1.0",
    ),
    "no head": (
        (package_blob(), channel("stable", HEAD, {"name": "otter.v1.0.0", "skips": ["otter.v1.1.0"]}), *BUNDLES),
        "it has no head",
    ),
    "stranded by a skip": (
        (
            package_blob(),
            channel("stable", {"name": "c", "replaces": "b", "skips": ["b"]}, {"name": "b", "replaces": "a"}, "a"),
            *(bundle_blob(name, f"{number}.0.0") for number, name in enumerate("abc", 1)),
        ),
        "no chain of replaces from its head c reaches a",
    ),
    "cycle": (
        (
            package_blob(),
            channel(
                "stable", {"name": "c", "replaces": "b"}, {"name": "b", "replaces": "a"}, {"name": "a", "replaces": "b"}
            ),
            *(bundle_blob(name, f"{number}.0.0") for number, name in enumerate("abc", 1)),
        ),
        "its chain of replaces is a cycle: b -> a -> b",
    ),
    "empty skip": (
        (package_blob(), channel("stable", {**HEAD, "skips": [""]}, "otter.v1.0.0"), *BUNDLES),
        "skips a bundle without a name",
    ),
    "key in another case": (
        (package_blob(), channel("stable", {**HEAD, "SkipRange": "^1.0.0"}, "otter.v1.0.0"), *BUNDLES),
        "entry 0 has the key SkipRange, which must be spelt skipRange",
    ),
    "skipRange": (
        (package_blob(), channel("stable", {**HEAD, "skipRange": "^1.0.0"}, "otter.v1.0.0"), *BUNDLES),
        "skipRange '^1.0.0' of its entry otter.v1.1.0 is no range",
    ),
    "no image": (with_blob(image=""), "bundle otter.v1.0.0: it has no image"),
    "image": (with_blob(image="UPPER/case"), "its image 'UPPER/case' is no reference"),
    "related image": (
        with_blob(relatedImages=[{"name": "", "image": "a@b"}]),
        "relatedImages[0] 'a@b' is no reference",
    ),
    "related image of another type": (with_blob(relatedImages=[1]), "relatedImages[0] must be a mapping"),
    "no version": (with_blob(properties=[]), "0 properties of type olm.package"),
    "two versions": (with_properties(BUNDLES[0]["properties"][0]), "2 properties of type olm.package"),
    "a version that is none": (
        with_blob(properties=[{"type": "olm.package", "value": {"packageName": "otter", "version": "1.0"}}]),
        "its version '1.0' is no semantic version",
    ),
    "property of another package": (
        with_blob(properties=[{"type": "olm.package", "value": {"packageName": "b", "version": "1.0.0"}}]),
        "its property olm.package is of another package, 'b'",
    ),
    "property without a type": (with_properties({"value": 1}), "its property 1 has no type"),
    "property without a value": (with_properties({"type": "x"}), "its property 1, of type x, has no value"),
    "property of another type": (with_properties({"type": "olm.gvk", "value": "x"}), "olm.gvk must be a mapping"),
    "object": (with_properties({"type": "olm.bundle.object", "value": {"data": "x"}}), "is no base64"),
    "release and name": (
        with_blob(
            properties=[{"type": "olm.package", "value": {"packageName": "otter", "version": "1.0.0", "release": "2"}}]
        ),
        "so its name must be otter-v1.0.0-2",
    ),
    "release and build": (
        with_blob(
            properties=[
                {"type": "olm.package", "value": {"packageName": "otter", "version": "1.0.0+1", "release": "2"}}
            ]
        ),
        "its version may have no build metadata",
    ),
    "no schema": ((*small_package().blobs(), {"package": "otter"}), "a blob without a schema"),
    "keys in two cases": ((*small_package().blobs(), {"schema": "x", "a": 1, "A": 2}), "the key a more than once"),
    "name that is null": ((*small_package().blobs(), {"schema": "x", "name": None}), "its name is no text, but empty"),
    "name that is no text": ((*small_package().blobs(), {"schema": "x", "name": 1}), "its name is no text"),
    "entries that are no list": (
        (*small_package().blobs(), {**channel("x"), "entries": {}}),
        "its entries is a mapping",
    ),
    "entry that is no object": ((*small_package().blobs(), {**channel("x"), "entries": [1]}), "entry 0 is no object"),
    "skips that are no text": (
        (*small_package().blobs(), channel("x", {"name": "otter.v1.0.0", "skips": [1]})),
        "what it skips is no text",
    ),
    "two deprecations": (
        (*small_package().blobs(), deprecated(entry("olm.package")), deprecated()),
        "2 blobs of olm.deprecations",
    ),
    "deprecated bundle": (
        (*small_package().blobs(), deprecated(entry("olm.bundle", "x"))),
        "olm.bundle x is deprecated",
    ),
    "deprecated channel": ((*small_package().blobs(), deprecated(entry("olm.channel", "x"))), "olm.channel x is dep"),
    "deprecated package": ((*small_package().blobs(), deprecated(entry("olm.package", "x"))), "may not have a name"),
    "deprecated twice": ((*small_package().blobs(), deprecated(*2 * [entry("olm.package")])), "is deprecated twice"),
    "deprecated without a word": (
        (*small_package().blobs(), deprecated(entry("olm.package", message=""))),
        "no message",
    ),
    "deprecated something": ((*small_package().blobs(), deprecated(entry("x"))), "schema 'x', which cannot be"),
    "deprecated nothing": ((*small_package().blobs(), deprecated("x")), "schema '', which cannot be"),
    "deprecated number": (
        (*small_package().blobs(), deprecated({"reference": {"schema": 1}, "message": "x"})),
        "refers to something that is no text",
    ),
}


@pytest.mark.parametrize(("blobs", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_opm_refuses_is_found(blobs: Iterable[Mapping[str, Any]], fault: str) -> None:
    assert [text for text in found(*blobs) if fault in text] != []


TAKEN = {
    "tail replaces what is not there": (
        package_blob(),
        channel("stable", HEAD, {"name": "otter.v1.0.0", "replaces": "otter.v0.9.0", "skips": ["gone"]}),
        *BUNDLES,
    ),
    "icon with line breaks": (
        package_blob(icon={"base64data": "AA\nAA", "mediatype": "x"}),
        *small_package().blobs()[1:],
    ),
    "other schemas": (*small_package().blobs(), {"schema": "acme", "package": "otter", "deep": [[1]]}),
    "deprecations": (
        *small_package().blobs(),
        deprecated(entry("olm.package"), entry("olm.bundle", "otter.v1.0.0"), entry("olm.channel", "stable")),
    ),
    "objects in place of an image": with_blob(
        image="",
        properties=[
            *BUNDLES[0]["properties"],
            {"type": "olm.bundle.object", "value": {"data": base64.b64encode(b"{}").decode()}},
        ],
    ),
    "empty related image": with_blob(relatedImages=[{"name": "x", "image": ""}]),
    "unknown property": with_properties({"type": "acme", "value": None}),
    "versions that differ in build metadata": (
        *small_package().blobs(),
        bundle_blob("x", "1.0.0+1"),
        channel("x", "x"),
    ),
}


@pytest.mark.parametrize("blobs", TAKEN.values(), ids=TAKEN)
def test_what_opm_takes_has_no_fault(blobs: Iterable[Mapping[str, Any]]) -> None:
    assert found(*blobs) == []


def test_all_faults_are_found_at_once():
    with pytest.raises(PackageValidationError) as caught:
        rules.check(PackageFile.of([package_blob("x"), channel("stable", "a", "b"), {**BUNDLES[0], "image": "A"}]))

    assert len(caught.value.details["findings"]) >= 5


NAMES = st.sampled_from("abcdef")
ENTRIES = st.lists(
    st.tuples(NAMES, st.none() | st.sampled_from("abcdefx"), st.lists(st.sampled_from("abcdefx"), max_size=2)),
    min_size=1,
    max_size=6,
)
VERSIONS = st.fixed_dictionaries({name: st.integers(0, 9) for name in "abcdef"})


def brute_force(entries: list[tuple[str, str | None, list[str]]], versions: Mapping[str, int]) -> bool:
    """Whether opm takes a channel, judged without a walk: by counting, and by following edges as often as can be."""
    names = [name for name, _, _ in entries]
    if len(set(names)) < len(names) or len({versions[name] for name in names}) < len(names):
        return False
    skipped = {target for _, _, skips in entries for target in skips}
    heads = [name for name in names if not any(name == replaces or name in skips for _, replaces, skips in entries)]
    if len(heads) != 1:
        return False
    follow = {name: replaces for name, replaces, _ in entries if replaces and replaces not in skipped}
    places = heads
    for _ in names:
        places = [*places, *[follow[places[-1]]]] if places[-1] in follow else places
    if places[-1] in follow and len(places) > len(names):
        return False
    return all(name in places or name in skipped for name in names)


@given(ENTRIES, VERSIONS)
def test_graphs_are_judged_as_by_brute_force(entries, versions):
    blobs = [
        package_blob(),
        channel(
            "stable",
            *({"name": name, **({"replaces": to} if to else {}), "skips": skips} for name, to, skips in entries),
        ),
        *(bundle_blob(name, f"{versions[name]}.0.0") for name in {name for name, _, _ in entries}),
    ]

    assert (found(*blobs) == []) == brute_force(entries, versions)


@given(ENTRIES)
def test_a_walk_reaches_what_edges_lead_to_and_nothing_else(entries):
    edges = {name: {"name": name, "replaces": to, "skips": skips} for name, to, skips in entries}
    head = entries[0][0]
    reached = {head}
    for _ in edges:
        reached |= {
            target for name in reached for target in (edges[name]["replaces"], *edges[name]["skips"]) if target in edges
        }

    walk = reached_from(head, edges)

    assert (walk[0], set(walk), len(walk)) == (head, reached, len(set(walk)))
    assert reached_from("nobody", edges) == []


def test_a_chain_of_thousands_is_walked_without_recursion():
    names = [f"otter.v{number}.0.0" for number in range(5000)]
    entries = [
        {"name": names[0]},
        *({"name": name, "replaces": below} for below, name in itertools.pairwise(names)),
    ]
    blobs = [bundle_blob(name, name.removeprefix("otter.v")) for name in names]

    assert found(package_blob(), channel("stable", *entries), *blobs) == []


def test_text_that_looks_like_an_escape_of_go_reaches_old_opms_as_it_is():
    text = r"a\u003cb \\u003e \u0026 \u003d \U003C"
    package = small_package({"schema": "other", "text": text})
    written = package.data().decode()

    assert PackageFile.parse(package.data()) == package
    # opm before v1.28 replaces these in the text of a file, wherever they stand.
    assert not any(escape in written for escape in (r"\u003c", r"\u003e", r"\u0026"))
    assert r"\u003d \\U003C" in written


def test_a_package_file_is_read_as_it_was_written():
    package = small_package({"schema": "acme", "text": "ä\u2028\U0001f600 \\u003c"})

    assert package.data().isascii()
    assert PackageFile.parse(package.data()) == package
    assert PackageFile.of(reversed(package.blobs())).data() == package.data()
    assert (package.name, package.default_channel, package.bundle("x"), package.channel("x")) == (
        "otter",
        "stable",
        None,
        None,
    )


def test_bundles_without_a_version_come_first_and_fractions_stay():
    odd = (
        {**bundle_blob("x", "none"), "weight": 1.5},
        {**BUNDLES[0], "name": "y", "properties": [{"type": "olm.package", "value": {"version": 1}}]},
    )
    package = PackageFile.of([package_blob(), BUNDLES[0], *odd])

    assert [each["name"] for each in package.bundles] == ["x", "y", "otter.v1.0.0"]
    assert PackageFile.parse(package.data()) == package


HOSTILE = {
    "too large": b" " * (FILE_BYTES + 1),
    "no JSON": b"{",
    "no object": b"[1]\n",
    "not UTF-8": b"\xff\n",
    "no package": b'{"schema": "olm.channel"}\n',
    "NaN": b'{"schema": "olm.package", "x": NaN}\n',
    "infinite": b'{"schema": "olm.package", "x": 1e999}\n',
    "deep": b'{"schema": "olm.package", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
    "long number": b'{"schema": "olm.package", "x": ' + b"1" * 5000 + b"}\n",
    "many lines": b"{}\n" * (FILE_BLOBS + 2),
    "many objects": b'{"schema": "olm.package", "x": [' + b"{}," * 1_000_001 + b"{}]}\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_files_that_this_worker_cannot_have_written_are_refused(data: bytes) -> None:
    with pytest.raises(NotAPackageFile):
        PackageFile.parse(data)


def test_a_package_that_could_not_be_read_again_is_refused():
    blobs = ({"schema": "acme", "package": "otter", "number": number} for number in range(FILE_BLOBS))
    large = small_package(*blobs)

    with pytest.raises(PackageValidationError, match="it has 20004 blobs"):
        rules.check(large)
    with pytest.raises(NotAPackageFile):
        PackageFile.parse(large.data())
    deep: Any = []
    for _ in range(250):
        deep = [deep]
    with pytest.raises(PackageValidationError, match="nested more than 200 deep"):
        rules.check(small_package({"schema": "acme", "package": "otter", "deep": deep}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema", "name", "package", "entries", "reference", "type", "value"]), inner
        )
    ),
    max_leaves=10,
)
BLOBS = st.lists(
    st.builds(
        lambda blob, changes: {**blob, **changes},
        st.sampled_from([*small_package(deprecated(entry("olm.package"))).blobs()]),
        st.dictionaries(
            st.sampled_from(["schema", "name", "package", "entries", "properties", "relatedImages", "image", "icon"]),
            JSON,
        ),
    ),
    max_size=6,
)


@given(BLOBS)
def test_whatever_a_blob_holds_it_is_judged(blobs):
    for finding in rules.faults(blobs):
        assert finding.sentence.isprintable()


def test_images_in_tests_are_references():
    assert rules.bundle_faults(bundle_blob("otter.v1.0.0", "1.0.0", image=image("x")), "otter")[1] == []
