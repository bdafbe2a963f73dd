# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees and bundles of which is recorded what opm makes of them: plan, render, pack and validate give the same."""

from __future__ import annotations

import hashlib
import json

import pytest

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.bundles import tree
from omps_worker.destinations.catalog.bundles.render import read_bundle
from omps_worker.destinations.catalog.images.image import Format, bundle_image
from omps_worker.destinations.catalog.images.layers import sha256
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import PackageFile, canonical
from omps_worker.manifests.file_tree import FilesInMemory
from tests.support.olm import DATA, as_sets, cases, input_files, recorded

PLANNED = [
    case
    for case in cases("expected.json")
    if recorded(case, "expected.json")["input"] == "package-manifests"
    and "refused" not in recorded(case, "expected.json")
]
REFUSED = [case for case in cases("expected.json") if "refused" in recorded(case, "expected.json")]
BUNDLES = [case for case in cases("expected.json") if recorded(case, "expected.json")["input"] == "bundle"]

planned = pytest.mark.parametrize("case", PLANNED)


def plan_of(case: str) -> tree.TreePlan:
    made, _ = tree.examine(FilesInMemory(input_files(case)))
    assert made is not None
    return made


def test_there_are_cases_of_each_kind():
    assert (len(PLANNED), REFUSED, BUNDLES) == (
        19,
        ["default-channel-absent-two-channels", "flat-two-csvs"],
        ["dependencies"],
    )


@planned
def test_the_plan_has_the_channels_and_bundles_that_are_recorded(case):
    expected, made = recorded(case, "expected.json"), plan_of(case)

    assert (made.package, made.default_channel) == (expected["package"], expected["default_channel"])
    assert {channel: list(names) for channel, names in made.channels.items()} == expected["channels"]
    assert list(made.unpublished) == expected["unpublished"]
    assert list(made.left_out) == expected["left_out"]
    assert [(each.name, each.bundle.version, each.bundle.tag) for each in made.bundles] == [
        (each["name"], each["version"], each["tag"]) for each in expected["bundles"]
    ]


@planned
def test_images_have_the_files_labels_and_digests_that_are_recorded(case):
    for made, expected in zip(plan_of(case).bundles, recorded(case, "expected.json")["bundles"], strict=True):
        assert made.labels == expected["labels"]
        assert {path: hashlib.sha256(data).hexdigest() for path, data in made.files.items()} == expected["files"]
        for image_format in Format:
            assert sha256(bundle_image(made.files, made.labels, image_format)[0].config) == expected["config_digest"]


@planned
def test_bundles_render_as_opm_renders_them(case):
    images = {each["name"]: each["image_in_render"] for each in recorded(case, "expected.json")["bundles"]}
    rendered = {blob["name"]: blob for blob in recorded(case, "render.json")}

    made = {each.name: each.bundle.blob(images[each.name]) for each in plan_of(case).bundles}

    assert {name: as_sets(blob) for name, blob in made.items()} == {
        name: as_sets(blob) for name, blob in rendered.items()
    }
    for name, blob in made.items():
        assert [each["type"] for each in blob["properties"]] == [each["type"] for each in rendered[name]["properties"]]


@planned
def test_an_image_renders_as_the_directory_that_it_was_made_of(case):
    for made in plan_of(case).bundles:
        from_image = read_bundle(made.files)
        assert from_image.blob("localhost/a") == made.bundle.blob("localhost/a")
        assert from_image.entry() == made.bundle.entry()
        assert ",".join(from_image.channels) == made.labels["operators.operatorframework.io.bundle.channels.v1"]


@planned
def test_the_package_file_is_the_catalog_that_opm_was_given(case):
    images = {each["name"]: each["image_in_render"] for each in recorded(case, "expected.json")["bundles"]}
    lines = (DATA / case / "catalog.json").read_text(encoding="utf-8").splitlines()

    made = plan_of(case).package_file(images)

    assert sorted(made.data().decode().splitlines()) == sorted(canonical(json.loads(line)) for line in lines)
    assert PackageFile.parse(made.data()) == made


@pytest.mark.parametrize("case", BUNDLES)
def test_a_bundle_with_metadata_of_its_own_renders_as_opm_renders_it(case):
    files, expected = input_files(case), recorded(case, "expected.json")["bundles"][0]
    made = read_bundle(files)

    assert (made.name, made.version, made.tag, list(made.channels)) == tuple(
        expected[key] for key in ("name", "version", "tag", "channels")
    )
    assert as_sets(made.blob(expected["image_in_render"])) == as_sets(recorded(case, "render.json")[0])
    assert sha256(bundle_image(files, expected["labels"])[0].config) == expected["config_digest"]


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_for_the_recorded_reason(case):
    with pytest.raises(PackageValidationError) as caught:
        tree.plan(FilesInMemory(input_files(case)))

    assert any(recorded(case, "expected.json")["refused"] in finding for finding in caught.value.details["findings"])
    assert not caught.value.transient


@pytest.mark.parametrize("case", cases("verdict.json"))
def test_the_verdict_on_a_catalog_is_that_of_opm(case):
    faults = rules.faults(PackageFile.parse((DATA / case / "catalog.json").read_bytes()).blobs())

    assert bool(faults) == bool(recorded(case, "verdict.json")["opm 4f9d6f22"]["rc"])


def test_what_the_rules_refuse_is_refused_before_anything_is_built():
    with pytest.raises(PackageValidationError, match=r"acme-widget.v0.1.0: relatedImages.*@@sha256"):
        tree.plan(FilesInMemory(input_files("related-image-invalid")))
