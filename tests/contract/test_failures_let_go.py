# SPDX-License-Identifier: GPL-3.0-or-later
"""A build that fails takes no memory when its outcome is there, whether garbage is collected or not."""

from __future__ import annotations

import tracemalloc

import pytest

from omps_worker.common.errors import UnexpectedError
from omps_worker.common.model import BuildEvent, OperatorKind, Status
from omps_worker.manifests.transformations import Replacement, Transformations
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.circles import circles, no_collection
from tests.support.parts import parts

TREE = operators.nested_operator("otter-cache")
GOOD = operators.zip_of(TREE)
COMMENT = "# padding: neither operator-courier nor the registry looks at it\n" * 8192
LARGE = 4 * 2**20
"""Bytes that one failing build may leave behind, while the manifests alone have twice that."""

BROKEN = {
    "no zip": b"PK\3\4 is not enough",
    "a damaged zip": GOOD[: len(GOOD) // 2],
    "unreadable YAML": operators.zip_of({**TREE, "broken.yaml": "a: [" + COMMENT}),
    "no package": operators.zip_of({"1.0.0/some.yaml": "kind: Nothing\n" + COMMENT}),
    "what operator-courier refuses": operators.zip_of(
        {name: text.replace("spec:", "specification:") for name, text in TREE.items()}
    ),
}

FAULTS = {
    "the registry takes nothing": Fault("POST /cnr/api/v1/packages/", status=500, times=None),
    "the registry has it already": Fault("POST /cnr/api/v1/packages/", status=409, body={}, times=None),
    "the registry refuses": Fault("POST /cnr/api/v1/packages/", status=403, body={}, times=None),
    "the registry hangs up": Fault("POST /cnr/api/v1/packages/", drop=True, times=None),
    "the registry does not answer": Fault("POST /cnr/api/v1/packages/", drop_answer=True, delay=0, times=None),
    "a look hangs up": Fault("GET /cnr/api/v1/packages/", drop=True, times=None),
    "a look never ends": Fault("GET /cnr/api/v1/packages/", body=b"x" * 2**25, times=None),
}


@pytest.fixture
def site():
    with parts(timeout=3.0) as made:
        yield made


def failed(site, archive=GOOD, **more):
    """The one outcome of a build that fails, and the circles that it left."""
    build = site.koji.add_build("otter-cache-container", "1.0", "1", manifests=archive, **more)
    # What is loaded at the first time is not what this is about.
    site.process(site.koji.add_build("otter-cache-container", "0.9", "1", manifests=BROKEN["no package"]))
    with no_collection():
        outcomes = site.process(build)
        left = circles()
    return outcomes[0], left


@pytest.mark.parametrize("what", BROKEN)
def test_a_build_that_is_at_fault_leaves_no_circles(site, what):
    outcome, left = failed(site, BROKEN[what])
    assert outcome.status is Status.FAILED
    assert outcome.error.__traceback__ is None
    assert left == []


@pytest.mark.parametrize("what", FAULTS)
def test_a_registry_that_is_at_fault_leaves_no_circles(site, what):
    site.registry.faults.add(FAULTS[what])
    outcome, left = failed(site)
    assert outcome.error is not None or what == "the registry does not answer"
    assert left == []


def test_a_download_that_breaks_off_leaves_no_circles(site):
    site.koji.faults.add(Fault("GET .*zip", truncate=True, times=None))
    outcome, left = failed(site)
    assert outcome.error is not None
    assert left == []


def test_a_hub_that_is_away_leaves_no_circles(site):
    site.koji.faults.add(Fault("POST ", drop=True, times=None))
    with no_collection():
        (outcome,) = site.processor.process(BuildEvent(build_id=1))
        left = circles()
    assert outcome.error.transient
    assert left == []


def test_a_build_that_koji_does_not_know_leaves_no_circles(site):
    with no_collection():
        (outcome,) = site.processor.process(BuildEvent(nvr="no-such-build"))
        left = circles()
    assert outcome.error is not None
    assert left == []


def test_a_transformation_that_cannot_be_made_leaves_no_circles(site):
    endless = Transformations(replacements=(Replacement("a", "a" * 1000),))
    site.organizations["community"].transformations = endless
    outcome, left = failed(site, operators.zip_of({**TREE, "more.yaml": COMMENT}))
    assert "longer" in outcome.error.message
    assert left == []


def test_two_targets_of_one_failure_leave_no_circles():
    mapping = """
version: 1
rules:
  - match: {}
    publish: [{organization: community}, {organization: partners}]
"""
    with parts(mapping) as site:
        outcome, left = failed(site, BROKEN["unreadable YAML"])
    assert outcome.error is not None
    assert left == []


def test_a_build_that_does_not_say_what_it_is_leaves_no_circles(site):
    outcome, left = failed(site, BROKEN["no package"], kind=OperatorKind.UNKNOWN)
    assert outcome.error is not None
    assert left == []


class OutOfOrder:
    def find(self, **_):
        text = COMMENT * 8
        try:
            raise LookupError(len(text))
        except LookupError as error:
            kept = error
            raise RuntimeError from kept


def test_what_nobody_thought_of_leaves_no_circles(site):
    site.processor._builds = OutOfOrder()
    with no_collection():
        (outcome,) = site.processor.process(BuildEvent(build_id=1))
        left = circles()
    assert isinstance(outcome.error, UnexpectedError)
    assert left == []


def test_failing_builds_do_not_add_up(site):
    """Each holds 8 MiB of manifests; with what they leave behind, ten would take more than eighty."""
    text = COMMENT * 16
    build = site.koji.add_build(
        "otter-cache-container", "1.0", "1", manifests=operators.zip_of({**TREE, "broken.yaml": "a: [" + text})
    )
    site.process(build)
    with no_collection():
        tracemalloc.start()
        try:
            kept = [site.process(build) for _ in range(10)]
            left, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(text) > 2 * LARGE - 2**20
    assert all(outcomes[0].status is Status.FAILED for outcomes in kept)
    assert left < LARGE
