# SPDX-License-Identifier: GPL-3.0-or-later
"""Making bundles: what is in them, and that they are always the same."""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import io
import logging
import subprocess
import sys
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.model import Bundle
from omps_worker.manifests import bundle, courier
from omps_worker.manifests import yaml_reader as manifest_yaml
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.sandbox.operators import bundle_tree, flat_operator, nested_operator, sized_operator
from tests.support.trees import packed_files, tree_below, tree_of, write_tree

DATA = Path(__file__).parents[1] / "data" / "manifests"


def prepare(path: Path, files: Mapping[str, str | bytes], repository: str | None = None) -> Bundle:
    tree = tree_below(write_tree(path, files))
    manifests = OperatorManifests.read(tree)
    return bundle.prepare(tree, manifests, repository or manifests.package_name)


def refusal(path: Path, files: Mapping[str, str | bytes], repository: str | None = None) -> PackageValidationError:
    with pytest.raises(PackageValidationError) as caught:
        prepare(path, files, repository)
    error = caught.value
    assert error.message.startswith("Failed to push manifest: ")
    assert not error.transient
    assert str(path) not in error.message
    assert "NoneType" not in error.message
    return error


def replaced(files: dict[str, str], old: str, new: str) -> dict[str, str]:
    changed = {path: text.replace(old, new) for path, text in files.items()}
    assert changed != files
    return changed


def test_a_nested_operator_is_packed_as_it_is(tmp_path: Path) -> None:
    operator = nested_operator("otter", versions=("1.0.0", "1.1.0"))
    files = {**operator, "README.md": "# stray", "1.0.0/deeper/notes.bin": b"\0\xff"}

    made = prepare(tmp_path, files)

    assert made.nested
    assert made.package_name == "otter"
    assert made.csv_version == "1.1.0"
    assert made.files == tuple(sorted(files))
    assert packed_files(made.blob) == {
        path: text.encode() if isinstance(text, str) else text for path, text in files.items()
    }


def test_what_operator_courier_leaves_out_is_left_out_everywhere(tmp_path: Path) -> None:
    operator = nested_operator()
    stray = {"art.yaml": "a: b", "1.0.0/image-references": "x", "1.0.0/deeper/art.yaml": "x", "art.yaml.txt": "kept"}

    made = prepare(tmp_path, {**operator, **stray})

    assert sorted(packed_files(made.blob)) == sorted([*operator, "art.yaml.txt"])
    assert "art.yaml" in made.files


def test_of_a_flat_operator_only_the_bundle_file_is_packed(tmp_path: Path) -> None:
    operator = flat_operator("lantern")

    made = prepare(tmp_path, {**operator, "README.md": "# stray", "docs/page.md": "stray"})

    assert not made.nested
    packed = packed_files(made.blob)
    assert list(packed) == ["bundle.yaml"]
    data = yaml.safe_load(packed["bundle.yaml"])["data"]
    documents = {kind: yaml.safe_load(text) for kind, text in data.items()}
    assert documents == {
        "customResourceDefinitions": [yaml.safe_load(operator["lanterns.crd.yaml"])],
        "clusterServiceVersions": [yaml.safe_load(operator["lantern.v1.4.2.clusterserviceversion.yaml"])],
        "packages": [yaml.safe_load(operator["lantern.package.yaml"])],
    }
    assert b"clusterServiceVersions: |" in packed["bundle.yaml"]


def test_the_digest_is_that_of_the_uncompressed_tar(tmp_path: Path) -> None:
    made = prepare(tmp_path, nested_operator())

    assert made.digest == hashlib.sha256(gzip.decompress(made.blob)).hexdigest()


def test_nothing_in_the_tar_tells_a_machine_or_a_time(tmp_path: Path) -> None:
    made = prepare(tmp_path, nested_operator("otter", versions=("1.0.0",)))

    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made.blob))) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert [(member.name, member.isdir()) for member in members[:2]] == [("otter", True), ("otter/1.0.0", True)]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert {(member.isdir(), member.mode) for member in members} == {(True, 0o755), (False, 0o644)}
    assert made.blob[3:8] == bytes(5), "no name and no time in the header of the gzip"


