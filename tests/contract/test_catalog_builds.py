# SPDX-License-Identifier: GPL-3.0-or-later
"""What builds of both kinds become in a catalog: changes to manifests, images of the build system, the order of builds.

The registry is the sandbox's; ``test_catalog_destination`` holds the same code against the real one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import yaml

from omps_worker.common.errors import CatalogNotOurs, PackageValidationError
from omps_worker.common.model import Build, BuildState, OperatorKind
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations.catalog import bundle_builds
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.catalog_image import CatalogLayers
from omps_worker.destinations.catalog.images.image import digest_tag
from omps_worker.destinations.catalog.images.unpacking import Room, unpack
from omps_worker.destinations.catalog.packages.package_file import PackageFile
from omps_worker.destinations.catalog.uploads import push_image
from omps_worker.manifests.contents import computing
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations
from omps_worker.publishing.superseded import BuildOrder
from tests.support.catalog_places import (
    HERON,
    OTTER,
    OTTER_AND_NEXT,
    bundle_build,
    catalog_in_sandbox,
    catalog_place,
    changed,
    update_in,
)
from tests.support.images import SmallImage, list_of

site = catalog_in_sandbox
NEW_CHANNEL = changed(OTTER, "channels:\n", "channels:\n- name: fast\n  currentCSV: otter-cache.v1.0.0\n")
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def site_with(tmp_path, **options):
    return catalog_place("sandbox", tmp_path, **options)


def bundle_files(site, pullspec):
    """The files of a bundle image."""
    image = ImageName(site.bundle_repository(), pullspec.partition("@")[2])
    blobs = [site.client.blob(image.repository, layer, max_bytes=2**20) for layer in site.client.manifest(image).layers]
    return unpack(blobs, ("manifests", "metadata"), Room(2**20, 2**22, 100))


# ---- changes to manifests


def test_changes_to_manifests_reach_the_images_and_the_catalog(tmp_path):
    changes = Transformations(
        "-community",
        (Replacement("quay.example.org", "mirror.example.org"),),
        (Annotation("published-as", "{package_name}"),),
    )
    with site_with(tmp_path, transformations=changes) as site:
        update = site.update(OTTER)

        assert update.package == "otter-cache-community"
        assert update.bundles[-1].image.startswith(f"{site.bundle_repository('otter-cache-community')}@sha256:")
        text = site.files()["otter-cache-community"].decode()
        assert '"published-as":"otter-cache-community"' in text
        assert "mirror.example.org/otter/otter-cache-operator:1.0.0" in text
        assert "quay.example.org" not in text


def test_every_document_of_a_file_is_changed_as_if_it_were_a_file(tmp_path):
    one, crd = (f"1.0.0/{name}" for name in ("otter-cache.v1.0.0.clusterserviceversion.yaml", "caches.crd.yaml"))
    together = dict(OTTER)
    together[one] = f"---\n{together.pop(crd)}---\n# nothing\n---\n{together[one]}"
    changes = Transformations(annotations=(Annotation("published-as", "{package_name}"),))
    with site_with(tmp_path, transformations=changes) as site:
        update = site.update(together)
        files = bundle_files(site, update.bundles[-1].image)

        csvs = {path: text for path, text in files.items() if b"kind: ClusterServiceVersion" in text}
        assert list(csvs) == ["manifests/otter-cache.v1.0.0.clusterserviceversion.2.yaml"]
        annotations = [yaml.safe_load(text)["metadata"]["annotations"] for text in csvs.values()]
        assert [each["published-as"] for each in annotations] == ["otter-cache"]
        assert b"kind: CustomResourceDefinition" in files["manifests/otter-cache.v1.0.0.clusterserviceversion.1.yaml"]


def test_faults_of_all_versions_are_told_at_once_before_any_call(site):
    broken = changed(changed(OTTER, "  version: 0.9.0", "  version: x"), "  version: 1.0.0", "  version: y")
    with pytest.raises(PackageValidationError) as caught:
        site.release(broken)

    told = " ".join(caught.value.details["findings"])
    assert "0.9.0/otter-cache" in told
    assert "1.0.0/otter-cache" in told
    assert site.registry.log == []


@pytest.mark.parametrize("name", ["Otter", "otter_cache", "otter--" + 60 * "x"])
def test_a_package_whose_name_a_catalog_cannot_have_is_refused_before_any_call(site, name):
    with pytest.raises(PackageValidationError):
        site.release(changed(OTTER, "packageName: otter-cache", f"packageName: {name}"))
    assert site.registry.log == []


# ---- one catalog image a package


def test_each_package_may_have_a_catalog_image_of_its_own(tmp_path):
    with site_with(tmp_path, image="{package}-catalog:v1") as site:
        otter, heron = site.update(OTTER), site.update(HERON)

        assert otter.image == str(site.catalog.image.image("otter-cache"))
        assert heron.image.endswith("/heron-catalog:v1")
        assert (otter.previous, heron.previous) == (None, None)
        assert site.show("heron").packages[0].name == "heron"
        assert [outcome.version for outcome in site.delete("heron")] == ["2.0.0"]
        assert site.show("heron").packages == ()
        assert [each.name for each in site.show("otter-cache").packages] == ["otter-cache"]


# ---- what the images and the outcome say


def test_the_outcome_tells_the_ledger(site):
    hidden = changed(OTTER_AND_NEXT, "currentCSV: otter-cache.v1.1.0", "currentCSV: otter-cache.v1.0.0")
    update = site.update(hidden)

    assert update.unpublished == ("otter-cache.v1.1.0",)
    assert [bundle.version for bundle in update.bundles] == ["0.9.0", "1.0.0"]
    assert update.channels_before == {}
    assert json.loads(json.dumps(update.as_json()))["image"] == str(site.image)
    assert set(site.bundle_tags()) == {
        tag for bundle in update.bundles for tag in (f"v{bundle.version}", digest_tag(bundle.image.partition("@")[2]))
    }


def test_a_version_that_was_overwritten_keeps_its_image_for_older_catalogs(site):
    before = site.update(OTTER).bundles[-1].image.partition("@")[2]
    after = site.update(changed(OTTER, "operator:1.0.0", "operator:1.0.0-2"), overwrite="heads").bundles[-1]
    repository = site.bundle_repository()

    assert site.client.digest(ImageName(repository, "v1.0.0")) == after.image.partition("@")[2]
    assert site.client.digest(ImageName(repository, digest_tag(before))) == before


def test_only_heads_are_overwritten(site):
    site.release(OTTER)
    tags = site.bundle_tags()
    with pytest.raises(PackageValidationError, match="Something replaces or skips it"):
        site.release(changed(OTTER, "operator:0.9.0", "operator:0.9.0-2"), overwrite="heads")

    assert site.bundle_tags() == tags


def test_an_image_that_is_kept_in_spite_of_a_new_channel_is_asked_about_once_for_each_update(site):
    site.release(OTTER)
    job, seen = site.job(NEW_CHANNEL), len(site.registry.log)
    site.destination.release(job)

    bundles = f"{site.bundle_repository().path}/manifests/sha256:"
    reads = [entry.target for entry in site.registry.log[seen:] if entry.method == "GET" and bundles in entry.target]
    assert len(reads) == len(set(reads)) == 2


def test_images_of_a_catalog_that_moved_to_another_repository_are_kept_where_they_are(site):
    first = site.update(OTTER)
    site.catalog.bundle_images = type(site.catalog.bundle_images).parse(
        f"{site.place.url}/elsewhere/{{package}}", tagged=False
    )
    update = site.update(NEW_CHANNEL)

    assert [each.image for each in update.bundles] == [each.image for each in first.bundles]
    assert "elsewhere/otter-cache" not in site.registry.repositories()


# ---- bundle builds


def test_a_bundle_image_behind_a_list_is_named_by_the_digest_of_the_list(site):
    build = site.osbs("1.0.0")
    name = ImageName(site.place.repository("osbs-list"), "1.0.0-1")
    child = site.client.manifest(ImageName(osbs(site), build.bundle_image.partition("@")[2]))
    for layer in (child.config, *child.layers):
        site.client.push_blob(name.repository, site.client.blob(osbs(site), layer, max_bytes=2**20))
    site.client.put_manifest(name.at(child.digest), child.body, child.media_type)
    body, media_type = list_of(SmallImage(), SmallImage())
    listed = json.loads(body)
    listed["manifests"] = [{**listed["manifests"][0], "digest": child.digest, "size": len(child.body)}]
    digest = site.client.put_manifest(name, json.dumps(listed).encode(), media_type)

    (bundle,) = update_in(site.add(bundle_build(str(name.at(digest))))).bundles

    assert bundle.image == str(name.at(digest))


def osbs(site):
    return type(site.image.repository)(site.image.repository.scheme, site.image.repository.host, "osbs/otter-cache")


def test_the_catalog_names_a_bundle_as_the_configured_replacement_says(tmp_path):
    with site_with(tmp_path) as site:
        host = site.image.repository.host
        site.catalog.transformations = Transformations(
            replacements=(Replacement(rf"^{host}/osbs/", "registry.example.com/released/", regexp=True),)
        )
        build = site.osbs("1.0.0")
        (bundle,) = update_in(site.add(build)).bundles

        assert bundle.image == f"registry.example.com/released/otter-cache@{build.bundle_image.partition('@')[2]}"


def test_a_bundle_replaces_the_head_of_its_channel_and_older_ones_stay_reachable(site):
    site.add(site.osbs("1.0.0"))
    update = update_in(site.add(site.osbs("1.1.0", replaces="otter-cache.v1.0.0")))

    assert update.channels == {"stable": "otter-cache.v1.1.0"}
    assert update.channels_before == {"stable": "otter-cache.v1.0.0"}
    assert [bundle.version for bundle in update.bundles] == ["1.0.0", "1.1.0"]
    assert update.dropped == ()


def test_what_no_head_leads_to_any_more_is_dropped_and_told(site):
    site.add(site.osbs("1.0.0"))

    assert update_in(site.add(site.osbs("1.1.0"))).dropped == ("otter-cache.v1.0.0",)


def test_a_rebuilt_bundle_of_the_same_version_is_refused_and_nothing_is_written(site):
    site.add(site.osbs("1.0.0"))
    before = site.tag()
    with pytest.raises(PackageValidationError, match="is in the catalog with other content"):
        site.add(site.osbs("1.0.0", text="\n# rebuilt\n"))
    assert site.tag() == before

    assert update_in(site.add(site.osbs("1.0.0", text="\n# rebuilt\n"), overwrite="heads")).previous == before


@pytest.mark.parametrize("pullspec", ["", "registry.example.com/Upper@sha256:00", "a b"])
def test_an_image_that_koji_names_wrongly_is_a_fault_of_the_build(site, pullspec):
    with pytest.raises(PackageValidationError) as caught:
        site.bundle_job(bundle_build(pullspec))
    assert not caught.value.transient


def test_one_bundle_is_read_at_a_time_but_no_thread_waits_for_the_network_of_another(site, monkeypatch):
    held: list[tuple[str, bool]] = []

    def noting(owner, name):
        function = getattr(owner, name)

        def noted(*arguments, **options):
            held.append((name, computing.locked()))
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    build = site.osbs("1.0.0")
    noting(ImageRegistryClient, "blob")
    noting(bundle_builds, "unpack")
    noting(bundle_builds, "read_bundle")

    site.bundle_job(build)

    assert held == [("blob", False), ("unpack", True), ("read_bundle", True)]
    assert not computing.locked()


def test_an_image_that_is_no_bundle_is_a_fault_of_the_build(site):
    name = site.place.image("not-a-bundle")
    digest = SmallImage().push(site.client, name)
    with pytest.raises(PackageValidationError, match="cannot be added to a catalog"):
        site.bundle_job(bundle_build(str(name.at(digest))))


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (
            {"channels": ("stable", "\x1b[2J")},
            r"'\\x1b\[2J' in the annotation .*channels.v1 cannot be the name of a channel",
        ),
        ({"channels": tuple(f"c{number}" for number in range(1001))}, "names 1001 channels, and may name 1000"),
        ({"replaces": "otter-cache\x1b[2J"}, r"spec.replaces 'otter-cache\\x1b\[2J' has control characters"),
    ],
)
def test_a_bundle_with_names_that_no_cluster_takes_is_a_fault_of_the_build(site, made, fault):
    with pytest.raises(PackageValidationError, match=fault):
        site.bundle_job(site.osbs("1.0.0", **made))


def test_a_bundle_that_replaces_what_no_cluster_can_have_is_added_with_a_warning(site):
    content = site.bundle_job(site.osbs("1.0.0", replaces="otter-cache/../v0")).content

    assert content.bundle.entry()["replaces"] == "otter-cache/../v0"
    assert content.warnings[0].endswith("as these are no names of objects: 'otter-cache/../v0'")


def test_a_bundle_without_an_image_that_another_program_wrote_is_carried_over(site):
    """opm takes it if it has its objects itself."""
    blobs = [dict(each) for each in PackageFile.parse(written(site, OTTER)).blobs()]
    old = next(each for each in blobs if each.get("name") == "otter-cache.v0.9.0")
    del old["image"]
    old["properties"] = [*old["properties"], {"type": "olm.bundle.object", "value": {"data": "e30="}}]
    put_package(site, PackageFile.of([*blobs, {"schema": "olm.deprecations", "package": "otter-cache"}]))
    order = BuildOrder(build_at(1, OperatorKind.BUNDLE), lambda _: [], lambda _: None, late=True)

    (shown,) = site.show().as_json()["packages"]
    assert shown["bundles"][0]["image"] == ""
    update = update_in(site.add(site.osbs("1.1.0", replaces="otter-cache.v1.0.0"), order))
    assert [each.image == "" for each in update.bundles] == [True, False, False]
    with pytest.raises(PackageValidationError, match=r"otter-cache\.v0\.9\.0 .* with other content: no image there"):
        site.release(OTTER, BuildOrder(build_at(2), lambda _: [], lambda _: None, late=True))
    assert [each.version for each in site.delete("otter-cache")] == ["0.9.0", "1.0.0", "1.1.0"]


def written(site, files):
    """The package file after a release of package manifests."""
    site.update(files)
    return site.files()["otter-cache"]


def put_package(site, package):
    """Make the catalog one that has just this package."""
    catalog, layer = CatalogLayers().changed(package.name, package.data(), {})
    made = catalog.image()
    push_image(site.client, site.image, made, layer)
    site.client.put_manifest(site.image, made.manifest, made.format.manifest_type)


# ---- the order of builds


def build_at(minute, kind=OperatorKind.PACKAGE_MANIFESTS):
    """A build that was completed so many minutes after noon."""
    return Build(
        minute, f"otter-cache-container-1.0-{minute}", "otter-cache-container", "1.0", str(minute), BuildState.COMPLETE,
        completed_at=NOON + timedelta(minutes=minute), kind=kind,
    )  # fmt: skip


def order_among(own, digests, *, late=False):
    """The order of a build among others; ``digests``: the content of each build."""
    newest_first = sorted(digests, key=lambda build: build.order, reverse=True)
    return BuildOrder(own, lambda since: newest_first, lambda other: digests[other], late=late)


def test_a_build_that_was_overtaken_is_skipped_and_changes_nothing(site):
    older, newer = build_at(1), build_at(2)
    newer_job, older_job = site.job(OTTER_AND_NEXT), site.job(OTTER)
    site.destination.release(newer_job)
    before, order = site.tag(), order_among(older, {older: older_job.content.digest, newer: newer_job.content.digest})

    assert site.release(OTTER, order) is None
    assert order.superseded_by == newer.nvr
    assert site.tag() == before
    assert site.destination.plan(site.job(OTTER, order)) is None


def test_the_order_is_asked_under_the_lock_and_only_if_something_would_change(site):
    site.release(OTTER)
    asked = []

    class Order:
        superseded_by = None

        def superseded(self, below, releases):
            asked.append([entry.method for entry in site.registry.log[seen:] if entry.method != "GET"])
            return False

    seen = len(site.registry.log)
    site.release(OTTER, Order())
    assert asked == []
    site.release(OTTER_AND_NEXT, Order())
    assert len(asked) == 1
    assert "PUT" in asked[0], "bundle images are sent before the lock is taken"


def test_a_build_that_does_not_fit_is_skipped_if_a_newer_one_supersedes_it(site):
    older, newer = build_at(1), build_at(2)
    rebuilt = site.job(changed(OTTER, "operator:1.0.0", "operator:1.0.0-2"))
    site.destination.release(rebuilt)
    order = order_among(older, {older: "0" * 64, newer: rebuilt.content.digest})

    assert site.release(OTTER, order) is None
    with pytest.raises(PackageValidationError):
        site.release(OTTER)


def test_deprecations_that_builds_know_nothing_of_do_not_hide_which_build_is_on_top(site, tmp_path):
    newer_job, older, newer = site.job(OTTER_AND_NEXT), build_at(1), build_at(2)
    site.destination.release(newer_job)
    package = PackageFile.parse(site.files()["otter-cache"])
    entry = {"reference": {"schema": "olm.bundle", "name": "otter-cache.v0.9.0"}, "message": "too old"}
    deprecations = {"schema": "olm.deprecations", "package": "otter-cache", "entries": [entry]}
    write(site, PackageFile.of([*package.blobs(), deprecations]))
    order = order_among(older, {older: "0" * 64, newer: newer_job.content.digest})

    assert site.release(OTTER, order) is None


def test_images_that_were_kept_do_not_hide_which_build_is_on_top(site):
    older, newer = build_at(1), build_at(2)
    site.release(OTTER)
    newer_job = site.job(NEW_CHANNEL)
    site.destination.release(newer_job)
    order = order_among(older, {older: "0" * 64, newer: newer_job.content.digest})

    assert site.release(OTTER, order) is None
    assert site.packages()["otter-cache"]["fast"] == "otter-cache.v1.0.0"


def test_a_build_reverts_to_earlier_content_without_being_asked(site):
    older, newer = build_at(1), build_at(2)
    site.release(OTTER)
    site.release(OTTER_AND_NEXT)
    job = site.job(OTTER)
    order = order_among(newer, {older: "0" * 64, newer: job.content.digest})

    assert update_in(site.release(OTTER, order)).dropped == ("otter-cache.v1.1.0",)


def test_a_lower_version_takes_its_place_below_a_newer_build_and_is_not_superseded_by_it(site):
    older, newer = build_at(1, OperatorKind.BUNDLE), build_at(2, OperatorKind.BUNDLE)
    above = site.bundle_job(site.osbs("1.1.0", replaces="otter-cache.v1.0.0"))
    site.destination.release(above)
    order = order_among(older, {older: "0" * 64, newer: above.content.digest})
    update = update_in(site.add(site.osbs("1.0.0"), order))

    assert update.channels == {"stable": "otter-cache.v1.1.0"}
    assert [bundle.version for bundle in update.bundles] == ["1.0.0", "1.1.0"]


def test_an_older_build_of_the_same_version_does_not_overwrite_a_newer_one(site):
    older, newer = build_at(1, OperatorKind.BUNDLE), build_at(2, OperatorKind.BUNDLE)
    rebuilt = site.bundle_job(site.osbs("1.0.0", text="\n# rebuilt\n"), overwrite="heads")
    site.destination.release(rebuilt)
    before, order = site.tag(), order_among(older, {older: "0" * 64, newer: rebuilt.content.digest})

    assert site.add(site.osbs("1.0.0"), order, overwrite="heads") is None
    assert order.superseded_by == newer.nvr
    assert site.tag() == before


def test_late_builds_bring_back_all_bundles_of_a_catalog_that_was_lost(site):
    builds = [build_at(minute, OperatorKind.BUNDLE) for minute in range(3)]
    versions = {"1.0.0": None, "1.1.0": "otter-cache.v1.0.0", "1.2.0": "otter-cache.v1.1.0"}
    pullspecs = [site.osbs(version, replaces=replaces) for version, replaces in versions.items()]
    orders = [order_among(build, dict.fromkeys(builds, "0" * 64), late=True) for build in builds]
    for pullspec, order in zip(pullspecs, orders, strict=True):
        update = update_in(site.add(pullspec, order))

    assert [bundle.version for bundle in update.bundles] == list(versions)
    assert update.channels == {"stable": "otter-cache.v1.2.0"}


def test_a_late_build_of_a_version_that_was_built_again_is_superseded(site):
    older, newer = build_at(1, OperatorKind.BUNDLE), build_at(2, OperatorKind.BUNDLE)
    rebuilt = site.bundle_job(site.osbs("1.0.0", text="\n# rebuilt\n"))
    site.destination.release(rebuilt)
    order = order_among(older, {older: "0" * 64, newer: rebuilt.content.digest}, late=True)

    assert site.add(site.osbs("1.0.0"), order) is None
    assert order.superseded_by == newer.nvr


# ---- other programs


def write(site, package):
    """Write a package file as an older or newer worker would: it is not checked."""
    from omps_worker.destinations.catalog.images.image import Format
    from omps_worker.destinations.catalog.ledger import read_state
    from omps_worker.destinations.catalog.uploads import push_image, put

    state = read_state(site.client, site.image, package.name)
    catalog, layer = state.catalog.changed(package.name, package.data(), state.files)
    made = catalog.image(Format.DOCKER)
    push_image(site.client, site.image, made, layer)
    put(site.client, site.image, made, [])


def broken_package(site):
    """Let the catalog hold a package that today's rules refuse."""
    site.release(HERON)
    package = PackageFile.parse(site.files()["heron"])
    channels = [{**each, "entries": []} for each in package.channels]
    write(site, PackageFile.of([package.package, *channels, *package.bundles]))


