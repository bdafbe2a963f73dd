# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds that have to pass Greenwave before they are published."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.model import Attempt, OperatorKind, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.publishing.gate import Greenwave
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.greenwave import SandboxGreenwave
from tests.support.parts import parts

FLAT = operators.zip_of(operators.flat_operator("lantern"))


@pytest.fixture
def server():
    with SandboxGreenwave() as made:
        yield made


@pytest.fixture
def site(server):
    with parts(gate=Greenwave(server.url, "omps", "cvp", timeout=2.0), patience=60.0) as made:
        yield made


@pytest.fixture
def build(site):
    return site.koji.add_build("lantern-container", "1.0", "1", manifests=FLAT)


def only(outcomes):
    (outcome,) = outcomes
    return outcome


def seen(seconds_ago):
    return Attempt(first_seen=datetime.now(timezone.utc) - timedelta(seconds=seconds_ago))


def test_a_build_that_passed_is_published(site, build, server):
    assert only(site.process(build)).status is Status.PUBLISHED
    assert len(server.log) == 1


@pytest.mark.parametrize(
    ("seconds_ago", "transient"),
    [(1, True), (61, False), (None, False)],
    ids=["patience lasts", "patience has ended", "asked for by hand"],
)
def test_a_build_that_did_not_pass_is_tried_again_while_patience_lasts(site, build, server, seconds_ago, transient):
    attempt = Attempt() if seconds_ago is None else seen(seconds_ago)
    server.unsatisfied.add(build["nvr"])
    outcome = only(site.process(build, attempt))
    assert (outcome.status, outcome.error.name) == (Status.FAILED, "GreenwaveUnsatisfiedError")
    assert outcome.error.transient is transient
    assert site.registry.packages() == ()
    server.unsatisfied.clear()
    assert only(site.process(build, attempt)).status is Status.PUBLISHED


def test_greenwave_that_is_away_is_asked_again_later(site, build, server):
    server.faults.add(Fault("POST /api/v1.0/decision", status=503))
    outcome = only(site.process(build))
    assert (outcome.error.name, outcome.error.transient) == ("GreenwaveError", True)


def test_nobody_asks_about_what_cannot_be_published_or_cannot_be_downloaded(site, server):
    bundle = site.koji.add_build("a-container", "1", "1", manifests=FLAT, kind=OperatorKind.BUNDLE)
    long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    missing = site.koji.add_build("b-container", "1", "1", manifests=FLAT, completed_at=long_ago)
    site.koji.faults.add(Fault("GET /kojiroot", status=404, times=None))
    assert only(site.process(bundle)).status is Status.SKIPPED
    assert only(site.process(missing)).status is Status.FAILED
    assert server.log == []


def test_an_archive_without_a_build_needs_no_decision(site, server, tmp_path):
    file = tmp_path / "lantern.zip"
    file.write_bytes(FLAT)
    outcome = only(site.processor.process_archive(file, PushRequest("community")))
    assert outcome.status is Status.PUBLISHED
    assert server.log == []
