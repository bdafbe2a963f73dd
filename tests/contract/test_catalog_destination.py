# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of both kinds reach a catalog: in the sandbox's image registry, and in the real one."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from omps_worker.common.errors import (
    CatalogConflict,
    CatalogError,
    CatalogNotOurs,
    CatalogPackageNotFound,
    PackageValidationError,
    WorkerError,
)
from omps_worker.common.model import Build, BuildState, OperatorKind, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import NOT_AN_OPERATOR_IMAGE
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, ImageTemplate
from omps_worker.destinations.catalog.images.image import digest_tag
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import HERON, OTTER, OTTER_AND_NEXT, catalog_in_sandbox, catalog_place, error_of
from tests.support.images import SmallImage

sandbox = catalog_in_sandbox
PREFIX = "operators.operatorframework.io.bundle."


@pytest.fixture(params=["sandbox", "docker-registry"])
def site(request, tmp_path):
    with catalog_place(request.param, tmp_path) as made:
        yield made


# ---- package manifests


def test_the_first_build_makes_the_catalog_and_its_bundle_images(site):
    released = site.release(OTTER)

    update = released.facts["catalog"]
    assert (released.version, released.created) == ("1.0.0", True)
    assert update.previous is None
    assert update.digest == site.tag()
    assert update.channels == {"candidate": "otter-cache.v1.0.0", "stable": "otter-cache.v1.0.0"}
    assert [(bundle.version, bundle.created) for bundle in update.bundles] == [("0.9.0", True), ("1.0.0", True)]
    assert site.packages() == {"otter-cache": dict(update.channels)}
    repository = site.catalog.bundle_images.repository("otter-cache")
    for bundle in update.bundles:
        digest = bundle.image.partition("@")[2]
        assert site.client.digest(ImageName(repository, f"v{bundle.version}")) == digest
        assert site.client.digest(ImageName(repository, digest_tag(digest))) == digest


def test_a_package_whose_bundles_would_go_into_the_repository_of_the_catalog_is_refused(sandbox):
    template = str(sandbox.catalog.bundle_images).replace("{package}-bundle", "{package}")
    sandbox.catalog.bundle_images = ImageTemplate.parse(template, tagged=False)
    with pytest.raises(PackageValidationError, match=f"'catalog' makes {sandbox.image.repository} .* image or bundles"):
        sandbox.release(operators.nested_operator("catalog", versions=("1.0.0",)))

    assert sandbox.registry.repositories() == ()
    assert sandbox.release(OTTER).created


def test_the_same_content_changes_nothing_and_writes_nothing(site):
    first = site.release(OTTER)
    again = site.release(OTTER)

    assert (again.version, again.created) == ("1.0.0", False)
    assert again.facts["digest"] == first.facts["digest"]
    assert again.facts["catalog"].digest == first.facts["catalog"].digest == site.tag()


def test_unchanged_content_costs_three_reads(sandbox):
    sandbox.release(OTTER)
    job, seen = sandbox.job(OTTER), len(sandbox.place.registry.log)
    sandbox.destination.release(job)

    assert [entry.method for entry in sandbox.place.registry.log[seen:]] == ["GET", "GET", "GET"]


def test_the_second_look_reads_the_catalog_only_if_it_has_changed(sandbox):
    sandbox.release(OTTER)
    job, seen = sandbox.job(OTTER_AND_NEXT), len(sandbox.place.registry.log)
    sandbox.destination.release(job)

    tag = [entry.method for entry in sandbox.place.registry.log[seen:] if entry.target.endswith("/manifests/latest")]
    # The first look, the second, the one before the tag moves, the tag, and the proof.
    assert tag == ["GET", "HEAD", "HEAD", "PUT", "GET"]


