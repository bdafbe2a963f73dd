# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries that fail, lie, forget or let other programs in, while a catalog is updated: nothing gets lost."""

from __future__ import annotations

import json
import time

import pytest

from omps_worker.common.errors import (
    CatalogError,
    CatalogNotOurs,
    PackageBusy,
    PackageValidationError,
    WorkerError,
)
from omps_worker.common.locks import package_lock
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import (
    HERON,
    OTTER,
    OTTER_AND_NEXT,
    catalog_in_sandbox,
    changed,
    destination_of,
    error_of,
    update_in,
)
from tests.support.images import SmallImage

site = catalog_in_sandbox


def tag_of(site):
    return f"/v2/{site.image.repository.path}/manifests/latest"


def writes(site, since=0):
    return [f"{each.method} {each.target}" for each in site.registry.log[since:] if each.method in ("PUT", "POST")]


# ---- a tag that cannot be read is never an empty catalog

GARBAGE = {
    "a web page": "<html>Down for maintenance</html>",
    "an error of a proxy": {"message": "no healthy upstream"},
    "a manifest without layers": {"schemaVersion": 2, "config": {}},
    "a list of manifests": {"schemaVersion": 2, "manifests": []},
    "nothing": b"",
    "half a manifest": b'{"schemaVersion": 2, "mediaType": "application/vnd.docker.distr',
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_a_tag_that_answers_garbage_is_never_an_empty_catalog(site, body):
    nothing_is_written(site, Fault(f"GET {tag_of(site)}", status=200, body=body, times=None))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503])
def test_a_tag_that_is_not_answered_is_never_an_empty_catalog(site, status):
    nothing_is_written(site, Fault(f"GET {tag_of(site)}", status=status, body="<html>no</html>", times=None))


@pytest.mark.parametrize("options", [{"drop": True}, {"truncate": True}, {"drop_answer": True}], ids=str)
def test_a_tag_whose_answer_is_cut_is_never_an_empty_catalog(site, options):
    nothing_is_written(site, Fault(f"GET {tag_of(site)}", times=None, **options))


def test_a_list_of_tags_that_fails_does_not_say_that_there_is_no_catalog(site):
    path = site.image.repository.path
    site.release(HERON)
    missing = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
    tag = Fault(f"GET {tag_of(site)}", status=404, body=missing, times=None)
    nothing_is_written(site, tag, Fault(f"GET /v2/{path}/tags/list", status=500, times=None))


@pytest.mark.parametrize("which", ["configuration", "layer"])
@pytest.mark.parametrize("body", [b"", b"garbage", b'{"history": []}'])
def test_a_catalog_of_which_a_part_is_damaged_is_never_replaced(site, which, body):
    site.release(OTTER)
    manifest = site.client.manifest(site.image)
    digest = manifest.config.digest if which == "configuration" else manifest.layers[0].digest
    nothing_is_written(site, Fault(f"GET .*/blobs/{digest}", status=200, body=body, times=None))


@pytest.mark.parametrize("which", ["configuration", "layer"])
def test_a_catalog_of_which_a_part_is_lost_is_never_replaced(site, which):
    site.release(OTTER)
    manifest = site.client.manifest(site.image)
    digest = manifest.config.digest if which == "configuration" else manifest.layers[0].digest
    site.registry.lose_blob(site.image.repository.path, digest)
    nothing_is_written(site)


def nothing_is_written(site, *faults):
    """A release fails for the time being and has written nothing; when the registry has recovered, it succeeds."""
    if site.tag() is None:
        site.release(HERON)
    before, job, seen = site.registry.tags(site.image.repository.path), site.job(OTTER_AND_NEXT), len(site.registry.log)
    for fault in faults:
        site.registry.faults.add(fault)
    error = error_of(site.destination, job)
    site.registry.faults.clear()

    assert error is not None
    assert error.transient
    assert writes(site, seen) == []
    assert site.registry.tags(site.image.repository.path) == before
    if faults:
        assert site.destination.release(job).created


# ---- other programs


def test_a_writer_before_the_first_look_under_the_lock_is_kept(site):
    other, heron = site.another(), site.job(HERON)
    site.registry.before(f"GET {tag_of(site)}", lambda: other.release(heron), after=1)
    site.release(OTTER)

    assert list(site.packages()) == ["heron", "otter-cache"]


def test_a_writer_between_writing_and_reading_again_is_kept_and_the_update_is_not_lost(site):
    site.release(OTTER)
    before = site.tag()
    heron = site.job(HERON)
    seen = []

    def foreign_writer():
        """Another program adds a package to the catalog that it read before ours was written."""
        theirs = site.another()
        site.registry.move_tag(site.image.repository.path, "latest", before)
        seen.append(theirs.release(heron))

    read_again = f"GET {tag_of(site)}"
    site.registry.before(f"PUT {tag_of(site)}", lambda: site.registry.before(read_again, foreign_writer))
    released = site.release(OTTER_AND_NEXT)

    assert len(seen) == 1
    assert list(site.packages()) == ["heron", "otter-cache"]
    assert site.packages()["otter-cache"]["stable"] == "otter-cache.v1.1.0"
    assert update_in(released).digest == site.tag()


def test_an_image_that_another_program_puts_there_in_between_is_not_overwritten(site):
    site.release(HERON)
    foreign = SmallImage().push(site.client, site.image.at(SmallImage().digest))
    path = site.image.repository.path
    site.registry.before(f"HEAD {tag_of(site)}", lambda: site.registry.move_tag(path, "latest", foreign))
    with pytest.raises(CatalogNotOurs):
        site.release(OTTER)

    assert site.tag() == foreign


# ---- what gets lost comes back


