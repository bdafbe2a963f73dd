# SPDX-License-Identifier: GPL-3.0-or-later
"""The builds of the demo and of the sandbox: good ones and bad ones, each with its expected outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omps_worker.common.model import BuildState, OperatorKind
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.bundle_image import push_bundle
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import CATALOG, SandboxSite

IGNORED = "ignored"
"""The status of a build of which the worker publishes no result."""

IN_CATALOG = f"catalog:{CATALOG}"
"""The label of the catalog as a target."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of a build at one target. ``detail``: the release, the reason or the error."""

    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One build: what it is, the message about it, and its expected outcome."""

    title: str
    nvr: str
    message: BusMessage
    endings: Mapping[str, Ending]
    """The outcome at each target, by the target's label. An ignored build has one, without a label."""

    @property
    def ignored(self) -> bool:
        """Whether the worker publishes no result of this build."""
        return any(ending.status == IGNORED for ending in self.endings.values())


def tell(site: SandboxSite) -> list[Scene]:
    """Add the builds to the site's Koji, with the images that they pushed, and return their scenes."""
    koji = site.koji

    def scene(title: str, endings: Mapping[str, Ending], **build: Any) -> Scene:
        made = koji.add_build(**build)
        return Scene(title, made["nvr"], koji.message(made), endings)

    otter = {"name": "otter-cache-operator-container", "owner": "jdoe"}
    first = operators.zip_of(operators.nested_operator(versions=("0.9.0", "1.0.0")))
    second = operators.zip_of(operators.nested_operator(versions=("0.9.0", "1.0.0", "1.1.0")))
    flat = operators.zip_of(operators.flat_operator())
    return [
        scene(
            "an operator with two versions, each in its own directory",
            _both("published", "otter-cache 1.0.0", "otter-cache 1.0.0"),
            version="1.0.0", release="1", manifests=first, **otter,
        ),
        scene(
            "an operator with all its files in one directory",
            {"partners": Ending("published", "partners/lantern 1.4.2")},
            name="partner-lantern-container", version="1.4.2", release="3", manifests=flat,
            owner="asmith",
        ),
        scene(
            "a rebuild of the first operator, with the same manifests",
            _both("unchanged", "otter-cache 1.0.0", "otter-cache 1.0.0"),
            version="1.0.0", release="2", manifests=first, **otter,
        ),
        scene(
            "the first operator with a new version",
            _both("published", "otter-cache 2.0.0", "otter-cache 1.1.0"),
            version="1.1.0", release="1", manifests=second, **otter,
        ),
        scene(
            "a bundle image, which only catalogs take",
            {IN_CATALOG: Ending("published", f"{IN_CATALOG}/heron 2.0.1")},
            name="heron-operator-bundle-container", version="2.0.1", release="1",
            manifests=operators.zip_of(operators.bundle_tree()), kind=OperatorKind.BUNDLE, owner="jdoe",
            pullspec=push_bundle(site.images, "heron", "2.0.1"),
        ),
        scene(
            "an image that is not an operator",
            _everywhere("skipped", "not an operator image"),
            name="kestrel-operator-container", version="5.1", release="9", owner="asmith",
        ),
        scene(
            "an operator with a damaged archive",
            _everywhere("failed", "OMPSUploadedFileError"),
            name="magpie-operator-container", version="0.3.0", release="1", manifests=first[: len(first) // 2],
            owner="jdoe",
        ),
        scene(
            "a build that failed in Koji",
            {"": Ending(IGNORED, "the build is not complete")},
            name="wren-operator-container", version="1.0.0", release="1", state=BuildState.FAILED,
            owner="jdoe",
        ),
        scene(
            "an operator that the mapping excludes",
            {"": Ending(IGNORED, "a rule of the mapping excludes it")},
            name="playground-finch-container", version="0.1", release="1", manifests=flat,
            owner="jdoe",
        ),
    ]  # fmt: skip


def _both(status: str, release: str, bundle: str) -> dict[str, Ending]:
    return {
        "community": Ending(status, f"community/{release}"),
        IN_CATALOG: Ending(status, f"{IN_CATALOG}/{bundle}"),
    }


def _everywhere(status: str, detail: str) -> dict[str, Ending]:
    return {"community": Ending(status, detail), IN_CATALOG: Ending(status, detail)}
