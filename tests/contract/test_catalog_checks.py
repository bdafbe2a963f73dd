# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around a catalog: whether it can be reached, who may see it, what it holds; on a registry like Quay, too."""

from __future__ import annotations

import pytest

from omps_worker.common.errors import (
    CatalogAuthorizationError,
    CatalogError,
    CatalogNotOurs,
    QuayPackageError,
)
from omps_worker.common.model import Target
from omps_worker.destinations import ReleaseJob
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import CatalogPlace, catalog_place, update_in
from tests.support.images import SmallImage, docker_place, sandbox_place
from tests.support.quay import PUBLISH, Quay

OTTER = operators.nested_operator("otter-cache", versions=("0.9.0", "1.0.0"))
HERON = operators.nested_operator("heron", versions=("2.0.0",))


@pytest.fixture(params=["sandbox", "docker-registry"])
def site(request, tmp_path):
    opened = docker_place if request.param == "docker-registry" else sandbox_place
    with opened(tmp_path, "token") as place:
        yield CatalogPlace(place, tmp_path)


@pytest.fixture
def sandbox(tmp_path):
    with catalog_place("sandbox", tmp_path) as made:
        yield made


@pytest.fixture
def like_quay(tmp_path):
    with sandbox_place(tmp_path, "token", like_quay=True) as place:
        yield CatalogPlace(place, tmp_path)


def check(site, destination=None):
    ((name, ask),) = (destination or site.destination).checks()
    assert name == "catalog community"
    return ask()


def writes(site):
    return [entry for entry in site.registry.log if entry.method in ("PUT", "POST")]


# ---- checks


def test_a_check_tells_what_is_at_the_tag(site):
    site.release(OTTER)
    site.release(HERON)

    assert check(site) == f"{site.image} ({site.tag()[:19]}): 2 package(s), 3 bundle(s)"


def test_a_catalog_that_is_not_there_yet_is_no_failure(site):
    assert check(site) == f"{site.image} is not there yet: the first push makes it"


def test_a_check_begins_no_upload_in_a_repository_that_does_not_exist(sandbox):
    check(sandbox)
    assert writes(sandbox) == []
    assert sandbox.registry.repositories() == ()


def test_an_image_of_another_program_fails_the_check(site):
    SmallImage().push(site.client, site.image)
    with pytest.raises(CatalogNotOurs):
        check(site)


def test_a_login_that_may_not_push_fails_the_check(tmp_path):
    with sandbox_place(tmp_path, "token") as place:
        site = CatalogPlace(place, tmp_path)
        site.release(OTTER)
        place.registry.accounts.add("robot", "s3cr3t/Passw0rd+x", push=())
        reader = site.another()
        with pytest.raises(CatalogAuthorizationError):
            check(site, reader)


def test_a_registry_that_is_away_fails_the_check(sandbox):
    sandbox.registry.stop()
    with pytest.raises(CatalogError) as caught:
        check(sandbox)
    assert caught.value.transient


def test_a_catalog_for_each_package_is_checked_as_far_as_it_is_known(tmp_path):
    with catalog_place("sandbox", tmp_path, image="{package}-catalog:v1") as site:
        assert "one image for each package" in check(site)


# ---- a registry like Quay, which hides repositories that do not exist


def test_the_first_push_makes_repositories_that_nobody_may_ask_about(like_quay):
    with pytest.raises(CatalogAuthorizationError):
        like_quay.show()
    update = like_quay.update(OTTER)

    assert update.previous is None
    assert list(like_quay.packages()) == ["otter-cache"]
    assert not like_quay.release(OTTER).created


# ---- visibility


@pytest.fixture
def quay():
    with Quay() as made:
        yield made


def public_site(place, tmp_path, quay, token):
    made = CatalogPlace(place, tmp_path, quay=quay.client, public=True, token=token)
    for name in ("catalog", "otter-cache-bundle"):
        quay.add_image_repository("community-0", name)
    return made


