# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/reliability.md says of catalogs after an update: repeated, taken back, written by another zlib, lost."""

from __future__ import annotations

from omps_worker.destinations.catalog.images import layers
from tests.support.catalog_places import HERON, OTTER, OTTER_AND_NEXT, catalog_in_sandbox, update_in

site = catalog_in_sandbox


def test_a_repeated_update_names_the_same_digest_before_and_after(site):
    first = site.update(OTTER)
    again = site.release(OTTER)
    assert again is not None
    assert not again.created
    assert update_in(again).previous == update_in(again).digest == first.digest


def test_the_tag_moved_to_the_digest_before_takes_an_update_back(site):
    site.release(HERON)
    before = site.update(OTTER)
    after = site.update(OTTER_AND_NEXT)
    assert after.previous == before.digest

    site.registry.move_tag(site.image.repository.path, "latest", after.previous)
    assert site.packages()["otter-cache"] == dict(before.channels)
    assert site.update(OTTER_AND_NEXT).digest == after.digest, "a repeated message brings it back"


def test_a_replica_with_another_zlib_finds_what_was_written_and_writes_no_package_anew(site, monkeypatch):
    site.release(HERON)
    made = site.update(OTTER)
    files = site.files()
    packed = layers.compressed_gzip(files["otter-cache"])

    monkeypatch.setattr(layers, "_LEVEL", 1)
    assert layers.compressed_gzip(files["otter-cache"]) != packed
    again = site.release(OTTER)
    assert again is not None
    assert not again.created
    assert site.tag() == made.digest
    changed = site.update(OTTER_AND_NEXT)
    assert [bundle.created for bundle in changed.bundles].count(True) >= 1
    assert {name: text for name, text in site.files().items() if name != "otter-cache"} == {"heron": files["heron"]}

    monkeypatch.undo()
    assert not site.release(OTTER_AND_NEXT).created


def test_a_catalog_that_was_lost_is_made_again_by_the_builds_that_are_missing(site):
    site.release(HERON)
    made = site.update(OTTER)
    files = site.files()
    site.registry.delete(site.image.repository.path, made.digest)

    assert site.update(OTTER).previous is None
    assert list(site.packages()) == ["otter-cache"], "a build brings its own package"
    plan = site.destination.plan(site.job(HERON))
    assert plan is not None
    assert plan.created, "this is how a catch-up finds it"
    site.release(HERON)
    assert site.files() == files
