# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of an update of a catalog: it stays, and holds up the next update, only while the tag may still change."""

from __future__ import annotations

import pytest

from omps_worker.common.errors import CatalogAuthorizationError, CatalogNotOurs, PackageBusy
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import HERON, OTTER, OTTER_AND_NEXT, catalog_in_sandbox, destination_of, error_of
from tests.support.images import SmallImage
from tests.support.late_lock import LateLock

LESS_THAN_A_MARK = 5.0
"""How long an update waits for the catalog, in seconds. Who would have to wait for a mark gives up at once."""

site = catalog_in_sandbox


@pytest.fixture
def tag(site):
    """The path of the catalog's tag, in a site whose updates do not wait for marks."""
    site.destination = destination_of(site.catalog, site.client, ProcessLock(30.0, patience=LESS_THAN_A_MARK))
    return f"/v2/{site.image.repository.path}/manifests/latest"


def is_held_up(site):
    """Whether the next update has to wait."""
    site.registry.faults.clear()
    return isinstance(error_of(site.destination, site.job(HERON)), PackageBusy)


def cannot_be_read_once_it_is_written(site, tag):
    unread = Fault(f"GET {tag}", status=500, times=None)
    site.registry.before(f"PUT {tag}", lambda: site.registry.faults.add(unread))


# ---- the mark is removed


@pytest.mark.parametrize("status", [None, 500, 502, 504])
def test_a_tag_that_was_stored_without_an_answer_and_is_found_holds_nobody_up(site, tag, status):
    site.registry.lose_answer(f"PUT {tag}", status=status)
    assert site.release(OTTER).listed
    assert not is_held_up(site)


@pytest.mark.parametrize("status", [400, 401, 403, 429])
def test_a_tag_that_was_refused_holds_nobody_up(site, tag, status):
    site.registry.faults.add(Fault(f"PUT {tag}", status=status))
    assert error_of(site.destination, site.job(OTTER)) is not None
    assert site.tag() is None
    assert not is_held_up(site)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_tag_that_could_not_be_looked_at_before_it_was_written_holds_nobody_up(site, tag, status):
    site.registry.faults.add(Fault(f"HEAD {tag}", status=status))
    error = error_of(site.destination, site.job(OTTER))
    assert isinstance(error, CatalogAuthorizationError) == (status != 500)
    assert not is_held_up(site)


@pytest.mark.parametrize("call", ["HEAD", "GET"])
def test_an_update_that_gives_way_to_another_program_holds_nobody_up(site, tag, call):
    """The program came right before the tag was written, or right before it was read again."""
    site.release(OTTER)
    before, path = site.tag(), site.image.repository.path
    foreign = SmallImage().push(site.client, site.image.at(SmallImage().digest))

    def come():
        site.registry.move_tag(path, "latest", foreign)

    if call == "HEAD":
        site.registry.before(f"HEAD {tag}", come, after=1)
    else:
        site.registry.before(f"PUT {tag}", lambda: site.registry.before(f"GET {tag}", come))
    assert isinstance(error_of(site.destination, site.job(OTTER_AND_NEXT)), CatalogNotOurs)

    site.registry.move_tag(path, "latest", before)
    assert not is_held_up(site)


# ---- the mark stays


def test_a_tag_that_was_written_and_cannot_be_read_holds_up_the_next_update(site, tag):
    """Who came next would take a registry that still shows the catalog of before for the truth."""
    cannot_be_read_once_it_is_written(site, tag)
    assert not site.release(OTTER).listed
    assert is_held_up(site)


def test_a_tag_that_was_not_stored_when_the_answer_got_lost_holds_up_the_next_update(site, tag):
    site.registry.faults.add(Fault(f"PUT {tag}", status=504))
    assert error_of(site.destination, site.job(OTTER)).transient
    assert is_held_up(site)


def test_a_tag_without_an_answer_that_cannot_be_read_holds_up_the_next_update(site, tag):
    cannot_be_read_once_it_is_written(site, tag)
    site.registry.lose_answer(f"PUT {tag}")
    assert error_of(site.destination, site.job(OTTER)).transient
    assert is_held_up(site)


# ---- no time is left


def test_an_update_that_was_stopped_until_its_time_was_over_asks_nothing_and_writes_nothing(site, tag):
    calls = []
    lock = LateLock(lambda: calls.append(len(site.registry.log)))
    site.destination = destination_of(site.catalog, site.client, lock)
    with pytest.raises(PackageBusy, match="took too long: nothing was pushed") as caught:
        site.release(OTTER)

    assert caught.value.counts, "whatever took so long was tried"
    assert calls == [len(site.registry.log)]
    assert site.tag() is None