def test_a_package_that_is_broken_already_is_told_and_can_be_deleted(site):
    site.release(OTTER)
    broken_package(site)
    order = order_among(build_at(1), {})

    with pytest.raises(PackageValidationError, match="The package in the catalog is not valid"):
        site.release(HERON, order)
    site.release(OTTER_AND_NEXT)
    site.delete("heron")
    assert list(site.packages()) == ["otter-cache"]


def test_a_new_catalog_can_be_planned_before_it_is_made(site):
    SmallImage().push(site.client, site.image)
    before = site.tag()
    with pytest.raises(CatalogNotOurs):
        site.destination.plan(site.job(OTTER))
    planned = site.destination.plan(site.job(OTTER, request=PushRequest(new_catalog=True)))

    assert planned.created
    assert update_in(planned).previous == before
    assert site.tag() == before


LARGE = {"size": 5 * 2**20}
OTHER_DIGEST = {"digest": "sha512:" + 128 * "a"}


@pytest.mark.parametrize(
    "changes",
    [
        {"config": LARGE},
        {"config": {"urls": ["http://127.0.0.1/"]}},
        {"config": OTHER_DIGEST},
        {"schemaVersion": 1},
    ],
    ids=str,
)
def test_an_image_of_another_program_that_the_worker_cannot_read_can_be_replaced_too(site, changes):
    image = json.loads(SmallImage().body)
    for key, change in changes.items():
        image[key] = change if key == "schemaVersion" else {**image[key], **change}
    media_type = image["mediaType"].replace(".v2", ".v1") if "schemaVersion" in changes else image["mediaType"]
    site.registry.put(site.image.repository.path, "latest", json.dumps(image).encode(), media_type)
    before = site.tag()
    for call in (site.show, lambda: site.release(OTTER)):
        with pytest.raises(CatalogNotOurs) as caught:
            call()
        assert not caught.value.transient

    assert update_in(site.release(OTTER, request=PushRequest(new_catalog=True))).previous == before
    assert list(site.packages()) == ["otter-cache"]


def test_a_layer_of_a_catalog_that_the_worker_cannot_have_written_is_not_read(site):
    site.release(OTTER)
    image = json.loads(site.client.manifest(site.image).body)
    image["layers"] = [{**each, "size": 2**30} for each in image["layers"]]
    site.registry.put(site.image.repository.path, "latest", json.dumps(image).encode(), image["mediaType"])

    with pytest.raises(CatalogNotOurs):
        site.release(OTTER_AND_NEXT)


def test_starting_over_is_for_images_of_other_programs_only(site):
    site.release(HERON)
    site.release(OTTER, request=PushRequest(new_catalog=True))

    assert list(site.packages()) == ["heron", "otter-cache"]
