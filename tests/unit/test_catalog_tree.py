# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning what bundles a tree of package manifests makes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.bundles import extraction, tree
from omps_worker.destinations.catalog.bundles.directories import FILE_DOCUMENTS
from omps_worker.destinations.catalog.bundles.extraction import extraction_faults
from omps_worker.destinations.catalog.bundles.render import read_bundle
from omps_worker.sandbox.operators import flat_operator, nested_operator
from tests.support.olm import crd, csv, tree_files
from tests.support.trees import tree_of

ANNOTATIONS = tree.annotations_text(tree.bundle_labels("otter", ["stable"], "stable"))
OWNED = {"customresourcedefinitions": {"owned": [{"name": "dens.otter.example", "version": "v1", "kind": "Den"}]}}


def small_tree(**spec: Any) -> dict[str, str]:
    """One version in one channel."""
    return tree_files([("1.0.0", spec)], {"stable": "otter.v1.0.0"})


def plan(files: Mapping[str, str | bytes]) -> tree.TreePlan:
    return tree.plan(tree_of(files))


def refusals(files: Mapping[str, str | bytes]) -> list[str]:
    """What is found wrong about ``files``, by the error and by the examination alike."""
    with pytest.raises(PackageValidationError) as caught:
        plan(files)
    assert not caught.value.transient
    found = [finding.sentence for finding in tree.examine(tree_of(files))[1]]
    assert caught.value.details["findings"] == list(dict.fromkeys(found))
    return found


def refusal(files: Mapping[str, str | bytes]) -> str:
    (found,) = refusals(files)
    return found


def package(**changes: Any) -> dict[str, str]:
    """The small tree with changes of its package file."""
    files = small_tree()
    return {**files, "otter.package.yaml": json.dumps({**json.loads(files["otter.package.yaml"]), **changes})}


def test_operators_of_the_sandbox_are_planned():
    nested = plan(nested_operator("otter", versions=("1.0.0", "1.1.0")))
    flat = plan(flat_operator("lantern"))

    assert [each.bundle.version for each in nested.bundles] == ["1.0.0", "1.1.0"]
    assert [each.directory for each in flat.bundles] == [""]
    assert not any(path.endswith("package.yaml") for path in flat.bundles[0].files)


def test_a_package_file_never_becomes_part_of_a_bundle():
    files = small_tree()
    flat = {"otter.package.yaml": files["otter.package.yaml"], "csv.yaml": files["1.0.0/csv.yaml"]}

    assert sorted(plan(flat).bundles[0].files) == ["manifests/csv.yaml", "metadata/annotations.yaml"]


def test_channels_hold_what_their_current_csv_leads_to():
    made = plan(
        tree_files(
            [
                ("1.0.0", {}),
                ("1.1.0", {"replaces": "otter.v1.0.0"}),
                ("1.2.0", {"replaces": "otter.v1.0.0", "skips": ["otter.v1.1.0", "otter.v0.1.0"]}),
                ("2.0.0", {}),
                ("3.0.0", {}),
            ],
            {"stable": "otter.v1.2.0", "old": "otter.v1.1.0", "new": "otter.v2.0.0"},
            "stable",
        )
    )

    assert made.channels == {
        "stable": ("otter.v1.2.0", "otter.v1.0.0", "otter.v1.1.0"),
        "old": ("otter.v1.1.0", "otter.v1.0.0"),
        "new": ("otter.v2.0.0",),
    }
    assert made.unpublished == ("otter.v3.0.0",)
    channels = {each.name: each.labels["operators.operatorframework.io.bundle.channels.v1"] for each in made.bundles}
    assert channels == {
        "otter.v1.0.0": "old,stable",
        "otter.v1.1.0": "old,stable",
        "otter.v1.2.0": "stable",
        "otter.v2.0.0": "new",
    }


