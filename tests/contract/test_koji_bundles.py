# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the image of a bundle build is, as Koji says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omps_worker.common.errors import KojiError, KojiManifestsArchiveNotFound
from omps_worker.common.model import OperatorKind
from omps_worker.configuration.settings.models import KojiSettings, Limits
from omps_worker.koji_client.answers import build_of, image_of_archive
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.sandbox.build_system.server import SandboxKoji
from tests.support.sources import ROOT

SHAPES = json.loads((ROOT / "tests/data/olm/koji/operator-bundle.json").read_text())
DIGEST = "sha256:" + "8" * 64
PULLSPEC = f"registry.example.com/acme/acme-bundle@{DIGEST}"


@pytest.fixture
def koji() -> Iterator[SandboxKoji]:
    with SandboxKoji() as hub:
        yield hub


@pytest.fixture
def builds(koji: SandboxKoji) -> KojiBuilds:
    return KojiBuilds(KojiSettings(hub_url=koji.hub_url, root_url=koji.root_url, timeout=10), Limits())


def described(extra: Any) -> dict[str, Any]:
    return {"id": 7, "nvr": "a-1-1", "name": "a", "version": "1", "release": "1", "state": 1, "extra": extra}


def add(koji: SandboxKoji, name: str = "acme-bundle-container", **more: Any) -> int:
    return int(koji.add_build(name, "1.0.0", "7", kind=OperatorKind.BUNDLE, **more)["id"])


def test_a_list_of_manifests_is_named_by_the_build() -> None:
    shape = SHAPES["manifest_list"]
    build = build_of(described(shape["build_extra"]), None)
    assert (build.kind, build.bundle_image) == (OperatorKind.BUNDLE, shape["expected_pullspec"])


def test_a_single_manifest_is_named_by_the_image_archive() -> None:
    shape = SHAPES["single_manifest"]
    assert build_of(described(shape["build_extra"]), None).bundle_image is None
    assert image_of_archive({"extra": shape["image_archive_extra"]}) == shape["expected_pullspec"]


@pytest.mark.parametrize("manifest_list", [True, False])
def test_the_image_of_a_bundle_build_is_found(koji: SandboxKoji, builds: KojiBuilds, manifest_list: bool) -> None:
    number = add(koji, pullspec=PULLSPEC, manifest_list=manifest_list)
    build = builds.find(build_id=number)
    assert (build.bundle_image is not None) is manifest_list
    assert builds.bundle_image(build) == PULLSPEC
    assert ("listArchives" in koji.calls) is not manifest_list


def test_only_bundle_builds_have_a_bundle_image(koji: SandboxKoji, builds: KojiBuilds) -> None:
    made = koji.add_build("acme-container", "1.0.0", "7", kind=OperatorKind.PACKAGE_MANIFESTS)
    assert made["extra"]["image"]["index"]["pull"]
    assert builds.find(build_id=made["id"]).bundle_image is None


def test_a_tag_names_no_image_for_ever(koji: SandboxKoji, builds: KojiBuilds) -> None:
    extra = json.loads(json.dumps(SHAPES["manifest_list"]["build_extra"]))
    extra["image"]["index"]["pull"] = ["registry.example.com/acme/acme-bundle:1.0.0-7"]
    build = builds.find(build_id=add(koji, extra=extra))
    assert build.bundle_image is None
    with pytest.raises(KojiManifestsArchiveNotFound, match="Koji names none by its digest") as caught:
        builds.bundle_image(build)
    assert not caught.value.transient
    assert build.nvr in caught.value.message


def test_of_several_images_without_a_list_none_is_the_bundle(koji: SandboxKoji, builds: KojiBuilds) -> None:
    number = add(koji, pullspec=PULLSPEC, manifest_list=False)
    record = koji._hub.builds[number]
    other = json.loads(json.dumps(record.archives[-1]).replace("8" * 64, "9" * 64))
    record.archives.append(other)
    with pytest.raises(KojiManifestsArchiveNotFound, match="lists 2 images"):
        builds.bundle_image(builds.find(build_id=number))


def test_a_hub_that_does_not_answer_may_answer_later(koji: SandboxKoji, builds: KojiBuilds) -> None:
    build = builds.find(build_id=add(koji, pullspec=PULLSPEC, manifest_list=False))
    koji.fail_calls("database", times=1)
    with pytest.raises(KojiError) as caught:
        builds.bundle_image(build)
    assert caught.value.transient
    assert builds.bundle_image(build) == PULLSPEC


ODD = [None, 7, "text", [], {}, {"index": 7}, {"index": {}}, {"index": {"pull": None}}, {"index": {"pull": "x@y"}}]


@pytest.mark.parametrize(
    "image", [*ODD, {"index": {"pull": [None, 7, {}, "a@sha256:55", "a b@" + DIGEST, "\n@" + DIGEST]}}]
)
def test_what_is_no_pull_specification_is_no_image(image: Any) -> None:
    extra = {**SHAPES["manifest_list"]["build_extra"], "image": image}
    assert build_of(described(extra), None).bundle_image is None


@pytest.mark.parametrize("row", [None, 7, {}, {"extra": None}, {"extra": {"docker": []}}, {"extra": {"docker": {}}}])
def test_what_is_no_image_archive_names_no_image(row: Any) -> None:
    assert image_of_archive(row) is None
