# SPDX-License-Identifier: GPL-3.0-or-later
"""``/ready`` and ``/metrics`` tell of a catalog that cannot be published to, before a build is for it."""

from __future__ import annotations

import pytest

from omps_worker.sandbox import operators
from tests.support.catalogs import PATH, with_catalog
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

SECONDS = 10.0
"""What is promised."""

UP = 'omps_worker_catalog_up{catalog="community"}'
OTTER = operators.zip_of(operators.nested_operator("otter-cache", versions=("1.0.0",)))
CATALOGS_ONLY = "version: 1\nrules: [{match: {}, publish: [{catalog: community}]}]\n"


@pytest.fixture
def place(site):
    with with_catalog(site) as made:
        yield made


@pytest.fixture
def seen(place):
    port = free_port()
    text = f'[monitoring]\nport = {port}\n[consumer_config]\nshutdown_timeout = "2s"'
    edit(place.site.config, "[consumer_config]", text)
    return Seen(port)


def test_a_catalog_in_trouble_is_a_warning_until_nothing_can_be_published_at_all(place, seen):
    site, images = place.site, place.images
    with site.watching() as watch, site.running():
        wait_until(lambda: seen.ready() and seen.metric(UP) == 1, what="a catalog that is not there yet to be well")
        assert images.repositories() == ()

        images.stop()
        wait_until(lambda: seen.metric(UP) == 0, SECONDS, "the image registry to be missed")
        assert seen.ready(), "an organization can be published to"
        (warning,) = seen.warnings()
        assert warning.startswith(f"catalog community: Failed to read {images.host}/{PATH}: ")

        site.registry.stop()
        (site.directory / "mapping.yaml").write_text(CATALOGS_ONLY)
        wait_until(lambda: seen.misses("catalogs"), SECONDS, "nothing to be publishable")
        assert seen.live(), "a restart would not help"
        images.start()
        wait_until(seen.ready, SECONDS, "the worker to be ready, with an app registry away that no rule publishes to")
        assert seen.metric(UP) == 1

        build = site.koji.add_build("otter-cache-operator-container", "1.0", "1", manifests=OTTER)
        site.publish(site.koji.message(build))
        assert [result["status"] for result in results_of(watch, 1)] == ["published"]
        counted = ("catalog_update_seconds_count", "bundle_images_pushed_total", "catalog_conflicts_total")
        assert [seen.metric(f'omps_worker_{name}{{catalog="community"}}') for name in counted] == [1, 1, 0]
        assert seen.metric('omps_worker_outcomes_total{error="",status="published"}') == 1
        assert "secret" not in seen.page()