@pytest.mark.parametrize(
    ("tree", "digest"),
    [
        ("flat", "8c65964f1eeb6c7dedcc2eb5823c64d91515af850ff4407f916d12bde84607f3"),
        ("nested", "e996bacd3e9dea8d10035ab67d1b97e6facf026f99e22c5dd742ed7cdd5b0fbb"),
    ],
)
def test_the_same_manifests_give_the_same_digest_on_every_machine(tree: str, digest: str) -> None:
    files = tree_below(DATA / tree)
    manifests = OperatorManifests.read(files)

    assert bundle.prepare(files, manifests, manifests.package_name).digest == digest


def test_files_in_memory_give_the_same_bytes(tmp_path: Path) -> None:
    for name, operator in (("flat", flat_operator()), ("nested", {**nested_operator(), "1.0.0/art.yaml": "x"})):
        tree = tree_of(operator)
        manifests = OperatorManifests.read(tree)

        assert bundle.prepare(tree, manifests, manifests.package_name) == prepare(tmp_path / name, operator)


NAMES = st.text(st.sampled_from("ab.-_é\u4e2d\U0001f600\udc80 "), min_size=1, max_size=90)


@given(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join),
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE]),
    st.integers(0, 2**40) | st.sampled_from([0, 511, 512, 8**11 - 1, 8**11, 2**63]),
)
@example("a" * 100, tarfile.REGTYPE, 1)
@example("a" * 101, tarfile.REGTYPE, 1)
@example("a" * 99, tarfile.DIRTYPE, 0)
@example("a" * 100, tarfile.DIRTYPE, 0)
def test_headers_are_those_that_tarfile_writes(name: str, kind: bytes, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.mtime = 0

    assert bundle._header(name, kind, size) == member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def test_without_libyaml_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = sized_operator("flat")
    fast = prepare(tmp_path, operator)
    monkeypatch.setattr(courier._Courier.load(), "_dumper", courier._Courier.load()._pure_dumper)
    monkeypatch.setattr(manifest_yaml, "_LIBYAML", yaml.SafeLoader)

    assert prepare(tmp_path, operator).blob == fast.blob


def test_the_order_in_which_files_were_written_does_not_matter(tmp_path: Path) -> None:
    operator = flat_operator()
    second = operator["lanterns.crd.yaml"].replace("lanterns", "candles").replace("Lantern", "Candle")
    files = {**operator, "another.crd.yaml": second}

    one = prepare(tmp_path / "one", files)
    other = prepare(tmp_path / "other", dict(reversed(files.items())))

    assert one.blob == other.blob


def test_other_hash_seeds_give_the_same_bytes(tmp_path: Path) -> None:
    write_tree(tmp_path, flat_operator())
    code = (
        "import sys, pathlib; from omps_worker.manifests import bundle;"
        "from omps_worker.manifests.operator_manifests import OperatorManifests;"
        "from tests.support.trees import tree_below; tree = tree_below(pathlib.Path(sys.argv[1]));"
        "manifests = OperatorManifests.read(tree);"
        "print(bundle.prepare(tree, manifests, manifests.package_name).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_preparing_changes_nothing(tmp_path: Path) -> None:
    for name, operator in (("flat", flat_operator()), ("nested", {**nested_operator(), "art.yaml": "a: b"})):
        path = write_tree(tmp_path / name, operator)
        tree = tree_below(path)
        manifests = OperatorManifests.read(tree)
        before = copy.deepcopy(dict(manifests.documents))

        first = bundle.prepare(tree, manifests, manifests.package_name)
        second = bundle.prepare(tree, manifests, manifests.package_name)

        assert first == second
        assert manifests.documents == before
        assert repr(manifests.documents) == repr(before)
        assert (path / "art.yaml").exists() == ("art.yaml" in operator)


def test_several_threads_prepare_different_operators_at_once(tmp_path: Path) -> None:
    expected = {}
    for number in range(6):
        make = nested_operator if number % 2 else flat_operator
        write_tree(tmp_path / f"{number}", make(f"operator-{number}"))
        expected[number] = prepare(tmp_path / f"{number}", make(f"operator-{number}")).digest
    found: dict[int, set[str]] = {number: set() for number in expected}

    def work(number: int) -> None:
        tree = tree_below(tmp_path / f"{number}")
        for _ in range(5):
            manifests = OperatorManifests.read(tree)
            found[number].add(bundle.prepare(tree, manifests, manifests.package_name).digest)

    threads = [threading.Thread(target=work, args=(number,)) for number in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: {digest} for number, digest in expected.items()}


def test_errors_and_warnings_travel_in_full(tmp_path: Path) -> None:
    operator = replaced(nested_operator(versions=("1.0.0",)), "installModes:", "installMode:")
    operator = replaced(operator, "    support: Example Works\n", "")

    error = refusal(tmp_path, operator)

    assert error.message == (
        "Failed to push manifest: Resulting bundle is invalid, input yaml is improperly defined. "
        "1.0.0/otter-cache.v1.0.0.clusterserviceversion.yaml: csv spec.installModes not defined."
    )
    assert error.details == {
        "validation_info": {
            "errors": ["csv spec.installModes not defined"],
            "warnings": ["csv metadata.annotations.support not defined"],
        },
        "findings": ["1.0.0/otter-cache.v1.0.0.clusterserviceversion.yaml: csv spec.installModes not defined"],
    }


def test_warnings_of_what_is_accepted_are_kept(tmp_path: Path) -> None:
    operator = replaced(flat_operator(), "    support: Example Works\n", "")

    made = prepare(tmp_path, operator)
    assert made.courier_warnings == ("csv metadata.annotations.support not defined",)
    assert made.warnings == ("lantern.v1.4.2.clusterserviceversion.yaml: csv metadata.annotations.support not defined",)


def test_another_repository_than_the_package_name_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, flat_operator("lantern"), "candle")

    assert error.details["validation_info"]["errors"] == [
        "The packageName (lantern) in bundle does not match repository name (candle) provided as command line argument."
    ]


def test_a_second_package_file_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, {**nested_operator(), "z.yaml": "packageName: other"})

    assert error.message == (
        "Failed to push manifest: Only 1 package is expected to exist in source root folder. "
        "packageName is in otter-cache.package.yaml and in z.yaml."
    )
    assert error.details == {
        "validation_info": {},
        "findings": ["packageName is in otter-cache.package.yaml and in z.yaml"],
    }