@pytest.fixture
def public(tmp_path, quay):
    quay.add_organization("community-0")
    with sandbox_place(tmp_path) as place:
        yield public_site(place, tmp_path, quay, quay.add_oauth_token("community-0"))


def released(site):
    job = site.job(OTTER)
    return job, site.destination.release(job)


def test_new_repositories_of_the_catalog_and_its_bundles_are_made_public(public, quay):
    job, done = released(public)
    assert public.destination.is_public(job)
    assert public.destination.make_public(job, done)
    assert quay.is_public("community-0", "catalog")
    assert quay.is_public("community-0", "otter-cache-bundle")

    asked = len(quay.log)
    assert public.destination.make_public(job, done)
    assert {entry.method for entry in quay.log[asked:]} == {"GET"}


def test_the_repository_of_a_bundle_build_is_left_to_its_owner(public, quay):
    build = public.osbs("1.0.0")
    job = public.bundle_job(build)
    public.destination.make_public(job, public.destination.release(job))

    assert quay.is_public("community-0", "catalog")
    assert not quay.is_public("community-0", "otter-cache-bundle")


def test_what_could_not_be_made_public_is_told_as_the_rest_of_a_finished_update(public, quay):
    job, done = released(public)
    quay.faults.add(Fault(PUBLISH, status=502))
    with pytest.raises(QuayPackageError, match=r"is updated, but making .* public failed") as caught:
        public.destination.make_public(job, done)

    assert caught.value.transient
    assert public.destination.make_public(job, done)


def test_a_public_catalog_without_a_token_is_not_known_to_be_public(public, quay, caplog):
    public.catalog.token = None
    job, done = released(public)

    assert not public.destination.make_public(job, done)
    assert "catalog community is public but has no oauth_token" in caplog.text


def test_a_private_catalog_asks_nothing(sandbox, quay):
    job, done = released(sandbox)
    assert not sandbox.destination.make_public(job, done)
    assert quay.log == []


# ---- a catalog that cannot be read after it was written


def test_an_update_that_cannot_be_seen_yet_counts_for_people_and_is_seen_again_for_messages(sandbox):
    for comes_again in (False, True):
        job = sandbox.job(OTTER if comes_again else HERON, comes_again=comes_again)
        path = sandbox.image.repository.path
        put = f"PUT /v2/{path}/manifests/latest"
        lost = Fault(f"GET /v2/{path}/manifests/latest", status=500, times=None)
        sandbox.registry.before(put, lambda lost=lost: sandbox.registry.faults.add(lost))
        done = sandbox.destination.release(job)
        sandbox.registry.faults.clear()

        assert (done.created, done.listed) == (True, False)
        assert update_in(done).digest == sandbox.tag()
        if comes_again:
            with pytest.raises(CatalogError, match="could not be read afterwards") as caught:
                sandbox.destination.make_public(job, done)
            assert caught.value.transient
        else:
            assert not sandbox.destination.make_public(job, done)
        sandbox.destination = sandbox.another()


# ---- what the ledger says


def test_the_ledger_is_shown_whole_or_one_package_of_it(site):
    otter = site.update(OTTER)
    site.release(HERON)
    shown = site.show()

    assert [each.name for each in shown.packages] == ["heron", "otter-cache"]
    assert shown.digest == site.tag()
    (package,) = site.show("otter-cache").as_json()["packages"]
    assert package["channels"] == dict(otter.channels)
    assert [bundle["image"] for bundle in package["bundles"]] == [bundle.image for bundle in otter.bundles]


def test_content_of_another_destination_is_refused(sandbox):
    job = ReleaseJob(Target(None, catalog="community"), OTHER, None, sandbox.job(OTTER).request)
    with pytest.raises(TypeError, match="not made by this destination"):
        sandbox.destination.release(job)


class OTHER:
    package_name, digest, files, warnings = "otter-cache", "", (), ()
