# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted of a catalog's updates is what was done."""

from __future__ import annotations

import pytest

from omps_worker.common.observer import Observer
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import HERON, OTTER, OTTER_AND_NEXT, catalog_place, error_of


class Counts(Observer):
    """Counts what it is told about catalogs."""

    def __init__(self):
        self.updates, self.conflicts, self.images = 0, 0, 0
        self.stages = set()

    def catalog_updated(self, catalog, seconds):
        assert catalog == "community"
        assert 0 < seconds < 60
        self.updates += 1

    def catalog_conflict(self, catalog):
        assert catalog == "community"
        self.conflicts += 1

    def bundle_image_pushed(self, catalog):
        assert catalog == "community"
        self.images += 1

    def stage(self, name, _seconds):
        self.stages.add(name)

    @property
    def all(self):
        return self.updates, self.conflicts, self.images


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def site(tmp_path, counts):
    with catalog_place("sandbox", tmp_path) as made:
        made.destination = made.another(counts)
        yield made


def test_an_update_and_the_bundle_images_that_were_missing_are_counted_once(site, counts):
    site.release(OTTER)
    assert counts.all == (1, 0, 2)
    assert counts.stages == {"look", "lock", "push"}
    site.release(OTTER)
    assert counts.all == (1, 0, 2), "nothing was done"
    site.release(OTTER_AND_NEXT)
    assert counts.updates == 2


def test_images_count_though_the_update_fails_and_is_done_by_the_next_attempt(site, counts):
    job, path = site.job(OTTER), site.image.repository.path
    site.registry.faults.add(Fault(f"PUT /v2/{path}/manifests/latest", status=429))
    assert error_of(site.destination, job) is not None
    assert counts.all == (0, 0, 2)
    site.destination.release(job)
    assert counts.all == (1, 0, 2)


def test_a_deletion_is_an_update_too(site, counts):
    site.release(OTTER)
    site.delete("otter-cache")
    assert counts.all == (2, 0, 2)


def test_a_bundle_build_pushes_no_bundle_image(site, counts):
    site.add(site.osbs("1.0.0"))
    assert counts.all == (1, 0, 0)


def test_another_program_that_comes_in_between_is_a_conflict_even_if_the_update_succeeds(site, counts):
    other, heron = site.another(), site.job(HERON)
    head = f"HEAD /v2/{site.image.repository.path}/manifests/latest"
    site.registry.before(head, lambda: other.release(heron))
    site.release(OTTER)
    assert counts.all == (1, 1, 2)