def test_all_faults_of_all_versions_are_found_at_once():
    files = tree_files(
        [("1.0.0", {"version": "1"}), ("1.1.0", OWNED), ("1.2.0", {"relatedImages": [{"name": "", "image": "a@b"}]})],
        {"a": "otter.v1.0.0", "b": "otter.v1.1.0", "c": "otter.v1.2.0", "d": "otter.v9.0.0"},
    )
    files["1.3.0/csv.yaml"] = "a: [\n"

    found = "\n".join(refusals(files))

    for fault in (
        "1.0.0/csv.yaml: spec.version '1' is no semantic version",
        "1.1.0/csv.yaml: it owns dens.otter.example v1 Den, which no file beside it defines",
        "bundle otter.v1.2.0: relatedImages[",
        "1.3.0/csv.yaml: Failed to process yaml file",
        "channel d: its currentCSV otter.v9.0.0 is in no directory",
        "no defaultChannel, and several channels",
    ):
        assert fault in found


def test_faults_of_what_is_not_published_are_warnings():
    files = {**small_tree(), "0.1.0/csv.yaml": json.dumps(csv("otter.v0.1.0", "none"))}

    made = plan(files)

    assert made.unpublished == ("otter.v0.1.0",)
    assert made.warnings == ("0.1.0/csv.yaml: spec.version 'none' is no semantic version, like 1.2.3 or 1.2.3-rc.1+5",)


PACKAGES = {
    "name with a dot": (package(packageName="otter.io"), "cannot be the name of a package in a catalog"),
    "name of another type": (package(packageName=1), "packageName in otter.package.yaml"),
    "no channels": (package(channels=[]), "there is no channel"),
    "channels of another type": (package(channels={}), "channels must be a list"),
    "channel without a name": (package(channels=[{"currentCSV": "otter.v1.0.0"}]), "a channel without a name"),
    "channel without a CSV": (
        package(channels=[{"name": "stable"}]),
        "a channel without a name or without a currentCSV",
    ),
    "channel with a comma": (
        package(channels=[{"name": "a,b", "currentCSV": "otter.v1.0.0"}]),
        "otter.package.yaml: channel 'a,b': its name cannot be the name of a channel",
    ),
    "channel with an escape": (
        package(channels=[{"name": "\x1b[2Jstable", "currentCSV": "otter.v1.0.0"}]),
        r"channel '\x1b[2Jstable': its name cannot be the name of a channel",
    ),
    "channel with a long name": (
        package(channels=[{"name": "a" * 300, "currentCSV": "otter.v1.0.0"}]),
        "its name has more than 253 characters",
    ),
    "channel twice": (package(channels=2 * [{"name": "a", "currentCSV": "otter.v1.0.0"}]), "a is there more than once"),
    "default that is none": (package(defaultChannel="x"), "the defaultChannel x is none of the channels"),
}


@pytest.mark.parametrize(("files", "fault"), PACKAGES.values(), ids=PACKAGES)
def test_package_files_that_make_no_catalog_are_refused(files, fault):
    assert fault in "\n".join(refusals(files))


@pytest.mark.parametrize(
    "name", ["foo/../v1", "otter\x1b[2J.v1", "otter\nv1", "Otter.v1", "otter v1", "o" * 300, "otter..v1"]
)
def test_names_that_no_cluster_takes_are_refused_with_their_file_and_field(name):
    files = tree_files([("1.0.0", {})], {"stable": name})
    files["1.0.0/csv.yaml"] = json.dumps(csv(name))

    as_csv = refusal(files)

    assert as_csv.startswith("1.0.0/csv.yaml: metadata.name ")
    assert as_csv.isprintable()


@pytest.mark.parametrize("name", ["otter\x1b[2J.v1", "otter\nv1", "otter\x85v1", "otter\u2028v1", "\x7f"])
def test_edges_with_control_characters_are_refused_with_their_file_and_field(name):
    found = refusals(small_tree(replaces=name, skips=["otter.v0.9.0", name]))

    assert [each.partition("'")[0] for each in found] == [
        "1.0.0/csv.yaml: spec.replaces ",
        "1.0.0/csv.yaml: spec.skips ",
    ]
    assert all(each.endswith(" has control characters") and each.isprintable() for each in found)


@pytest.mark.parametrize("name", ["foo_bar.v1", "foo/../v1", "Otter.v1", "otter v1", "o" * 300, "ötter.v1"])
def test_edges_to_what_no_cluster_can_have_are_taken_with_a_warning(name):
    made = plan(small_tree(replaces=name, skips=["otter.v0.9.0", name]))

    assert made.bundles[0].bundle.entry() == {
        "name": "otter.v1.0.0", "replaces": name, "skips": ["otter.v0.9.0", name],
    }  # fmt: skip
    assert [warning.rpartition(": ")[0] for warning in made.warnings] == [
        "1.0.0/csv.yaml: spec.replaces and spec.skips name what no cluster can have, as these are no names of objects"
    ]
    assert name[:80] in made.warnings[0]


