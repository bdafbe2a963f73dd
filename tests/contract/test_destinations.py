# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of a build needs no more of a destination than the protocol says."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from omps_worker.common.errors import QuayPackageError
from omps_worker.common.model import BuildEvent, OperatorKind, Outcome, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping.file import parse
from omps_worker.destinations import BUNDLE_BUILD, Destination, Released
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.manifests.transformations import Transformations
from omps_worker.publishing.processor import Processor
from omps_worker.sandbox import operators
from tests.support.parts import LIMITS, parts

ORGANIZATIONS = ("archives", "images", "more-archives")
OTTER = operators.zip_of(operators.nested_operator("otter-cache"))


@dataclass(frozen=True)
class Image:
    """What a bundle build is released as: nothing of it comes from an archive."""

    package_name: str
    digest: str
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Shelf:
    """A destination of another kind: it keeps each content once, and takes bundle builds for all but ``archives``."""

    def __init__(self):
        self.kept = defaultdict(list)
        self.away = False

    def skip_reason(self, target, build):
        only_archives = target.organization == "archives" and build.kind is OperatorKind.BUNDLE
        return BUNDLE_BUILD if only_archives else None

    def needs_archive(self, target, build):
        return build.kind is not OperatorKind.BUNDLE

    def prepare(self, target, contents, build, request):
        if contents is None:
            return Image(target.repository or build.name, hashlib.sha256(build.nvr.encode()).hexdigest())
        return contents.prepared(self.changes(target, request))

    def changes(self, target, request):
        return Transformations()

    def plan(self, job):
        if self.away:
            raise QuayPackageError("The shelf cannot be reached.", transient=True)
        kept = self.kept[job.target.organization, job.content.package_name]
        if job.content.digest in kept:
            return Released(f"{kept.index(job.content.digest) + 1}.0.0", created=False)
        return Released(f"{len(kept) + 1}.0.0", created=True)

    def release(self, job):
        released = replace(self.plan(job), facts={"held_by": "the shelf"})
        if released.created:
            self.kept[job.target.organization, job.content.package_name].append(job.content.digest)
        return released

    def make_public(self, job, released):
        return True

    def is_public(self, job):
        return True

    def checks(self):
        yield "shelf", lambda: "there"

    def would_delete(self, name, repository, version=None, authorization=None):
        return [f"{number + 1}.0.0" for number, _ in enumerate(self.kept[name, repository])]

    def delete(self, name, repository, version=None, authorization=None):
        kept = self.kept.pop((name, repository))
        return [Outcome(Status.DELETED, name, repository, f"{number + 1}.0.0") for number, _ in enumerate(kept)]


@pytest.fixture(scope="module")
def site():
    with parts() as made:
        made.koji.add_build("otter-cache-container", "1.0", "1", manifests=OTTER)
        yield made


def test_a_build_goes_to_a_destination_of_another_kind(site):
    shelf = Shelf()
    processor = Processor(site.mapping, site.builds, shelf, LIMITS)

    def told(**wishes):
        (outcome,) = processor.process(BuildEvent(nvr="otter-cache-container-1.0-1"), request=PushRequest(**wishes))
        return outcome.status, outcome.version, outcome.error and outcome.error.message

    assert told(dry_run=True) == (Status.PUBLISHED, "1.0.0", None)
    assert told() == (Status.PUBLISHED, "1.0.0", None)
    assert told() == (Status.UNCHANGED, "1.0.0", None)
    shelf.away = True
    assert told() == (Status.FAILED, None, "The shelf cannot be reached.")
    assert site.registry.packages() == ()


def test_the_destination_decides_which_kinds_of_builds_it_takes_and_what_it_makes_them_of(site):
    nvr = "otter-cache-bundle-container-1.0-1"
    site.koji.add_build("otter-cache-bundle-container", "1.0", "1", kind=OperatorKind.BUNDLE)
    mapping = """
        version: 1
        rules:
          - match: {component: "otter-*"}
            publish: [{organization: archives}, {organization: images}, {organization: more-archives}]
        """
    processor = Processor(
        SimpleNamespace(current=parse(mapping, "mapping.yaml", ORGANIZATIONS)), site.builds, Shelf(), LIMITS
    )

    archives, images, more = processor.process(BuildEvent(nvr=nvr))

    assert (archives.status, archives.reason) == (Status.SKIPPED, BUNDLE_BUILD)
    assert (images.status, images.organization, images.repo) == (
        Status.PUBLISHED,
        "images",
        "otter-cache-bundle-container",
    )
    assert images.digest == hashlib.sha256(nvr.encode()).hexdigest()
    assert images.held_by == "the shelf", "a destination may add fields to the outcome"
    assert more.status is Status.PUBLISHED


@pytest.mark.parametrize("kind", [AppRegistryDestination, Shelf])
def test_every_kind_has_all_that_the_protocol_asks_for(kind):
    wanted = {name for name in vars(Destination) if not name.startswith("_")}
    assert wanted <= set(dir(kind))