def test_bundles_that_the_catalog_names_are_not_asked_for_again(sandbox):
    """Neither an update nor its plan makes calls for each version that there ever was."""
    named = set()
    for bundle in sandbox.update(OTTER).bundles:
        digest = bundle.image.partition("@")[2]
        named |= {digest, digest_tag(digest), f"v{bundle.version}"}
    job = sandbox.job(OTTER_AND_NEXT)
    for step in (sandbox.destination.plan, sandbox.destination.release):
        seen = len(sandbox.registry.log)
        step(job)
        images = f"/v2/{sandbox.bundle_repository().path}/manifests/"
        asked = {each.target.removeprefix(images) for each in sandbox.registry.log[seen:] if images in each.target}
        assert asked, "the new bundle"
        assert not asked & named


def test_other_packages_stay_byte_for_byte(site):
    site.release(HERON)
    before = site.destination.plan(site.job(HERON)).facts["digest"]
    site.release(OTTER)
    site.release(OTTER_AND_NEXT)

    assert site.packages() == {
        "heron": {"candidate": "heron.v2.0.0", "stable": "heron.v2.0.0"},
        "otter-cache": {"candidate": "otter-cache.v1.1.0", "stable": "otter-cache.v1.1.0"},
    }
    again = site.destination.plan(site.job(HERON))
    assert (again.created, again.facts["digest"]) == (False, before)


def test_a_plan_says_what_a_release_would_do_and_writes_nothing(site):
    planned = site.destination.plan(site.job(OTTER))

    assert (planned.version, planned.created) == ("1.0.0", True)
    assert planned.facts["catalog"].channels["stable"] == "otter-cache.v1.0.0"
    assert site.tag() is None


def test_a_version_with_other_content_is_refused_unless_the_mapping_lets_heads_change(site):
    site.release(OTTER)
    changed = {
        path: text.replace("otter-cache-operator", "otter-cache-operator-fixed") if path.startswith("1.0.0/") else text
        for path, text in OTTER.items()
    }

    with pytest.raises(PackageValidationError, match=r"otter-cache\.v1\.0\.0 \(1\.0\.0\) is in the catalog with other"):
        site.release(changed)
    released = site.release(changed, overwrite="heads")

    assert released.created
    assert [bundle.created for bundle in released.facts["catalog"].bundles] == [False, True]


def test_a_new_channel_does_not_change_the_images_of_old_versions(site):
    first = site.release(OTTER)
    renamed = {
        path: text.replace("channels:\n", "channels:\n- name: fast\n  currentCSV: otter-cache.v1.0.0\n")
        for path, text in OTTER.items()
    }
    assert "fast" in site.job(renamed).content.plan.channels
    released = site.release(renamed)

    assert released.created
    assert released.facts["catalog"].channels["fast"] == "otter-cache.v1.0.0"
    assert [each.image for each in released.facts["catalog"].bundles] == [
        each.image for each in first.facts["catalog"].bundles
    ]


def test_versions_that_the_tree_no_longer_has_are_dropped_and_told(site):
    site.release(OTTER_AND_NEXT)
    released = site.release(operators.nested_operator("otter-cache", versions=("1.1.0",)), overwrite="heads")

    assert set(released.facts["catalog"].dropped) == {"otter-cache.v0.9.0", "otter-cache.v1.0.0"}


def test_a_newer_build_supersedes_an_older_one(site):
    site.release(OTTER)
    order = SimpleNamespace(superseded=lambda below, releases: True, superseded_by="otter-1.1-1")
    digest = site.tag()

    assert site.release(OTTER_AND_NEXT, order) is None
    assert site.tag() == digest


def test_a_repository_in_the_mapping_is_an_assertion(sandbox):
    with pytest.raises(PackageValidationError, match="is not the repository that was asked for"):
        sandbox.release(OTTER, repository="heron")


def test_a_build_without_manifests_has_nothing_to_publish(sandbox):
    target = Target(None, catalog="community")
    build = Build(1, "a-1-1", "a", "1", "1", BuildState.COMPLETE)
    assert sandbox.destination.skip_reason(target, build) == NOT_AN_OPERATOR_IMAGE


