# SPDX-License-Identifier: GPL-3.0-or-later
"""The builds that a storm brings, and where the mapping publishes them.

==================== ====================== ============================================== ========================
component            carries                goes to                                        package in the catalog
==================== ====================== ============================================== ========================
storm-N-container    package manifests      the organization                               none
cloud-N-container    package manifests      the organization and the catalog               see below
drizzle-N-bundle-…   a bundle               the organization, which skips it, and catalog  several builds share one
==================== ====================== ============================================== ========================

Each build of ``cloud-N`` has a package of its own: in a catalog, the package is the tree of one build. If rules skip
what is superseded, some of these builds share a package, which is that of the newest at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omps_worker.common.model import OperatorKind
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.bundle_image import push_bundle
from omps_worker.sandbox.site import CATALOG, SandboxSite
from tests.chaos.plan import Plan

ORGANIZATION = "community"
IN_CATALOG = f"catalog:{CATALOG}"
"""The labels of the targets."""

SHARING = 4
"""How many builds of ``cloud-N`` share a package if rules skip what is superseded."""

_MAPPING = """\
version: 1
rules:
  - match: {component: "storm-*-container"}
    superseded: SUPERSEDED
    publish: [{organization: community}]
  - match: {component: "cloud-*-container"}
    superseded: SUPERSEDED
    publish: [{organization: community}, {catalog: community}]
  - match: {component: "drizzle-*-bundle-container"}
    superseded: publish
    publish: [{organization: community}, {catalog: community, graph: semver}]
"""


@dataclass(frozen=True)
class StormBuild:
    """One build: its description in Koji, its package and version, and the labels of its targets."""

    koji: dict[str, Any]
    package: str
    version: str
    targets: tuple[str, ...]

    @property
    def nvr(self) -> str:
        return str(self.koji["nvr"])

    @property
    def is_bundle(self) -> bool:
        return self.package.startswith("drizzle-")

    @property
    def bundle(self) -> str:
        """The name of its bundle."""
        return f"{self.package}.v{self.version}"


def mapping_of(plan: Plan) -> str:
    """The mapping of a storm."""
    return _MAPPING.replace("SUPERSEDED", plan.superseded)


def builds_of(plan: Plan, site: SandboxSite) -> Iterator[StormBuild]:
    """Add the builds of a storm to Koji, those of the three kinds mixed, and push the images of bundle builds."""
    numbers = [(number / plan.builds, "storm", number) for number in range(plan.builds)]
    numbers += [(number / plan.operators, "cloud", number) for number in range(plan.operators)]
    numbers += [(number / plan.bundles, "drizzle", number) for number in range(plan.bundles)]
    clouds = plan.operators if plan.superseded != "skip" else max(plan.operators // SHARING, 1)
    for _, kind, number in sorted(numbers):
        package = f"{kind}-{number % (clouds if kind == 'cloud' else plan.packages)}"
        version = f"1.0.{number}"
        if kind == "drizzle":
            image = push_bundle(site.images, package, version)
            bundle = {"kind": OperatorKind.BUNDLE, "pullspec": image}
            made = site.koji.add_build(f"{package}-bundle-container", "1.0", str(number), **bundle)
        else:
            manifests = operators.zip_of(operators.flat_operator(package, version=version))
            made = site.koji.add_build(f"{package}-container", "1.0", str(number), manifests=manifests)
        yield StormBuild(made, package, version, (ORGANIZATION,) if kind == "storm" else (ORGANIZATION, IN_CATALOG))
