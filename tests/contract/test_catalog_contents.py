# SPDX-License-Identifier: GPL-3.0-or-later
"""What a catalog holds, read from an image registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omps_worker.common.errors import CatalogError, CatalogNotOurs
from omps_worker.destinations.catalog.catalog_contents import read_catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.destinations.catalog.images.catalog_image import CatalogLayers
from omps_worker.destinations.catalog.images.image import Format
from omps_worker.destinations.catalog.packages.package_file import PackageFile
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from tests.support.images import SmallImage, list_of
from tests.support.olm import bundle_blob, channel, package_blob

PATH = "community/catalog"


def package_file(name: str) -> bytes:
    blobs = [
        package_blob(name=name),
        channel("stable", f"{name}.v1.0.0", package=name),
        bundle_blob(f"{name}.v1.0.0", "1.0.0", name),
    ]
    return PackageFile.of(blobs).data()


class Place:
    """An image registry with a catalog of two packages."""

    def __init__(self, registry: SandboxImageRegistry) -> None:
        self.registry = registry
        self.client = ImageRegistryClient(lambda _: None, timeout=10)
        self.name = ImageName(Repository("http", registry.host, PATH), "latest")
        self.files = {name: package_file(name) for name in ("otter", "lantern")}

    def store(self) -> str:
        catalog, blobs = CatalogLayers(), []
        for name, data in self.files.items():
            catalog, layer = catalog.changed(name, data, {})
            assert layer is not None
            blobs.append(layer.blob)
        made = catalog.image(Format.DOCKER)
        return self.registry.put(PATH, "latest", made.manifest, Format.DOCKER.manifest_type, made.config, *blobs)


@pytest.fixture
def place() -> Iterator[Place]:
    with SandboxImageRegistry() as registry:
        yield Place(registry)


def test_all_packages_or_one_are_read(place: Place) -> None:
    digest = place.store()
    found = read_catalog(place.client, place.name)
    assert (found.image, found.digest) == (f"{place.registry.host}/{PATH}:latest", digest)
    assert [each.name for each in found.packages] == ["lantern", "otter"]
    before = len(place.registry.log)
    (only,) = read_catalog(place.client, place.name, "otter").packages
    assert only.name == "otter"
    assert len(place.registry.log) - before == 3, "the manifest, the configuration, and one layer"
    assert read_catalog(place.client, place.name, "kestrel").packages == ()


def test_a_program_reads_channels_heads_and_bundles(place: Place) -> None:
    place.store()
    (package,) = read_catalog(place.client, place.name, "otter").as_json()["packages"]
    assert (package["package"], package["channels"], package["default_channel"]) == (
        "otter",
        {"stable": "otter.v1.0.0"},
        "stable",
    )
    image = bundle_blob("otter.v1.0.0", "1.0.0")["image"]
    assert package["bundles"] == [{"name": "otter.v1.0.0", "version": "1.0.0", "image": image}]


def test_a_package_that_breaks_the_rules_is_shown_as_far_as_it_can_be(place: Place) -> None:
    bundle, stable = bundle_blob("otter.v1.0.0", "1.0.0"), channel("stable", "otter.v1.0.0")
    channels = [stable, {**stable, "name": 5}, {"schema": "olm.channel", "name": "odd"}]
    for number in range(1, 4):
        place.files["otter"] = PackageFile.of([package_blob(), bundle, *channels[:number]]).data()
        place.store()
        (package,) = read_catalog(place.client, place.name, "otter").as_json()["packages"]
        assert [each["name"] for each in package["bundles"]] == ["otter.v1.0.0"]
        assert package["channels"] == ({} if number == 3 else dict.fromkeys(["stable", "5"][:number], "otter.v1.0.0"))


def test_a_catalog_that_is_not_there_yet_is_empty(place: Place) -> None:
    found = read_catalog(place.client, place.name)
    assert (found.digest, found.packages) == (None, ())


def test_a_catalog_that_does_not_answer_is_not_empty(place: Place) -> None:
    place.store()
    place.registry.hide(PATH, "latest")
    with pytest.raises(CatalogError) as caught:
        read_catalog(place.client, place.name)
    assert caught.value.transient
    place.registry.faults.add(Fault("GET /v2/.*/blobs/", status=500))
    with pytest.raises(CatalogError):
        read_catalog(place.client, place.name)


def test_an_image_of_another_program_is_not_read(place: Place) -> None:
    small = SmallImage()
    place.registry.put(PATH, "latest", small.body, small.media_type, small.config, small.layer)
    with pytest.raises(CatalogNotOurs, match=f"The image {place.registry.host}/{PATH}:latest was not written by"):
        read_catalog(place.client, place.name)


def test_a_list_of_manifests_is_no_catalog_of_ours(place: Place) -> None:
    body, media_type = list_of(SmallImage())
    place.registry.put(PATH, "latest", body, media_type)
    with pytest.raises(CatalogNotOurs, match="it is a list of manifests"):
        read_catalog(place.client, place.name)
