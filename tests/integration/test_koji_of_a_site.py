# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub that lags, a file server that restarts, drafts, and a second Koji on the same bus: with a real broker."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.model import BuildState
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"


@pytest.fixture
def quick(site):
    """The site with delays that a test can wait for, and all that it ignores in the log."""
    retry = '[consumer_config.retry]\ndelays = ["200ms"]\ngive_up_after = "1m"\n'
    edit(site.config, "[consumer_config.koji]", retry + "[consumer_config.koji]")
    edit(site.config, "[consumer_config]\n", '[consumer_config]\nlog_level = "DEBUG"\n')
    return site


def ignored(site, reason):
    return len(re.findall(rf"ignored: {reason} ", site.log))


def test_a_file_server_that_restarts_delays_a_release_and_parks_nothing(quick):
    earlier = datetime.now(timezone.utc) - timedelta(hours=1)
    heron = operators.zip_of(operators.nested_operator("heron"))
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER, completed_at=earlier)
    legacy = quick.koji.add_build(
        "heron-operator-container", "1.0", "1", manifests=heron, legacy=True, completed_at=earlier
    )
    quick.koji.faults.add(Fault("GET /kojiroot/.*/files/.*", status=404, times=2))
    quick.koji.faults.add(Fault("GET /kojiroot/.*/logs/.*", body=b"<html>Maintenance</html>", times=3))
    with quick.watching() as watch, quick.running():
        quick.publish(quick.koji.message(build), quick.koji.message(legacy))

        def published():
            watch.poll()
            return {result["nvr"] for _, result in watch.results if result["status"] == "published"}

        wait_until(lambda: published() == {build["nvr"], legacy["nvr"]}, 60, "both builds to be published")
    assert {result["status"] for _, result in watch.results} <= {"published", "retrying"}
    told = [result["error"] for _, result in watch.results if result["error"]]
    assert len(told) == 2 + 1
    assert all(error["name"] == "KojiError" and quick.koji.root_url in error["message"] for error in told)
    assert quick.take(f"{QUEUE}.failed") == []


def test_a_hub_that_lags_behind_the_message_delays_a_release(quick):
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER, state=BuildState.BUILDING)
    message = quick.koji.message(build, state=BuildState.COMPLETE)
    with quick.watching() as watch, quick.running():
        quick.publish(message)
        (first,) = results_of(watch, 1)
        assert (first["status"], first["error"]["name"]) == ("retrying", "KojiError")
        assert "BUILDING" in first["error"]["message"]
        quick.koji.set_state(build, BuildState.COMPLETE)
        wait_until(lambda: watch.poll() or watch.results[-1][1]["status"] == "published", 30, "the release")
    assert quick.take(f"{QUEUE}.failed") == []


def test_a_message_of_another_koji_is_ignored_or_parked_and_never_publishes_a_build_of_ours(quick):
    ours = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    edit(quick.config, "[consumer_config.koji]", '[consumer_config.koji]\ninstance = "primary"')
    message = quick.koji.message(ours)
    body = {**json.loads(message.body), "name": "heron-operator-container"}
    theirs = [message._replace(body=json.dumps({**body, "instance": instance}).encode()) for instance in ("s390", None)]
    with quick.watching() as watch, quick.running():
        quick.publish(*theirs)
        (result,) = results_of(watch, 1)
        wait_until(lambda: ignored(quick, "other_instance") == 1, 20, "the message to be ignored")
    assert (result["status"], result["error"]["name"]) == ("failed", "KojiBuildMismatch")
    ((properties, kept),) = quick.take(f"{QUEUE}.failed")
    assert (properties.headers["omps-error"], kept) == ("KojiBuildMismatch", theirs[1].body)
    assert not quick.registry.releases("community", "otter-cache")


@pytest.mark.parametrize("dialect", ["fedora", "protonmsg"])
def test_a_draft_is_ignored_until_it_is_promoted(quick, dialect):
    draft = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER, draft=True)
    with quick.watching() as watch, quick.running():
        quick.publish(quick.koji.message(draft, dialect))
        wait_until(lambda: ignored(quick, "draft_build") == 1, 20, "the draft to be ignored")
        ran = quick.command("push", draft["nvr"])
        assert ran.code == 1
        assert f"{draft['nvr']} is a draft build, which is published when it is promoted" in ran.out
        quick.koji.promote(draft)
        quick.publish(quick.koji.promotion_message(draft, dialect))
        if dialect == "fedora":  # It names no build.
            caught_up = quick.command("catch-up", "--since", "1h")
            assert caught_up.code == 0, caught_up.err
        (result,) = results_of(watch, 1)
    assert (result["status"], result["nvr"]) == ("published", f"{COMPONENT}-1.0-1")


def test_explain_holds_a_message_against_the_hub_as_the_worker_does(site, tmp_path):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    message = site.koji.message(build)
    other = {**json.loads(message.body), "version": "2.0"}
    bodies = {
        "publish": message.body,
        "fail": json.dumps(other).encode(),
        "ignore": json.dumps({**other, "instance": "s390"}).encode(),
    }
    edit(site.config, "[consumer_config.koji]", '[consumer_config.koji]\ninstance = "primary"')
    reasons = {}
    for decision, body in bodies.items():
        file = tmp_path / decision
        file.write_bytes(body)
        found = site.command("explain", "--json", str(file)).json
        assert found["decision"] == decision
        reasons[decision] = found["reason"]
    assert reasons["fail"].startswith("KojiBuildMismatch: ")
    assert reasons["ignore"].startswith("other_instance")