@pytest.mark.parametrize("name", ["otter.v1.0.0+2", "otter.v1.0.0-rc.1", "3scale", "o" * 253])
def test_names_that_real_bundles_have_are_taken(name):
    files = {**tree_files([("1.0.0", {})], {"original_4.1": name}), "1.0.0/csv.yaml": json.dumps(csv(name))}

    assert list(plan(files).channels.values()) == [(name,)]


@pytest.mark.parametrize("name", ["stable", "original_4.1", "2.x+next", "4.10-rc"])
def test_channels_have_the_characters_that_the_refusal_of_another_names(name):
    assert list(plan(package(channels=[{"name": name, "currentCSV": "otter.v1.0.0"}])).channels) == [name]

    fault = refusals(package(channels=[{"name": f"{name} ", "currentCSV": "otter.v1.0.0"}]))[0]
    assert "letters, digits, dashes, dots, underscores and plus signs, a letter or digit first and last" in fault


def test_a_tree_without_a_package_file_is_refused():
    assert "Could not find packageName" in refusal({"1.0.0/csv.yaml": json.dumps(csv())})


def test_a_package_file_that_was_packed_with_its_directory_is_named():
    wrapped = {f"lantern/{path}": text for path, text in flat_operator("lantern").items()}
    assert refusal(wrapped) == (
        "Could not find packageName in manifests. lantern/lantern.package.yaml has it, but is in a directory: "
        "only files in the root count."
    )


def test_numbers_are_names_of_channels_as_for_opm():
    files = {
        **small_tree(),
        "otter.package.yaml": "packageName: otter\nchannels:\n- name: 4.10\n  currentCSV: otter.v1.0.0\n",
    }

    assert plan(files).channels == {"4.1": ("otter.v1.0.0",)}


CSVS = {
    "no version": ({"version": None}, "spec.version is missing"),
    "version that is a number": ({"version": 1.0}, "spec.version must be text"),
    "release that is none": ({"release": "a b"}, "spec.version '1.0.0' has an identifier"),
    "release of another type": ({"release": [1]}, "spec.release must be text or a number"),
    "release and another name": ({"release": 2}, "its name must be otter-v1.0.0-2"),
    "replaces of another type": ({"replaces": ["a"]}, "spec.replaces must be text"),
    "skips of another type": ({"skips": "a"}, "spec.skips must be a list"),
    "skip without a name": ({"skips": [""]}, "skips a bundle without a name"),
    "range that is none": ({"metadata": {"annotations": {"olm.skipRange": "^1"}}}, "skipRange '^1'"),
    "annotation that is a number": ({"metadata": {"annotations": {"a": 1}}}, "annotations.a must be text"),
    "CRD that is missing": (OWNED, "it owns dens.otter.example"),
    "CRD without a group": (
        {"customresourcedefinitions": {"required": [{"name": "x"}]}},
        "'x' is no plural name and group",
    ),
    "text that is a number": ({"displayName": 1}, "spec.displayName must be text"),
    "replaces itself": ({"replaces": "otter.v1.0.0"}, "it has no head"),
}


@pytest.mark.parametrize(("spec", "fault"), CSVS.values(), ids=CSVS)
def test_csvs_that_opm_refuses_are_refused(spec, fault):
    assert fault in refusal(small_tree(**spec))


def test_a_csv_without_a_spec_is_refused():
    assert "spec is no mapping" in refusal({**small_tree(), "1.0.0/csv.yaml": json.dumps({**csv(), "spec": None})})


def test_a_csv_without_a_name_is_in_no_channel_and_warned_about():
    made = plan({**small_tree(), "0.1.0/csv.yaml": json.dumps(csv("", "0.1.0"))})

    assert made.unpublished == ()
    assert made.warnings == ("0.1.0/csv.yaml: metadata.name is missing",)


def test_one_name_in_two_directories_is_refused():
    assert "otter.v1.0.0 is the name of the CSV in 1.0.0/csv.yaml too" in refusal(
        {**small_tree(), "1.0.1/csv.yaml": small_tree()["1.0.0/csv.yaml"]}
    )