# ---- bundle builds


def test_a_bundle_build_is_added_as_the_image_that_the_build_system_pushed(site):
    build = site.osbs("1.0.0")
    released = site.add(build)

    (bundle,) = released.facts["catalog"].bundles
    assert (bundle.image, bundle.created) == (build.bundle_image, False)
    assert site.packages() == {"otter-cache": {"stable": "otter-cache.v1.0.0"}}
    assert not site.add(build).created


def test_bundle_builds_without_edges_follow_each_other_by_version(site):
    site.add(site.osbs("1.0.0"), graph="semver")
    released = site.add(site.osbs("1.1.0"), graph="semver")

    assert released.facts["catalog"].channels["stable"] == "otter-cache.v1.1.0"
    assert [bundle.version for bundle in released.facts["catalog"].bundles] == ["1.0.0", "1.1.0"]


def test_a_bundle_that_no_channel_would_reach_is_superseded(site):
    site.add(site.osbs("1.1.0"))
    assert site.add(site.osbs("1.0.0")) is None


def test_an_image_that_cannot_be_found_is_waited_for(site):
    build = site.osbs("1.0.0")
    missing = f"{build.bundle_image.partition('@')[0]}@sha256:{'0' * 64}"
    with pytest.raises(CatalogError) as caught:
        site.add(Build(1, "a-1-1", "a", "1", "1", 1, kind=OperatorKind.BUNDLE, bundle_image=missing))
    assert caught.value.transient


# ---- deleting


def test_a_bundle_or_a_package_leaves_the_catalog_and_its_images_stay(site):
    update = site.release(OTTER_AND_NEXT).facts["catalog"]
    site.release(HERON)
    with pytest.raises(PackageValidationError, match="rest of the package"):
        site.destination.delete("community", "otter-cache", "1.0.0")

    assert list(site.destination.would_delete("community", "heron")) == ["2.0.0"]
    (outcome,) = site.destination.delete("community", "heron")
    assert (outcome.version, outcome.repo) == ("2.0.0", "heron")
    assert list(site.packages()) == ["otter-cache"]
    for bundle in update.bundles:
        repository = site.catalog.bundle_images.repository("otter-cache")
        assert site.client.digest(ImageName(repository, bundle.image.partition("@")[2])) is not None
    with pytest.raises(CatalogPackageNotFound, match="no package catalog:community/heron"):
        site.destination.delete("community", "heron")
    with pytest.raises(CatalogPackageNotFound, match=r"catalog:community/otter-cache has no bundle 9\.9\.9"):
        site.destination.would_delete("community", "otter-cache", "9.9.9")


# ---- what other programs read


@pytest.mark.parametrize("image_format", ["docker", "oci"])
def test_skopeo_and_umoci_read_the_catalog_and_its_bundles(tmp_path, image_format):
    with catalog_place("docker-registry", tmp_path, format=image_format) as site:
        site.release(HERON)
        update = site.release(OTTER).facts["catalog"]
        for number, name in enumerate((str(site.image), update.bundles[-1].image)):
            unpacked = files_as_tools_see_them(tmp_path / f"tools-{number}", name)
            labels = labels_as_skopeo_sees_them(name)
            if number:
                assert labels[f"{PREFIX}package.v1"] == "otter-cache"
                csv = unpacked / "manifests/otter-cache.v1.0.0.clusterserviceversion.yaml"
                assert csv.read_text() == OTTER["1.0.0/otter-cache.v1.0.0.clusterserviceversion.yaml"]
                assert "annotations:" in (unpacked / "metadata/annotations.yaml").read_text()
            else:
                assert labels == {"operators.operatorframework.io.index.configs.v1": "/configs"}
                found = {path.parent.name: path.read_bytes() for path in unpacked.glob("configs/*/catalog.json")}
                assert found == site.files()


def labels_as_skopeo_sees_them(name):
    told = run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}")
    return json.loads(told.stdout)["Labels"]


