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
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.model import Target
from omps_worker.destinations import ReleaseJob
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageTemplate
from omps_worker.sandbox.faults import Fault
from tests.support.catalog_places import (
    HERON,
    OTTER,
    CatalogPlace,
    catalog_in_sandbox,
    catalog_place,
    destination_of,
    update_in,
)
from tests.support.docker_registry import PASSWORD
from tests.support.images import ROBOT, SmallImage, docker_place, sandbox_place
from tests.support.quay import PUBLISH, Quay

sandbox = catalog_in_sandbox


@pytest.fixture(params=["sandbox", "docker-registry"])
def site(request, tmp_path):
    opened = docker_place if request.param == "docker-registry" else sandbox_place
    with opened(tmp_path, "token") as place:
        yield CatalogPlace(place, tmp_path)


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
        with pytest.raises(CatalogAuthorizationError, match="Failed to begin an upload") as caught:
            check(site, reader)
        assert not caught.value.transient


@pytest.mark.parametrize("image", ["catalog:latest", "{package}-catalog:v1"])
@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_wrong_password_is_a_lasting_failure_whatever_is_there(tmp_path, login, image):
    with sandbox_place(tmp_path, login, like_quay=True) as place:
        site = CatalogPlace(place, tmp_path, image=image)
        for _ in range(2):
            place.registry.accounts.add("robot", "another password")
            with pytest.raises(CatalogAuthorizationError, match="Failed to log in to the image registry") as caught:
                check(site, site.another())
            assert not caught.value.transient
            place.registry.accounts.add("robot", PASSWORD)
            site.release(OTTER)


@pytest.mark.parametrize("image", ["catalog:latest", "{package}-catalog:v1"])
def test_a_catalog_without_a_login_where_one_is_wanted_fails_for_want_of_one(tmp_path, image):
    with sandbox_place(tmp_path, "token") as place:
        place.login = "none"
        site = CatalogPlace(place, tmp_path, image=image)
        with pytest.raises(
            CatalogAuthorizationError, match=r"No login is configured for .* username .* auth_file"
        ) as caught:
            check(site)
        assert not caught.value.transient


def test_the_registry_of_the_bundles_is_checked_where_it_is_another(sandbox, tmp_path):
    with sandbox_place(tmp_path / "other", "basic") as other:
        sandbox.catalog.bundle_images = ImageTemplate.parse(f"{other.url}/{{package}}-bundle", tagged=False)
        client = ImageRegistryClient(lambda each: ROBOT if each.host == other.host else None, timeout=20)
        destination = destination_of(sandbox.catalog, client, sandbox.locks)

        assert "not there yet" in check(sandbox, destination)
        other.registry.accounts.add("robot", "another password")
        with pytest.raises(CatalogAuthorizationError, match=f"log in to the image registry {other.host}"):
            check(sandbox, destination)
        other.registry.stop()
        with pytest.raises(CatalogError, match=f"reach the image registry {other.host}"):
            check(sandbox, destination)


def test_a_registry_that_is_away_fails_the_check(sandbox):
    sandbox.registry.stop()
    with pytest.raises(CatalogError) as caught:
        check(sandbox)
    assert caught.value.transient


def test_a_catalog_for_each_package_is_checked_as_far_as_it_is_known(tmp_path):
    with catalog_place("sandbox", tmp_path, image="{package}-catalog:v1") as site:
        assert "one image for each package" in check(site)


# ---- a registry like Quay, which hides repositories that do not exist


def test_a_repository_that_may_be_missing_is_a_doubt_and_is_not_made_by_the_check(like_quay):
    with pytest.raises(Inconclusive, match="not there yet, or the login has no right to see it: the first push tells"):
        check(like_quay)
    assert like_quay.registry.repositories() == ()
    assert writes(like_quay) == []

    like_quay.release(OTTER)
    assert "1 package(s), 2 bundle(s)" in check(like_quay)


def test_a_plan_takes_a_repository_that_may_be_missing_for_missing_and_does_not_make_it(like_quay, caplog):
    job = like_quay.job(OTTER)
    with caplog.at_level("WARNING"):
        planned = update_in(like_quay.destination.plan(job))

    assert planned.previous is None
    assert [bundle.created for bundle in planned.bundles] == [True, True]
    assert f"{like_quay.image} is not there yet, or the login has no right to see it" in caplog.text
    assert like_quay.registry.repositories() == ()
    assert like_quay.destination.release(job).created
    assert not like_quay.destination.plan(job).created


def test_a_plan_with_a_wrong_password_or_without_a_login_knows_nothing(like_quay):
    job = like_quay.job(OTTER)
    like_quay.registry.accounts.add("robot", "another password")
    with pytest.raises(CatalogAuthorizationError, match="Failed to log in to the image registry"):
        like_quay.another().plan(job)
    like_quay.place.login = "none"
    with pytest.raises(CatalogAuthorizationError, match="No login is configured"):
        like_quay.another().plan(job)


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
