# SPDX-License-Identifier: GPL-3.0-or-later
"""Koji, the registry, the disk and the mapping fail in every way, and recover: nothing is lost, nothing is twice."""

from __future__ import annotations

import hashlib
import signal

import pytest

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.books import COMPONENT, PACKAGE, otter
from tests.support.site import edit
from tests.support.waiting import wait_until

HOUR = 3600.0


@pytest.fixture
def build(quick):
    return quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())


def publish_in_spite_of_it(site, crew, books, build):
    """What the bus was told until the build was published, as pairs of status and error."""
    crew.start()
    site.publish(site.koji.message(build))
    books.wait_for("published")
    books.wait_until_idle()
    crew.stop_all()
    books.balance([build])
    return [(told.status, (told.body["error"] or {}).get("name")) for told in books.told]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("POST /kojihub", status=502, body="<html>Bad Gateway</html>"), id="the hub's proxy"),
        pytest.param(Fault("POST /kojihub", drop=True, times=2), id="the hub hangs up"),
        pytest.param(Fault("POST /kojihub", delay=HOUR), id="the hub is silent"),
        pytest.param(Fault("POST /kojihub", drip=0.2), id="the hub drips"),
        pytest.param(Fault("POST /kojihub", body=b"<methodResponse><par"), id="the hub babbles"),
        pytest.param(Fault("GET /kojiroot", status=503), id="no files"),
        pytest.param(Fault("GET /kojiroot", truncate=True), id="half a file"),
        pytest.param(Fault("GET /kojiroot", delay=HOUR), id="files are silent"),
        pytest.param(Fault("GET /kojiroot", drip=0.05), id="files drip"),
        pytest.param(Fault("GET /kojiroot", body=b"PK not what was built", times=2), id="files lie"),
    ],
)
def test_koji_fails_for_a_while(quick, crew, books, build, fault):
    quick.koji.faults.add(fault)
    told = publish_in_spite_of_it(quick, crew, books, build)
    assert told == [("retrying", "KojiError"), ("published", None)]


def test_koji_is_down_and_comes_back(quick, crew, books, build):
    message = quick.koji.message(build)
    quick.koji.stop()
    crew.start()
    quick.publish(message)
    wait_until(lambda: books.statuses().count("retrying") >= 2, 30, "two tries")
    quick.koji.start()
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(Fault("GET /cnr/api", status=500), "QuayPackageError", id="look: 500"),
        pytest.param(Fault("GET /cnr/api", delay=HOUR), "QuayPackageError", id="look: silence"),
        pytest.param(Fault("POST /cnr/", status=500, body="<html>oops</html>"), "QuayCourierError", id="push: 500"),
        pytest.param(Fault("POST /cnr/", status=429, headers={"Retry-After": "1"}), "QuayCourierError", id="push: 429"),
        pytest.param(Fault("POST /api/v1/repository", status=500), "QuayPackageError", id="publish: 500"),
        pytest.param(Fault("POST /api/v1/repository", drop_answer=True), "QuayPackageError", id="publish: no answer"),
    ],
)
def test_the_registry_fails_once(quick, crew, books, build, fault, error):
    quick.registry.faults.add(fault)
    told = publish_in_spite_of_it(quick, crew, books, build)
    assert told == [("retrying", error), ("published", None)]
    assert quick.registry.is_public("community", PACKAGE)


def test_a_retry_of_a_publish_that_failed_only_publishes(quick, crew, books, build):
    quick.registry.faults.add(Fault("POST /api/v1/repository", status=503, times=2))
    told = publish_in_spite_of_it(quick, crew, books, build)
    assert told == [("retrying", "QuayPackageError")] * 2 + [("published", None)]
    assert sum(entry.method == "POST" and entry.target.startswith("/cnr/") for entry in quick.registry.log) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("POST /cnr/", drop_answer=True), id="the answer is lost"),
        pytest.param(Fault("POST /cnr/", truncate=True), id="half an answer"),
        pytest.param(Fault("POST /cnr/", delay_answer=HOUR), id="no answer"),
        pytest.param(Fault("POST /cnr/", status=502, body="<html>Bad Gateway</html>", effect=True), id="502"),
        pytest.param(Fault("POST /cnr/", status=409, body={"error": {"code": "package-exists"}}), id="409"),
    ],
)
def test_a_push_whose_answer_does_not_tell_is_made_once(quick, crew, books, build, fault):
    quick.registry.faults.add(fault)
    told = publish_in_spite_of_it(quick, crew, books, build)
    assert told == [("published", None)]


def test_a_registry_that_hangs_before_it_stores_gets_a_second_push_only_when_the_first_is_past(
    quick, crew, books, build
):
    quick.registry.faults.add(Fault("POST /cnr/", delay=HOUR, drop=True))
    told = publish_in_spite_of_it(quick, crew, books, build)
    assert told[-1] == ("published", None)
    assert {status for status, _ in told[:-1]} == {"retrying"}


def test_a_bundle_that_is_too_large_for_the_registry_is_parked_at_once(quick, crew, books, build):
    quick.registry.faults.add(Fault("POST /cnr/", status=413, body="<html>Request Entity Too Large</html>"))
    message = quick.koji.message(build)
    crew.start()
    quick.publish(message)
    wait_until(lambda: "failed" in books.statuses(), 30, "the failure")
    books.wait_until_idle()
    crew.stop_all()
    (failed,) = books.told
    assert (failed.body["error"]["name"], failed.body["error"]["transient"]) == ("QuayCourierError", False)
    books.balance([], parked=[message.properties["message_id"]])


def test_a_wrong_checksum_that_stays_wrong_is_never_published(quick, crew, books):
    wrong = hashlib.md5(b"something else", usedforsecurity=False).hexdigest()
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter(), checksum=wrong)
    crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: books.statuses().count("retrying") >= 2, 30, "two tries")
    crew.stop_all()
    assert quick.registry.releases("community", PACKAGE) == ()


def test_a_mapping_that_is_broken_while_running_changes_nothing_until_it_is_mended(quick, crew, books):
    builds = [quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(2)]
    mapping = quick.directory / "mapping.yaml"
    worker = crew.start()
    edit(mapping, "version: 1", "version: [")
    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: "mapping.yaml" in quick.log, 30, "the log to speak of the broken edit")
    quick.publish(quick.koji.message(builds[0]))
    books.wait_for("published", 1)
    edit(mapping, "version: [", "version: 1")
    worker.send_signal(signal.SIGHUP)
    quick.publish(quick.koji.message(builds[1]))
    books.wait_for("published", 2)
    crew.stop_all()
    books.balance(builds)


def test_a_mapping_that_vanishes_while_running_is_missed_but_not_needed(quick, crew, books, build):
    mapping = quick.directory / "mapping.yaml"
    worker = crew.start()
    mapping.rename(mapping.with_suffix(".away"))
    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: "mapping.yaml" in quick.log, 30, "the log to speak of the missing file")
    quick.publish(quick.koji.message(build))
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])
    assert quick.take(f"{QUEUE}.failed") == []
