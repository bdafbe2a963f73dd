# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog in an image registry, and the destination that releases to it; no broker, no Koji, no configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import SettingsError, WorkerError
from omps_worker.common.locks.package_lock import PackageLock, ProcessLock
from omps_worker.common.model import Build, BuildState, CatalogUpdate, OperatorKind, Outcome, Target
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import Released, ReleaseJob
from omps_worker.destinations.catalog.bundles.tree import annotations_text, bundle_labels
from omps_worker.destinations.catalog.catalog_contents import CatalogContents, read_catalog
from omps_worker.destinations.catalog.destination import CatalogDestination
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, ImageTemplate, Repository
from omps_worker.destinations.catalog.images.catalog_image import LAYER_BYTES, CatalogLayers, package_files
from omps_worker.destinations.catalog.images.image import JSON_BYTES, Format, bundle_image
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Transformations
from omps_worker.sandbox import operators
from tests.support.images import Place, docker_place, sandbox_place
from tests.support.parts import LIMITS

OTTER = operators.nested_operator("otter-cache", versions=("0.9.0", "1.0.0"))
OTTER_AND_NEXT = operators.nested_operator("otter-cache", versions=("0.9.0", "1.0.0", "1.1.0"))
HERON = operators.nested_operator("heron", versions=("2.0.0",))


@dataclass
class FixedCatalog:
    """A catalog as the configuration would describe it."""

    name: str
    image: ImageTemplate
    bundle_images: ImageTemplate
    format: str = "docker"
    public: bool = False
    timeout: float = 20.0
    transformations: Transformations = field(default_factory=Transformations)
    token: str | None = None

    def oauth(self) -> SecretStr | None:
        return SecretStr(self.token) if self.token else None


def catalog_at(url: str, image: str = "community/catalog:latest", **options: Any) -> FixedCatalog:
    """The catalog ``community``, whose bundles are beside it."""
    team = image.rpartition("/")[0]
    return FixedCatalog(
        "community",
        ImageTemplate.parse(f"{url}/{image}", tagged=True),
        ImageTemplate.parse(f"{url}/{team}/{{package}}-bundle", tagged=False),
        **options,
    )


def destination_of(
    catalog: FixedCatalog,
    client: ImageRegistryClient,
    lock: PackageLock,
    quay: Any = None,
    observer: Observer = NO_OBSERVER,
) -> CatalogDestination:
    """The destination of one catalog."""
    return CatalogDestination(
        {catalog.name: catalog},
        lambda _: client,
        lambda _: quay,
        lock,
        LIMITS,
        lambda name: SettingsError([], transient=True),
        observer=observer,
    )


