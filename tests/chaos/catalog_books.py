# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a catalog is right after a storm: every package there, each build in it once, and told once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omps_worker.common.errors import WorkerError
from omps_worker.destinations.catalog.catalog_contents import read_catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageTemplate
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import PackageFile
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from omps_worker.sandbox.site import CATALOG_PATH, CATALOG_TAG
from tests.chaos.builds import IN_CATALOG, StormBuild
from tests.chaos.plan import Report


def look_at_catalog(
    images: SandboxImageRegistry, builds: Sequence[StormBuild], told: Sequence[Mapping[str, Any]], report: Report
) -> None:
    """Add to the report what the catalog holds, and what is wrong with it."""
    tagged = ImageTemplate.parse(f"{images.url}/{CATALOG_PATH}:{CATALOG_TAG}", tagged=True)
    try:
        contents = read_catalog(ImageRegistryClient(lambda _: None, timeout=20), tagged.image(""))
    except WorkerError as error:
        report.faults.append(f"the catalog cannot be read: {error}")
        return
    of_packages: dict[str, list[StormBuild]] = defaultdict(list)
    for build in builds:
        if IN_CATALOG in build.targets:
            of_packages[build.package].append(build)
    found = {package.name: package for package in contents.packages}
    report.catalog_packages = len(found)
    report.catalog_bundles = sum(len(package.bundles) for package in found.values())
    if set(found) != set(of_packages):
        report.faults.append(f"packages of the catalog differ: {sorted(set(found) ^ set(of_packages))}")
    for name in sorted(set(found) & set(of_packages)):
        report.faults += _faults_of(found[name], of_packages[name], images)
    report.faults += _untold([build for each in of_packages.values() for build in each], told)


def _faults_of(package: PackageFile, builds: Sequence[StormBuild], images: SandboxImageRegistry) -> Iterator[str]:
    """What is wrong with a package: by the worker's own rules, its bundles, its heads and their images."""
    try:
        rules.check(package, f"the package {package.name}")
    except WorkerError as error:
        yield str(error)
    names = sorted(str(bundle["name"]) for bundle in package.bundles)
    # Of package manifests, the package is the tree of one build; bundle builds come together in it.
    newest = max(builds, key=lambda build: int(build.version.rpartition(".")[2]))
    expected = [build.bundle for build in builds] if newest.is_bundle else [newest.bundle]
    if names != sorted(expected):
        yield f"the package {package.name} has the bundles {names}, not {sorted(expected)}"
    if set(package.heads().values()) != {newest.bundle}:
        yield f"the heads of {package.name} are {package.heads()}, not {newest.bundle}"
    for bundle in package.bundles:
        path, _, digest = str(bundle["image"]).partition("/")[2].partition("@")
        if images.manifest(path, digest) is None:
            yield f"the image of {bundle['name']} is not in the registry"


def _untold(builds: Sequence[StormBuild], told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the results about builds that are in the catalog."""
    published = Counter(each["nvr"] for each in told if each["catalog"] and each["status"] == "published")
    skipped = {each["nvr"] for each in told if each["catalog"] and each["status"] == "skipped"}
    for build in builds:
        if not published[build.nvr] and build.nvr not in skipped:
            yield f"nobody was told that {build.nvr} is in the catalog"
        if published[build.nvr] > 1:
            yield f"{build.nvr} was told as published to the catalog {published[build.nvr]} times"