def test_two_versions_with_one_tag_are_refused():
    files = tree_files([("1.0.0-1", {}), ("1.0.0+1", {"replaces": "otter.v1.0.0-1"})], {"stable": "otter.v1.0.0+1"})

    assert "versions 1.0.0-1 and 1.0.0+1 have the same tag, v1.0.0-1" in refusal(files)


def test_a_version_that_is_too_long_for_a_tag_is_refused():
    long = "1.0.0-" + "a" * 130

    assert "too long for a tag" in refusal(tree_files([(long, {})], {"stable": f"otter.v{long}"}))


def test_what_is_valid_by_the_walk_and_strands_a_bundle_is_refused():
    files = tree_files(
        [
            ("1.0.0", {}),
            ("1.1.0", {"replaces": "otter.v1.0.0"}),
            ("1.2.0", {"replaces": "otter.v1.1.0", "skips": ["otter.v1.1.0"]}),
        ],
        {"stable": "otter.v1.2.0"},
    )

    assert "no chain of replaces from its head otter.v1.2.0 reaches otter.v1.0.0" in refusal(files)


def test_files_with_several_documents_are_split():
    dens, holts = (json.dumps(crd(plural)) for plural in ("dens", "holts"))
    files = {
        **small_tree(),
        "1.0.0/crds.yaml": f"# licence\n---\n{dens}\n---\n---\n{holts}\n---\nreplicas: 3\n",
        "1.0.0/crds.1.yaml": json.dumps(crd("nests")),
        "1.0.0/led.yaml": "# licence\n---\nkind: Service\n",
        "1.0.0/begun.yaml": "---\nkind: Role\n",
    }

    made = plan(files)

    assert {
        path: data.decode() for path, data in made.bundles[0].files.items() if "csv" not in path and "meta" not in path
    } == {
        "manifests/crds.2.yaml": f"{dens}\n",
        "manifests/crds.3.yaml": f"---\n{holts}\n",
        "manifests/crds.1.yaml": json.dumps(crd("nests")),
        "manifests/led.yaml": "kind: Service\n",
        "manifests/begun.yaml": "---\nkind: Role\n",
    }
    assert made.left_out == ("1.0.0/crds.yaml (documents without a kind)",)
    assert read_bundle(made.bundles[0].files).properties == made.bundles[0].bundle.properties


def test_what_is_no_object_of_kubernetes_or_too_deep_is_left_out():
    stray = ["1.0.0/notes.txt", "1.0.0/values.yaml", "1.0.0/deeper/crd.yaml", "other/crd.yaml", "root.yaml", "LICENSE"]
    files = {**small_tree(), **dict.fromkeys(stray, "a: b"), "other/crd.yaml": json.dumps(crd()), ".git/x.yaml": "a: ["}

    made = plan(files)

    assert made.left_out == tuple(sorted(stray))
    assert sorted(made.bundles[0].files) == ["manifests/csv.yaml", "metadata/annotations.yaml"]


