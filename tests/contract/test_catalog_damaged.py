# SPDX-License-Identifier: GPL-3.0-or-later
"""One package in a catalog is damaged, or breaks the rules: the others stay, and it can be deleted as a whole."""

from __future__ import annotations

import json

import pytest

from omps_worker.common.errors import CatalogNotOurs, PackageValidationError
from omps_worker.common.model import Status
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations.catalog.catalog_checks import check_catalog
from omps_worker.destinations.catalog.catalog_contents import read_catalog
from omps_worker.destinations.catalog.images.image import Format
from omps_worker.destinations.catalog.ledger import open_catalog
from omps_worker.destinations.catalog.uploads import push_image, put
from omps_worker.sandbox import operators
from tests.support.catalog_places import CatalogPlace, catalog_place, changed, update_in

OTTER = operators.nested_operator("otter-cache", versions=("0.9.0", "1.0.0"))
HERON = operators.nested_operator("heron", versions=("2.0.0",))
WAY_OUT = "elete it with `omps-worker delete --catalog community heron`"

DAMAGED = {
    "cut off": lambda data: data[: len(data) // 2 - 1],
    "not an object": lambda _: b"[]\n",
    "without a package": lambda data: b"\n".join(line for line in data.splitlines() if b'"olm.package"}' not in line),
    "empty": lambda _: b"",
    "not text": lambda _: b"\xff\xfe\n",
}


def blobs_with(data, schema, **values):
    """A package file whose blobs of a schema have other values."""
    blobs = [json.loads(text) for text in data.splitlines()]
    return b"".join(
        json.dumps({**blob, **values} if blob["schema"] == schema else blob).encode() + b"\n" for blob in blobs
    )


BROKEN = {
    "an image that is a list": lambda data: blobs_with(data, "olm.bundle", image=[1]),
    "channels without entries": lambda data: blobs_with(data, "olm.channel", entries=[]),
    "entries that are no list": lambda data: blobs_with(data, "olm.channel", entries=5),
    "a bundle whose name is a list": lambda data: blobs_with(data, "olm.bundle", name=[1]),
    "a bundle without properties": lambda data: blobs_with(data, "olm.bundle", properties=None),
}


@pytest.fixture
def site(tmp_path):
    with catalog_place("sandbox", tmp_path) as made:
        made.release(OTTER)
        made.release(HERON)
        yield made


def spoil(site: CatalogPlace, change) -> None:
    """Let another program change the file of heron, and nothing else."""
    opened = open_catalog(site.client, site.image, site.client.manifest(site.image))
    layer = opened.catalog.layer_with("heron")
    assert layer is not None
    files = opened.files(layer)
    catalog, made = opened.catalog.changed("heron", change(files["heron"]), files)
    image = catalog.image(Format.DOCKER)
    push_image(site.client, site.image, image, made)
    put(site.client, site.image, image, [])


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_package_is_told_as_that_with_the_way_out(site, damage):
    spoil(site, damage)
    before = site.tag()
    job = site.job(HERON)
    attempts = (
        lambda: site.destination.release(job),
        lambda: site.destination.plan(job),
        lambda: site.release(HERON, request=PushRequest(new_catalog=True)),
        lambda: site.delete("heron", "2.0.0"),
        lambda: site.destination.would_delete("community", "heron", "2.0.0"),
        lambda: read_catalog(site.client, site.image, "heron", catalog="community"),
        lambda: check_catalog(lambda _: site.client, site.catalog),
    )
    for attempt in attempts:
        with pytest.raises(CatalogNotOurs, match=r"^The package heron in the catalog .* is damaged: ") as caught:
            attempt()
        assert WAY_OUT in caught.value.message
        assert "not written by" not in caught.value.message
        assert "--new-catalog" not in caught.value.message
    assert site.tag() == before, "not even --new-catalog gives up the other packages for one"


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_package_can_be_deleted_and_published_again(site, damage):
    spoil(site, damage)
    before = site.tag()
    assert list(site.destination.would_delete("community", "heron")) == [None]
    assert site.tag() == before
    (gone,) = site.delete("heron")

    assert (gone.status, gone.version, gone.catalog.previous) == (Status.DELETED, None, before)
    assert gone.catalog.digest == site.tag()
    assert list(site.packages()) == ["otter-cache"]
    assert site.release(HERON).created
    assert list(site.packages()) == ["heron", "otter-cache"]


def test_other_packages_are_published_beside_a_damaged_one(site):
    spoil(site, DAMAGED["cut off"])
    more = operators.nested_operator("otter-cache", versions=("0.9.0", "1.0.0", "1.1.0"))

    assert site.release(more).created


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
def test_a_package_that_breaks_the_rules_is_told_with_the_way_out_which_works(site, fault):
    spoil(site, fault)
    told = "^The package in the catalog is not valid, d"
    for attempt in (lambda: site.release(HERON), lambda: site.destination.plan(site.job(HERON))):
        with pytest.raises(PackageValidationError, match=told) as caught:
            attempt()
        assert WAY_OUT in caught.value.message
    assert list(site.destination.would_delete("community", "heron"))
    assert {each.status for each in site.delete("heron")} == {Status.DELETED}
    assert list(site.packages()) == ["otter-cache"]


def test_a_version_of_a_package_that_breaks_the_rules_is_not_deleted(site):
    spoil(site, BROKEN["an image that is a list"])
    with pytest.raises(PackageValidationError, match=WAY_OUT):
        site.delete("heron", "2.0.0")


def test_a_deletion_says_how_long_it_took(site):
    (gone,) = site.delete("heron")

    assert gone.seconds["delete"] > 0


def test_a_plan_and_a_release_name_the_bundles_whose_content_they_replace(site):
    rebuilt = changed(OTTER, "  version: 1.0.0", "  description: Rebuilt.\n  version: 1.0.0")
    assert rebuilt != OTTER
    job = site.job(rebuilt, overwrite="heads")

    assert update_in(site.destination.plan(job)).replaced == ("otter-cache.v1.0.0",)
    assert update_in(site.destination.release(job)).replaced == ("otter-cache.v1.0.0",)
    assert update_in(site.destination.release(job)).replaced == ()
