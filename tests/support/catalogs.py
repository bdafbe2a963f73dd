# SPDX-License-Identifier: GPL-3.0-or-later
"""A test site with the sandbox's catalog, and bundle images as OSBS pushes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omps_worker.sandbox.build_system.bundle_image import push_bundle
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from omps_worker.sandbox.site import CATALOG, CATALOG_PATH, CATALOG_TAG
from tests.support.site import TestSite

PATH, TAG = CATALOG_PATH, CATALOG_TAG

MAPPING = """\
version: 1
rules:
  - match: {component: "*-operator-container"}
    publish: [{organization: community}, {catalog: community}]
  - match: {component: "*-operator-bundle-container"}
    publish: [{organization: community}, {catalog: community}]
"""

RETRIES = """
[consumer_config.retry]
delays = ["1s"]
"""


@dataclass
class CatalogSite:
    """A site whose mapping publishes builds of both kinds to an organization and to the catalog ``community``."""

    site: TestSite

    @property
    def images(self) -> SandboxImageRegistry:
        return self.site.images

    @property
    def tag(self) -> str | None:
        """The digest at the catalog's tag; None if there is none."""
        return self.images.tags(PATH).get(TAG)

    def forbid_pushes(self) -> None:
        """Take from the site's account the right to push."""
        password = (self.site.directory / "secrets" / f"{CATALOG}-images").read_text().strip()
        self.images.accounts.add(f"{CATALOG}+push", password, push=())

    def push_bundle(self, package: str, version: str, *, manifest_list: bool = True) -> str:
        """Push a bundle image as OSBS does, and return its pull specification."""
        return push_bundle(self.images, package, version, manifest_list=manifest_list)


@contextmanager
def with_catalog(site: TestSite) -> Iterator[CatalogSite]:
    """Give ``site`` the sandbox's catalog, quick retries, and a mapping that publishes everything to both."""
    with site.images:
        site.add_catalog()
        with site.config.open("a") as file:
            file.write(RETRIES)
        (site.directory / "mapping.yaml").write_text(MAPPING)
        yield CatalogSite(site)