HOSTILE = {
    "not UTF-8": b"\xff\xfe",
    "no YAML": b"a: [",
    "deep": b"[" * 5000,
    "separator that goes on": b"a: 1\n--- b\n",
    "infinite number": b"a: .inf\n",
    "long number": b"a: " + b"1" * 5000,
    "many documents": b"---\na: 1\n" * (FILE_DOCUMENTS + 2),
    "aliases of aliases": b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_files_that_cannot_be_read_within_bounds_are_refused(text):
    assert "1.0.0/x.yaml: Failed to process yaml file: " in refusal({**small_tree(), "1.0.0/x.yaml": text})


def test_the_icon_is_that_of_the_head_of_the_default_channel_without_line_breaks():
    files = tree_files(
        [
            ("1.0.0", {"icon": [{"base64data": "BBBB", "mediatype": "image/gif"}]}),
            ("1.1.0", {"replaces": "otter.v1.0.0", "icon": [{"base64data": "AA\nAA\r\n", "mediatype": "image/png"}]}),
        ],
        {"stable": "otter.v1.1.0", "old": "otter.v1.0.0"},
        "stable",
    )

    assert plan(files).icon == {"base64data": "AAAA", "mediatype": "image/png"}


@pytest.mark.parametrize(
    "icon",
    [
        [{"base64data": "x", "mediatype": "a"}],
        [{"base64data": 1}],
        ["x"],
        [{"base64data": "AAAA", "mediatype": 1}],
        "hello",
        {"base64data": "AAAA"},
        5,
    ],
)
def test_an_icon_that_would_break_the_catalog_is_left_out_with_a_warning(icon):
    made = plan(small_tree(icon=icon))

    assert made.icon is None
    assert "icon" in made.warnings[0]
    assert "icon" not in made.package_file({"otter.v1.0.0": "localhost/a"}).package


@pytest.mark.parametrize("icon", [None, [], [None], [{}], [{"base64data": ""}]])
def test_no_icon_is_no_reason_for_a_warning(icon):
    assert (plan(small_tree(icon=icon)).icon, plan(small_tree(icon=icon)).warnings) == (None, ())


def test_files_get_names_under_which_olm_can_unpack_them():
    objects = {name: json.dumps({"kind": "Role", "metadata": {"name": name}}) for name in "abcdef"}
    names = ["annotations.yaml", "_annotations.yaml", "role a.yaml", "role-a.yaml", "röle.yaml", "x" * 250 + ".yaml"]
    files = {**small_tree(), **{f"1.0.0/{name}": text for name, text in zip(names, objects.values(), strict=True)}}

    made = plan(files).bundles[0].files

    called = {data.decode(): path.removeprefix("manifests/") for path, data in made.items()}
    assert [called[text] for text in objects.values()] == [
        "annotations.1.yaml", "_annotations.yaml", "role-a.1.yaml", "role-a.yaml", "r-le.yaml", "x" * 248 + ".yaml",
    ]  # fmt: skip
    assert list(extraction_faults(made)) == []


ROLE = '{"kind": "Role"}'
LETTERS = [chr(0x4E00 + number) for number in range(900)]
FILE_NAMES = st.one_of(
    st.sampled_from(
        ["annotations.yaml", "crds.1.yaml", "crds.yaml", "a b.yml", "a-b.yml", "ab." + "x" * 247 + ".yaml"]
    ),
    st.text(st.sampled_from("a.-_ é…"), min_size=1, max_size=260).map(lambda stem: f"{stem}.yaml"),
)


@settings(max_examples=30)
@given(st.dictionaries(FILE_NAMES, st.integers(1, 3), max_size=8))
def test_whatever_the_files_are_called_opm_and_olm_take_the_image_of_a_bundle(documents):
    owned = [{"name": f"{kind}s.otter.example", "version": "v1", "kind": kind.title()} for kind in ("den", "holt")]
    contents = {f"1.0.0/{name}": "---\n".join([ROLE + "\n"] * number) for name, number in documents.items()}
    definitions = {f"1.0.0/{'ü' * 125}{each['kind']}": crd(each["name"].partition(".")[0]) for each in owned}
    contents |= {f"{path}.yaml": json.dumps(text) for path, text in definitions.items()}

    (made,) = plan({**small_tree(customresourcedefinitions={"owned": owned}), **contents}).bundles

    hidden = {name: number for name, number in documents.items() if name.startswith(".")}
    assert len(made.files) == 4 + sum(documents.values()) - sum(hidden.values())
    assert list(extraction_faults(made.files)) == []
    assert read_bundle(made.files).properties == made.bundle.properties


@pytest.mark.parametrize("stem", ["a", "x" * 240, "b" * 83])
def test_names_that_become_the_same_get_numbers_at_once(stem):
    names = [f"1.0.0/{letter}{stem}.yaml" for letter in LETTERS]
    names += [f"1.0.0/{stem[:-9]}{letter}{'y' * 9}.yaml" for letter in LETTERS]

    (made,) = plan({**small_tree(), **dict.fromkeys(names, ROLE)}).bundles

    assert len(made.files) == len(names) + 2
    assert list(extraction_faults(made.files)) == []


def test_files_have_so_many_documents_together_as_a_tree_may_have_files():
    two = {f"{number}.0.0/roles.yaml": f"{ROLE}\n---\n{ROLE}\n" for number in range(1, 4)}
    files = tree_of({**small_tree(), **two})

    assert len(tree.plan(files, files=7).bundles) == 1
    with pytest.raises(PackageValidationError) as caught:
        tree.plan(files, files=6)
    assert not caught.value.transient
    assert caught.value.details["findings"] == [
        "The files have more than 6 documents together; that is this worker's limit, files in [consumer_config.limits]."
    ]


def test_what_olm_cannot_unpack_of_an_image_is_warned_about():
    files = {"manifests/csv.json": json.dumps(csv()).encode(), "metadata/annotations.yaml": ANNOTATIONS}
    odd = ["annotations.yaml", "role a.yaml", "role-a.yaml", "x" * 254]

    made = read_bundle({**files, **{f"manifests/{name}": b"kind: Role\n" for name in odd}})

    assert [each[:35] for each in made.warnings] == [
        "manifests/annotations.yaml has a na",
        "2 files have the same name in OLM's",
        f"the name {'x' * 26}",
    ]


def test_what_olm_does_not_unpack_is_warned_about():
    noise = random.Random(1).randbytes(800_000).hex()

    large = plan(small_tree(description="a" * 1_100_000)).warnings
    huge = plan(small_tree(description=noise)).warnings

    assert [warning.partition(" has ")[0] for warning in large] == ["1.0.0/csv.yaml: csv.yaml"]
    assert [warning.partition(" has ")[0] for warning in huge] == [
        "1.0.0/csv.yaml: csv.yaml",
        "1.0.0/csv.yaml: the bundle",
    ]
    # gzip alone would be small enough: base64 adds a third.
    assert 2**20 < int(huge[1].partition(" has ")[2].split()[0]) < 2**20 * 4 // 3


def test_a_bundle_that_only_the_usual_level_of_gzip_makes_small_enough_is_not_warned_about(monkeypatch):
    content = b"".join(b"a" * (number % 97) + bytes([number % 7 + 65]) * (number % 13) for number in range(3000))
    fast, usual = (len(gzip.compress(content, level)) * 4 // 3 for level in (1, 6))
    assert usual + 1000 < fast

    monkeypatch.setattr(extraction, "BYTES", (fast + usual) // 2)
    files = {"manifests/a.yaml": content}
    assert [each for each in extraction_faults(files) if "as gzip" in each] == []

    monkeypatch.setattr(extraction, "BYTES", usual - 100)
    assert [each for each in extraction_faults(files) if "as gzip" in each] != []


def test_more_entries_than_a_catalog_can_have_are_refused():
    chain = [(f"{number}.0.0", {"replaces": f"otter.v{number - 1}.0.0"}) for number in range(1, 52)]
    channels = {f"c{number}": "otter.v51.0.0" for number in range(1000)}

    assert "the channels have more than 50000 entries" in refusal(tree_files(chain, channels, "c1"))

    skipping = [("1.0.0", {"skips": [f"otter.v0.{number}.0" for number in range(50)]})]
    assert "entries, with what these skip" in refusal(
        tree_files(skipping, dict.fromkeys(channels, "otter.v1.0.0"), "c1")
    )


NAMES = ("otter.v1.0.0", "otter.v2.0.0", "otter.v3.0.0", "gone")
EDGES = st.fixed_dictionaries(
    {}, optional={"replaces": st.sampled_from(NAMES), "skips": st.lists(st.sampled_from(NAMES), max_size=2)}
)


@given(st.lists(EDGES, min_size=3, max_size=3), st.lists(st.sampled_from(NAMES[:3]), min_size=1, max_size=2))
def test_whatever_the_edges_a_plan_that_is_not_refused_is_a_valid_package(edges, heads):
    versions = [(f"{number}.0.0", spec) for number, spec in enumerate(edges, 1)]
    files = tree_files(versions, {f"c{number}": head for number, head in enumerate(heads)}, "c0")
    made, found = tree.examine(tree_of(files))

    assert made is not None
    published = {name for names in made.channels.values() for name in names}
    assert published | set(made.unpublished) == set(NAMES[:3])
    assert {each.name for each in made.bundles} == published
    if not found:
        heads_in_catalog = made.package_file(dict.fromkeys(published, "localhost/a")).heads()
        assert heads_in_catalog == {f"c{number}": head for number, head in enumerate(heads)}


def test_annotations_are_read_back_as_the_labels():
    labels = tree.bundle_labels("otter", ['a "b"', "ü"], "a: b")

    assert yaml.safe_load(tree.annotations_text(labels)) == {"annotations": labels}
