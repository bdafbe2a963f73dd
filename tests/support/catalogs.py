# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with a catalog: an image registry beside its other services, and bundle images as OSBS pushes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omps_worker.destinations.catalog.bundles.tree import annotations_text, bundle_labels
from omps_worker.destinations.catalog.images.image import Format, bundle_image
from omps_worker.sandbox import operators
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from tests.support.site import TestSite

PATH, TAG = "community/catalog", "latest"

MAPPING = """\
version: 1
rules:
  - match: {component: "*-operator-container"}
    publish: [{organization: community}, {catalog: community}]
  - match: {component: "*-operator-bundle-container"}
    publish: [{organization: community}, {catalog: community}]
"""

CONFIGURATION = """
[consumer_config.catalogs.community]
image = "%s/community/catalog:latest"
username = "robot"
password_file = "secrets/catalog"

[consumer_config.retry]
delays = ["1s"]
"""


@dataclass
class CatalogSite:
    """A site whose mapping publishes to the catalog ``community`` of ``images``."""

    site: TestSite
    images: SandboxImageRegistry

    @property
    def tag(self) -> str | None:
        """The digest at the catalog's tag; None if there is none."""
        return self.images.tags(PATH).get(TAG)

    def push_bundle(self, package: str, version: str, channel: str = "stable") -> str:
        """Push a bundle image as OSBS does, and return its pull specification."""
        files = operators.bundle_tree(package, version=version)
        labels = bundle_labels(package, [channel], channel)
        content = {f"manifests/{name}": text.encode() for name, text in files.items()}
        image, layer = bundle_image(
            {**content, "metadata/annotations.yaml": annotations_text(labels)}, labels, Format.DOCKER
        )
        path = f"osbs/{package}-bundle"
        digest = self.images.put(path, version, image.manifest, image.format.manifest_type, image.config, layer.blob)
        return f"{self.images.host}/{path}@{digest}"


@contextmanager
def with_catalog(site: TestSite) -> Iterator[CatalogSite]:
    """Give ``site`` an image registry, a catalog in its configuration, and a mapping that publishes to it."""
    with SandboxImageRegistry(login="basic") as images:
        images.accounts.add("robot", "secret", push=("community/*",), pull=("*",))
        secret = site.directory / "secrets" / "catalog"
        secret.touch(mode=0o600)
        secret.write_text("secret\n")
        with site.config.open("a") as file:
            file.write(CONFIGURATION % images.url)
        (site.directory / "mapping.yaml").write_text(MAPPING)
        yield CatalogSite(site, images)