def test_a_registry_that_lost_the_catalog_gets_it_back_from_the_next_release_of_each_package(site):
    site.release(HERON)
    whole = site.update(OTTER).digest
    site.registry.delete(site.image.repository.path, site.tag())
    site.registry.delete(site.bundle_repository().path, site.client.digest(bundle_tag(site, "v1.0.0")))

    assert update_in(site.release(OTTER)).previous is None
    assert {"v0.9.0", "v1.0.0"} < set(site.bundle_tags())
    site.release(HERON)
    assert site.tag() == whole, "the same content is the same image"


def bundle_tag(site, tag):
    return type(site.image)(site.bundle_repository(), tag)


def test_a_bundle_that_lost_its_tags_before_the_catalog_names_it_gets_them(site):
    job = site.job(OTTER)
    site.registry.faults.add(Fault("PUT .*/manifests/v1.0.0", status=500))
    assert error_of(site.destination, job).transient
    assert site.tag() is None, "a catalog names only bundles that have their tags"
    update = update_in(site.destination.release(job))

    assert [bundle.created for bundle in update.bundles] == [False, False]
    assert {"v0.9.0", "v1.0.0"} < set(site.bundle_tags())


# ---- refusals


def test_an_invalid_package_is_refused_before_anything_is_written_and_others_stay_byte_for_byte(site):
    site.release(OTTER)
    site.release(HERON)
    tags, files, seen = site.registry.tags(site.bundle_repository().path), site.files(), len(site.registry.log)
    skip = "  skips: [otter-cache.v1.0.0]\n  replaces: otter-cache.v1.0.0"
    stranded = changed(OTTER_AND_NEXT, "  replaces: otter-cache.v1.0.0", skip)
    with pytest.raises(PackageValidationError, match="reaches"):
        site.release(stranded)

    assert writes(site, seen) == []
    assert site.registry.tags(site.bundle_repository().path) == tags
    assert site.files() == files


def test_a_version_with_other_content_is_refused_before_its_tag_moves(site):
    site.release(OTTER)
    tags, seen = site.registry.tags(site.bundle_repository().path), len(site.registry.log)
    with pytest.raises(PackageValidationError, match="overwrite: heads"):
        site.release(changed(OTTER, "operator:1.0.0", "operator:1.0.0-2"))

    assert writes(site, seen) == []
    assert site.registry.tags(site.bundle_repository().path) == tags


def test_a_manifest_that_the_registry_refuses_is_a_permanent_failure(site):
    refusal = {"errors": [{"code": "MANIFEST_INVALID", "message": "manifest invalid"}]}
    site.registry.faults.add(Fault(f"PUT {tag_of(site)}", status=400, body=refusal))
    error = error_of(site.destination, site.job(OTTER))

    assert isinstance(error, CatalogError)
    assert not error.transient
    assert site.tag() is None


# ---- answers that get lost


@pytest.mark.parametrize("status", [None, 500, 502, 504])
def test_a_tag_that_was_stored_without_an_answer_counts_as_written(site, status):
    site.registry.lose_answer(f"PUT {tag_of(site)}", status=status)
    released = site.release(OTTER)

    assert (released.created, released.listed) == (True, True)
    assert update_in(released).digest == site.tag()


def test_a_tag_that_may_still_be_stored_holds_up_the_next_update_until_it_cannot(site, monkeypatch):
    monkeypatch.setattr(package_lock, "STORING_SECONDS", 0.2)
    site.catalog.timeout = 0.8
    site.destination = destination_of(site.catalog, site.client, ProcessLock(30.0))
    site.registry.faults.add(Fault(f"PUT {tag_of(site)}", status=504))
    begun = time.monotonic()
    assert error_of(site.destination, site.job(OTTER)).transient
    assert site.release(HERON).created

    assert 0.9 < time.monotonic() - begun < 10
    assert list(site.packages()) == ["heron"]


def test_a_tag_is_not_written_after_its_mark_has_run_out(site):
    site.catalog.timeout = 0.5
    site.registry.faults.add(Fault(f"HEAD {tag_of(site)}", delay_answer=1.5))
    seen = len(site.registry.log)
    error = error_of(site.destination, site.job(OTTER))

    assert error is not None
    assert error.transient
    assert [each for each in writes(site, seen) if each.endswith("/manifests/latest")] == []


def test_nothing_is_written_without_the_lock(site):
    class Lost(ProcessLock):
        def lock(self, lockable):
            raise PackageBusy("Another push was under way.")

    site.destination = destination_of(site.catalog, site.client, Lost())
    with pytest.raises(PackageBusy):
        site.release(OTTER)

    assert site.tag() is None
    assert site.bundle_tags() == (), "what has been sent is named by nothing"


def test_reads_that_answer_500_while_tags_are_written_do_no_harm(site):
    """The reference registry answers so while another program writes the same tag."""
    job = site.job(OTTER)
    for number in range(60):
        site.registry.faults.clear()
        site.registry.faults.add(Fault("(GET|HEAD) .*/manifests/", status=500, after=number))
        error = error_of(site.another(), job)
        assert error is None or error.transient, number
    site.registry.faults.clear()
    site.destination.release(job)

    assert site.packages()["otter-cache"]["stable"] == "otter-cache.v1.0.0"


def test_errors_never_hold_a_credential(tmp_path):
    from tests.support.docker_registry import PASSWORD
    from tests.support.images import sandbox_place

    with sandbox_place(tmp_path, "basic") as place:
        from tests.support.catalog_places import CatalogPlace

        site = CatalogPlace(place, tmp_path)
        place.registry.faults.add(Fault("PUT ", status=500, body={"errors": [{"message": PASSWORD}]}, times=None))
        error = error_of(site.destination, site.job(OTTER))

        assert isinstance(error, WorkerError)
        assert PASSWORD not in error.message + json.dumps(error.details)
