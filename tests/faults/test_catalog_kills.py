# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that are killed while they update a catalog, and processes that update it at the same time."""

from __future__ import annotations

import threading

import pytest

from omps_worker.common.locks import file as file_lock
from omps_worker.common.locks.file import FileLock
from omps_worker.destinations.catalog.images.image import digest_tag
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import HERON, OTTER, CatalogPlace, destination_of, update_in
from tests.support.catalog_work import SECONDS, Work
from tests.support.images import sandbox_place
from tests.support.waiting import wait_until

TIMEOUT = 1.0
"""How long a call to the registry may take in these tests, and so the mark of an update."""


@pytest.fixture
def place(tmp_path):
    with sandbox_place(tmp_path) as made:
        yield made


def site_in(place, tmp_path):
    """A new catalog with one package, whose updates are locked on this host."""
    site = CatalogPlace(place, tmp_path, timeout=TIMEOUT)
    site.destination = destination_of(site.catalog, place.client(), FileLock(tmp_path / "locks", SECONDS))
    site.release(HERON)
    return site


def work_on(site, tmp_path, *wanted, locked=True):
    image = f"{site.image.repository.path}:latest"
    return Work(site.place.url, image, tmp_path / "locks" if locked else None, wanted, TIMEOUT)


def finish(process):
    process.join(SECONDS)
    assert process.exitcode == 0


@pytest.mark.parametrize("answered", [False, True], ids=["before the call", "before the answer"])
def test_killed_at_any_call_the_next_attempt_ends_with_one_whole_catalog(place, tmp_path, monkeypatch, answered):
    monkeypatch.setattr(file_lock, "STORING_SECONDS", 0.1)
    (tmp_path / "locks").mkdir(mode=0o700)
    whole = site_in(place, tmp_path)
    seen = len(place.registry.log)
    finish(work_on(whole, tmp_path, OTTER).start())
    calls = len(place.registry.log) - seen
    assert calls > 25, "the calls of an update with two bundles"

    for number in range(calls):
        site = site_in(place, tmp_path)
        heron = site.files()["heron"]
        gate = threading.Event()
        until = {"hold_answer": gate, "drop_answer": True} if answered else {"hold": gate, "drop": True}
        fault = Fault("", after=number, **until)
        place.registry.faults.add(fault)
        victim = work_on(site, tmp_path, OTTER).start()
        wait_until(lambda fault=fault: place.registry.faults.fired(fault), 30, f"call {number}")
        victim.kill()
        victim.join(SECONDS)
        gate.set()
        place.registry.faults.clear()

        released = site.release(OTTER)

        assert list(site.packages()) == ["heron", "otter-cache"], number
        assert site.files()["heron"] == heron
        update = update_in(released)
        assert update.digest == site.tag()
        assert [bundle.version for bundle in update.bundles] == ["0.9.0", "1.0.0"]
        expected = {(f"v{each.version}", digest_tag(each.image.partition("@")[2])) for each in update.bundles}
        assert set(site.bundle_tags()) == {tag for pair in expected for tag in pair}, number
        assert not site.release(OTTER).created, "it is released once"


def packages_of(number):
    return tuple(operators.nested_operator(f"otter-{number}-{each}", versions=("1.0.0",)) for each in range(8))


def released_by_four(place, tmp_path, *, locked):
    """The packages in a catalog to which four processes have released eight packages each."""
    (tmp_path / "locks").mkdir(mode=0o700)
    site = site_in(place, tmp_path)
    place.registry.slow_tags = 0.02
    processes = [work_on(site, tmp_path, *packages_of(number), locked=locked).start() for number in range(4)]
    for process in processes:
        finish(process)
    return set(site.packages()) - {"heron"}


def test_four_processes_lose_no_update_of_one_catalog(place, tmp_path):
    found = released_by_four(place, tmp_path, locked=True)
    assert found == {f"otter-{number}-{each}" for number in range(4) for each in range(8)}


def test_without_the_lock_an_update_would_be_lost(place, tmp_path):
    site = site_in(place, tmp_path)
    other, job = site.another(), site.job(operators.nested_operator("wren", versions=("1.0.0",)))
    tag = f"PUT /v2/{site.image.repository.path}/manifests/latest"
    # The other writer has a lock of its own, and comes after the last question of the first one.
    place.registry.before(tag, lambda: other.release(job))
    site.release(operators.nested_operator("lark", versions=("1.0.0",)))

    assert set(site.packages()) == {"heron", "lark"}