def test_a_package_without_a_csv_is_refused(tmp_path: Path) -> None:
    assert "no valid CSV file is found" in refusal(tmp_path, {"package.yaml": "packageName: alone"}).message


def test_a_csv_that_is_too_deep_is_named(tmp_path: Path) -> None:
    deeper = {(f"olm/{path}" if "/" in path else path): text for path, text in nested_operator().items()}

    message = refusal(tmp_path, deeper).message

    assert "no valid CSV file is found in root or manifest directories. olm/0.9.0/otter-cache.v0.9.0." in message
    assert message.endswith("this ClusterServiceVersion is more than one directory deep; and 2 more.")


def test_of_many_versions_the_one_at_fault_is_named_and_each_fault_once(tmp_path: Path) -> None:
    operator = nested_operator(versions=("1.0.0", "1.1.0", "1.2.0"))
    name = next(path for path in operator if path.startswith("1.1.0/") and "clusterserviceversion" in path)
    operator[name] = operator[name].replace("installModes:", "installMode:").replace("    strategy:", "    x:")
    operator["1.1.0/copy.yaml"] = operator[name]

    error = refusal(tmp_path, operator)

    assert error.message.endswith("; and 3 more.")
    assert {finding.partition(": ")[0] for finding in error.details["findings"]} == {name, "1.1.0/copy.yaml"}


def test_what_is_said_of_all_files_names_none(tmp_path: Path) -> None:
    operator = dict(nested_operator(versions=("1.0.0",)))
    package = next(path for path in operator if "/" not in path)
    operator[package] = operator[package].split("channels:")[0]

    assert refusal(tmp_path, operator).message.endswith(f" {package}: package channels not defined.")


IGNORED = {
    "p.yaml": "packageName: otter\nchannels: [{name: stable, currentCSV: otter.v2.0.0}]\n",
    "2/crd.yaml": "kind: none\n",
    "docs/page.md": "no manifests",
}


