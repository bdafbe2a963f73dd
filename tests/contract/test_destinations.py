# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of a build needs no more of a destination than the protocol says."""

from __future__ import annotations

from collections import defaultdict

import pytest

from omps_worker.common.errors import QuayPackageError
from omps_worker.common.model import BuildEvent, Outcome, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import Destination, Released
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.manifests.transformations import Transformations
from omps_worker.publishing.processor import Processor
from omps_worker.sandbox import operators
from tests.support.parts import LIMITS, parts

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))


class Shelf:
    """A destination of another kind: it keeps what it is given, each content once."""

    def __init__(self):
        self.kept = defaultdict(list)
        self.away = False

    def prepare(self, target, contents, build, request):
        return contents.prepared(self.changes(target, request))

    def changes(self, target, request):
        return Transformations()

    def plan(self, job):
        if self.away:
            raise QuayPackageError("The shelf cannot be reached.", transient=True)
        kept = self.kept[job.target.organization, job.bundle.package_name]
        if job.bundle.digest in kept:
            return Released(f"{kept.index(job.bundle.digest) + 1}.0.0", created=False)
        return Released(f"{len(kept) + 1}.0.0", created=True)

    def release(self, job):
        released = self.plan(job)
        if released.created:
            self.kept[job.target.organization, job.bundle.package_name].append(job.bundle.digest)
        return released

    def publish(self, job, released):
        return True

    def is_public(self, job):
        return True

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


@pytest.mark.parametrize("kind", [AppRegistryDestination, Shelf])
def test_every_kind_has_all_that_the_protocol_asks_for(kind):
    wanted = {name for name in vars(Destination) if not name.startswith("_")}
    assert wanted <= set(dir(kind))
