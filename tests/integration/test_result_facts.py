# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever keeps the ids of results counts every fact once, and none too few: as docs/messages.md promises."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX
from tests.support.api import serve
from tests.support.books import COMPONENT, Books, impatient, otter
from tests.support.waiting import wait_until

LANTERN = operators.zip_of(operators.flat_operator("lantern"))
FAILED = f"{QUEUE}.failed"


@pytest.fixture
def books(site) -> Books:
    return Books(site)


def told(books: Books, count: int):
    """The first ``count`` results, each of which has an id of its own."""
    wait_until(lambda: len(books.hear()) >= count, 30, f"{count} results")
    assert len({one.id for one in books.told}) == len(books.told) == count
    return books.told


def wait_for_the_next_second():
    """The registry writes whole seconds, as Quay does."""
    second = datetime.now(timezone.utc).second
    wait_until(lambda: datetime.now(timezone.utc).second != second, 5, "the next second")


def test_published_deleted_and_published_again_are_three_facts(site, books, tmp_path):
    archive = tmp_path / "lantern.zip"
    archive.write_bytes(LANTERN)
    push = ("push-zip", str(archive), "--organization", "community")
    assert site.command(*push).code == 0
    assert site.command("delete", "community", "lantern", "--yes").code == 0
    wait_for_the_next_second()
    assert site.command(*push).code == 0
    first, deleted, again = told(books, 3)
    assert [one.status for one in (first, deleted, again)] == ["published", "deleted", "published"]
    assert first.body["version"] == again.body["version"] == "1.0.0"
    assert first.body["digest"] == again.body["digest"]


def test_two_pushes_by_hand_that_fail_alike_are_two_facts(site, books):
    nvr = site.koji.add_build(COMPONENT, "1.0", "1", manifests=b"no zip")["nvr"]
    for _ in range(2):
        assert site.command("push", nvr).code == 1
    assert [one.body["source"] for one in told(books, 2)] == [None, None]


def test_an_archive_from_a_pipe_is_published_and_named(site, books):
    command = [sys.executable, "-m", "omps_worker", "--config", str(site.config), "push-zip", "/dev/stdin"]
    ran = subprocess.run([*command, "--organization", "community"], input=LANTERN, capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    (one,) = told(books, 1)
    assert one.body["source"] == {"file": "stdin", "sha256": hashlib.sha256(LANTERN).hexdigest()}


def test_a_pipe_without_end_is_read_no_further_than_an_archive_may_be_long(site):
    ran = site.command("push-zip", "/dev/zero", "--organization", "community")
    assert (ran.code, "larger than limit" in ran.out) == (1, True), ran.err


def test_three_broken_uploads_are_three_facts_that_name_their_files(site, books, tmp_path):
    token = (site.directory / "secrets" / "partners").read_text().strip()
    top = {"amqp_url": site.amqp_url, "topic_prefix": TOPIC_PREFIX}
    uploads = {"a.zip": b"no zip", "b.zip": operators.zip_of({"x.yaml": "a: 1\n"}), "c.zip": LANTERN[:-30]}
    with serve(tmp_path, site.koji, site.registry, token, top=top) as server:
        for name, content in uploads.items():
            assert server.upload("/v2/partners/zipfile", content, f"C:\\down loads\\{name}").status_code == 400
        results = told(books, 3)
    assert {one.body["source"]["file"]: one.body["source"]["sha256"] for one in results} == {
        name: hashlib.sha256(content).hexdigest() for name, content in uploads.items()
    }


def test_a_message_that_fails_is_replayed_and_fails_again_is_two_failures(site, books, tmp_path):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=b"no zip")
    with site.running():
        site.publish(site.koji.message(build))
        books.wait_for("failed")
        wait_until(lambda: site.command("failed", "list", "--json").json, what="the parked message")
        exported = tmp_path / "exported"
        assert site.command("failed", "export", str(exported)).code == 0
        assert site.command("failed", "replay", "--all").code == 0
        told(books, 2)
        (file,) = exported.iterdir()
        for count in (3, 4):
            assert site.command("replay", str(file)).code == 0
            told(books, count)
    assert [one.body["source"]["replayed"] for one in books.told] == [0, 1, 1, 1]


def test_a_release_that_could_not_be_looked_at_is_told_of_once_it_was(site, books):
    impatient(site)
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())
    site.registry.faults.add(Fault("GET /cnr/api/v1/packages/.*", status=503, after=1))
    with site.running():
        site.publish(site.koji.message(build))
        books.wait_for("published")
    retrying, published = told(books, 2)
    assert (retrying.status, retrying.body["error"]["name"]) == ("retrying", "QuayPackageError")
    assert "was accepted" in retrying.body["error"]["message"]
    assert (published.status, published.body["version"], published.body["attempt"]) == ("published", "1.0.0", 2)
    assert len(site.registry.releases("community", "otter-cache")) == 1