def test_what_is_accepted_in_silence_is_told(tmp_path: Path) -> None:
    versions = {path: text for path, text in nested_operator("otter", versions=("1.0.0",)).items() if "/" in path}

    made = prepare(tmp_path, {**versions, **IGNORED})

    assert made.courier_warnings == ()
    assert made.warnings == (
        "Ignoring folder 2: it contains no ClusterServiceVersion",
        "p.yaml: channel stable: its currentCSV otter.v2.0.0 is in no manifest",
    )


@pytest.mark.parametrize(
    "channels",
    [
        "[name currentCSV]",
        "[{name: [x], currentCSV: [1, {a: b}]}]",
        "{name currentCSV: 1}",
        "'name'",
        "[[name, currentCSV]]",
    ],
)
def test_odd_channels_lead_to_a_verdict_all_the_same(tmp_path: Path, channels: str) -> None:
    operator = nested_operator("otter")
    package = next(path for path in operator if "/" not in path)
    operator[package] = f"packageName: otter\nchannels: {channels}\n"

    with contextlib.suppress(PackageValidationError):
        prepare(tmp_path, operator)


ODD = [
    ("spec:\n  displayName", "spec: null\nx:\n  displayName"),
    ("metadata:\n  name: lantern", "metadata: null\nx:\n  name: lantern"),
    ("    owned:\n", "    owned: 7\n    x:\n"),
    ("    owned:\n", "    owned: [null]\n    x:\n"),
    ("  install:\n", "  install: null\n  x:\n"),
    ("channels:\n", "channels: 5\nx:\n"),
    ("channels:\n", "channels: [null]\nx:\n"),
    ("  versions:\n  - name", "  versions: 1\n  x:\n  - name"),
    ("kind: CustomResourceDefinition", "kind: [CustomResourceDefinition]"),
]


@pytest.mark.parametrize(("old", "new"), ODD)
def test_what_operator_courier_stumbles_over_is_a_refusal_too(tmp_path: Path, old: str, new: str) -> None:
    error = refusal(tmp_path, replaced(flat_operator(), old, new))

    assert "operator-courier failed at" in error.message
    assert error.details == {"validation_info": {}}


def test_a_flood_of_verdicts_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MOST_VERDICTS", 50)
    operator = nested_operator()
    operator["otter-cache.package.yaml"] = "packageName: otter-cache\nchannels: [" + "'', " * 60 + "]\n"

    assert "more than 50 errors and warnings" in refusal(tmp_path, operator).message
    assert prepare(tmp_path / "next", nested_operator()).courier_warnings == ()


def test_a_quadratic_amount_of_work_is_refused(tmp_path: Path) -> None:
    owned = "    owned: [" + "{name: a, kind: b, version: c}, " * 2000 + "]\n    x:\n"
    operator = replaced(flat_operator(), "    owned:\n", owned)
    operator |= {f"{number}.crd.yaml": "kind: CustomResourceDefinition\nspec: {}" for number in range(600)}

    assert "too many custom resources" in refusal(tmp_path, operator).message


def test_operator_courier_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        refusal(tmp_path, {**replaced(flat_operator(), "installModes:", "x:"), "docs/page.yaml": "a: b"})

    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_operator_courier_is_itself_again_afterwards(tmp_path: Path) -> None:
    from operatorcourier import build, identify, manifest_parser, validate, verified_manifest

    prepare(tmp_path, flat_operator())

    assert identify.safe_load is yaml.safe_load
    assert build.yaml is validate.yaml is yaml
    assert "open" not in vars(manifest_parser)
    assert verified_manifest.ValidateCmd is validate.ValidateCmd


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (bundle_tree(), True),
        (nested_operator(), False),
        (flat_operator(), False),
        ({}, False),
        ({"a.yaml": "kind: CustomResourceDefinition"}, False),
        ({**bundle_tree(), "x.yaml": "a: ["}, False),
    ],
)
def test_a_bundle_images_manifests_are_told_by_their_content(files: dict[str, str], expected: bool) -> None:
    assert bundle.is_bundle_tree(tree_of(files)) is expected