def contents_of(files: operators.Files, directory: Path) -> ArchiveContents:
    """Files as a build's archive has them; ``directory`` is used for it and need not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / "archive.zip"
    archive.write_bytes(operators.zip_of(files))
    return ArchiveContents(archive, directory, LIMITS)


class CatalogPlace:
    """A catalog called ``community`` in a registry, and a destination for it.

    ``quay`` is the API that changes visibility.
    """

    def __init__(
        self, place: Place, directory: Path, *, image: str = "catalog:latest", quay: Any = None, **options: Any
    ) -> None:
        self.place, self.directory, self.quay = place, directory, quay
        self.client = place.client()
        team = place.repository("catalog").path.rpartition("/")[0]
        self.catalog = catalog_at(place.url, f"{team}/{image}", **options)
        self.locks: PackageLock = ProcessLock(30.0)
        self.number = 0
        self.destination = self.another()

    def another(self, observer: Observer = NO_OBSERVER) -> CatalogDestination:
        """A destination as another process has it: nothing is shared but the registry."""
        return destination_of(self.catalog, self.place.client(), ProcessLock(30.0), self.quay, observer)

    @property
    def image(self) -> ImageName:
        return self.catalog.image.image("")

    @property
    def registry(self) -> Any:
        return self.place.registry

    def bundle_repository(self, package: str = "otter-cache") -> Repository:
        return self.catalog.bundle_images.repository(package)

    def job(
        self,
        files: operators.Files,
        order: Any = None,
        request: PushRequest | None = None,
        build: Build | None = None,
        *,
        comes_again: bool = False,
        **target: Any,
    ) -> ReleaseJob:
        """The work of releasing package manifests; keywords are those of a Target."""
        wanted, request = Target(None, catalog="community", **target), request or PushRequest()
        self.number += 1
        contents = contents_of(files, self.directory / str(self.number))
        content = self.destination.prepare(wanted, contents, build, request)
        return ReleaseJob(wanted, content, build, request, order, comes_again)

    def release(self, files: operators.Files, order: Any = None, **options: Any) -> Released | None:
        return self.destination.release(self.job(files, order, **options))

    def update(self, files: operators.Files, **options: Any) -> CatalogUpdate:
        """Release package manifests, and return what became of the package."""
        released = self.release(files, **options)
        assert released is not None
        return update_in(released)

    def bundle_job(self, build: Build, order: Any = None, **target: Any) -> ReleaseJob:
        """The work of releasing a bundle build."""
        wanted = Target(None, catalog="community", **target)
        content = self.destination.prepare(wanted, None, build, PushRequest())
        return ReleaseJob(wanted, content, build, PushRequest(), order)

    def add(self, build: Build, order: Any = None, **target: Any) -> Released | None:
        return self.destination.release(self.bundle_job(build, order, **target))

    def delete(self, package: str, version: str | None = None) -> list[Outcome]:
        return self.destination.delete("community", package, version)

    def show(self, package: str | None = None) -> CatalogContents:
        """What the catalog holds: all packages, or one."""
        return read_catalog(self.client, self.catalog.image.image(package or ""), package)

    def packages(self) -> dict[str, dict[str, str]]:
        """The heads of the channels of each package in the catalog, as its image says."""
        return {each.name: each.heads() for each in read_catalog(self.client, self.image).packages}

    def files(self) -> dict[str, bytes]:
        """The file of each package in the catalog, byte for byte."""
        manifest = self.client.manifest(self.image)
        catalog = CatalogLayers.parse(
            manifest.body, self.client.blob(self.image.repository, manifest.config, max_bytes=JSON_BYTES)
        )
        found: dict[str, bytes] = {}
        for layer in manifest.layers:
            described = next(each for each in catalog.layers.values() if each.digest == layer.digest)
            blob = self.client.blob(self.image.repository, layer, max_bytes=LAYER_BYTES)
            found |= package_files(described, blob)
        return found

    def tag(self) -> str | None:
        """The digest at the catalog's tag."""
        return self.client.digest(self.image)

    def bundle_tags(self, package: str = "otter-cache") -> tuple[str, ...]:
        return self.client.tags(self.bundle_repository(package)) or ()

    def osbs(self, version: str, *, channels: tuple[str, ...] = ("stable",), text: str = "", **csv: str) -> Build:
        """Push a bundle image as the build system does, and return its build. ``csv``: replacements in the CSV."""
        files = operators.bundle_tree("otter-cache", version=version)
        (name,) = (path for path in files if "clusterserviceversion" in path)
        for key, value in csv.items():
            assert "  version:" in files[name]
            files[name] = files[name].replace("  version:", f"  {key}: {json.dumps(value)}\n  version:", 1)
        content = {f"manifests/{path}": (data + text).encode() for path, data in files.items()}
        labels = bundle_labels("otter-cache", channels, channels[0])
        image, layer = bundle_image(
            {**content, "metadata/annotations.yaml": annotations_text(labels)}, labels, Format.DOCKER
        )
        repository = Repository(self.image.repository.scheme, self.image.repository.host, "osbs/otter-cache")
        for blob in (layer.blob, image.config):
            self.client.push_blob(repository, blob)
        pushed = ImageName(repository, image.digest)
        self.client.put_manifest(pushed, image.manifest, image.format.manifest_type)
        return bundle_build(str(pushed), version)


def bundle_build(image: str, version: str = "1.0.0") -> Build:
    """A bundle build whose image Koji names so."""
    component = "otter-cache-bundle-container"
    nvr = f"{component}-{version}-1"
    return Build(1, nvr, component, version, "1", BuildState.COMPLETE, kind=OperatorKind.BUNDLE, bundle_image=image)


def update_in(released: Released) -> CatalogUpdate:
    """What became of the package, of a Released."""
    update = released.facts["catalog"]
    assert isinstance(update, CatalogUpdate)
    return update


def error_of(destination: CatalogDestination, job: ReleaseJob) -> WorkerError | None:
    """The error of a release, or None."""
    try:
        destination.release(job)
    except WorkerError as error:
        return error
    return None


def changed(files: Mapping[str, str], old: str, new: str, below: str = "") -> operators.Files:
    """Files with another text, only in those whose path begins with ``below``."""
    return {path: text.replace(old, new) if path.startswith(below) else text for path, text in files.items()}


@contextmanager
def catalog_place(kind: str, directory: Path, **options: Any) -> Iterator[CatalogPlace]:
    """A CatalogPlace in the sandbox's registry (``sandbox``) or in the real one (``docker-registry``)."""
    with docker_place(directory) if kind == "docker-registry" else sandbox_place(directory) as place:
        yield CatalogPlace(place, directory, **options)


@pytest.fixture
def catalog_in_sandbox(tmp_path: Path) -> Iterator[CatalogPlace]:
    """A CatalogPlace in the sandbox's registry. Modules give it the name that it has in their tests."""
    with catalog_place("sandbox", tmp_path) as made:
        yield made