def files_as_tools_see_them(directory, name):
    """The files of an image, copied by skopeo and unpacked by umoci."""
    directory.mkdir()
    layout = f"{directory}/layout:latest"
    run("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}")
    run("umoci", "unpack", "--rootless", "--image", layout, f"{directory}/unpacked")
    return directory / "unpacked/rootfs"


def run(*command):
    return subprocess.run(command, capture_output=True, check=True, timeout=60)


# ---- when things go wrong


@pytest.mark.parametrize("status", [403, 500, 502])
def test_a_tag_that_cannot_be_read_is_never_an_empty_catalog(sandbox, status):
    sandbox.release(HERON)
    before = sandbox.tag()
    job = sandbox.job(OTTER)
    sandbox.place.registry.faults.add(Fault("GET .*/catalog/manifests/latest", status=status, times=None))
    with pytest.raises(WorkerError) as caught:
        sandbox.destination.release(job)
    sandbox.place.registry.faults.clear()

    assert caught.value.transient
    assert sandbox.tag() == before


def test_a_tag_that_is_listed_and_not_found_is_never_an_empty_catalog(sandbox):
    sandbox.release(HERON)
    sandbox.place.registry.hide(sandbox.image.repository.path, "latest", times=None)
    with pytest.raises(CatalogError, match="lists the tag and does not find it"):
        sandbox.release(OTTER)


def test_an_image_of_another_program_is_refused_unless_a_new_catalog_is_asked_for(site):
    SmallImage().push(site.client, site.image)

    with pytest.raises(CatalogNotOurs):
        site.release(OTTER)
    job = site.job(OTTER, request=PushRequest(new_catalog=True))
    assert site.destination.release(job).created
    assert list(site.packages()) == ["otter-cache"]


def test_a_writer_who_comes_in_between_is_kept(sandbox):
    other = sandbox.another()
    heron = sandbox.job(HERON)
    path = sandbox.image.repository.path
    sandbox.place.registry.before(f"HEAD /v2/{path}/manifests/latest", lambda: other.release(heron))
    sandbox.release(OTTER)

    assert sorted(sandbox.packages()) == ["heron", "otter-cache"]


def test_a_catalog_that_others_keep_changing_is_a_conflict(sandbox):
    path = sandbox.image.repository.path
    files = iter([operators.nested_operator(f"heron-{number}", versions=("1.0.0",)) for number in range(40)])
    other = sandbox.another()

    def interfere() -> None:
        other.release(sandbox.job(next(files)))

    busy = []

    def once() -> None:
        if not busy:
            busy.append(True)
            try:
                interfere()
            finally:
                busy.clear()

    sandbox.place.registry.before(f"HEAD /v2/{path}/manifests/latest", once, times=None)
    with pytest.raises(CatalogConflict) as caught:
        sandbox.release(OTTER)
    assert caught.value.transient


def test_killed_before_or_after_each_call_the_next_try_ends_with_one_whole_catalog(sandbox):
    """Each call of an update fails once, unanswered or with its answer lost; the next try finishes the work."""
    sandbox.release(HERON)
    job = sandbox.job(OTTER)
    seen = len(sandbox.place.registry.log)
    sandbox.destination.release(job)
    calls = len(sandbox.place.registry.log) - seen
    assert calls > 15

    for stored in (False, True):
        for number in range(calls):
            sandbox.destination.delete("community", "otter-cache")
            digest = sandbox.tag()
            sandbox.place.registry.faults.add(Fault("", drop=not stored, drop_answer=stored, after=number))
            error = error_of(sandbox.another(), job)
            sandbox.place.registry.faults.clear()
            assert error is None or error.transient, (number, error)
            assert "heron" in sandbox.packages()
            assert error is not None or sandbox.tag() != digest
            sandbox.another().release(job)
            assert sorted(sandbox.packages()) == ["heron", "otter-cache"], number
