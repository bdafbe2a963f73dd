# SPDX-License-Identifier: GPL-3.0-or-later
"""The repeated checks of catalogs, against registries: what they find out, and that they leave nothing behind."""

from __future__ import annotations

import contextlib
import re
from threading import Event
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError
from omps_worker.configuration.settings.catalogs import CatalogSettings
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.monitoring.catalog_probes import CatalogProbes
from omps_worker.monitoring.health import ANSWER_SECONDS
from omps_worker.sandbox.faults import Fault
from tests.support.docker_registry import PASSWORD, USER
from tests.support.images import SmallImage, docker_place, sandbox_place

WRONG = "s3cr3t/but.wrong"


class Watched:
    """A catalog in a registry, and the checks of it, as a worker has them."""

    def __init__(self, place, seconds=ANSWER_SECONDS, **table):
        self.place = place
        self.image = place.image()
        where = f"{self.image.repository.origin}/{self.image.repository.path}"
        login = {} if place.login == "none" else {"username": USER, "password": PASSWORD}
        catalog = CatalogSettings.model_validate({"image": f"{where}:latest", **login, **table})
        catalog.set_name("community")
        worker = SimpleNamespace(catalogs={"community": catalog}, ca_bundle=place.trusted)
        self.probes = CatalogProbes.of(worker, seconds, lambda: {"community"})

    def trouble(self):
        with contextlib.suppress(CatalogError):
            self.probes.look()
        return self.probes.troubles()["community"]

    def push(self):
        SmallImage().push(self.place.client(), self.image)


PLACES = ("sandbox none", "sandbox basic", "sandbox token", "docker basic", "docker token")


@pytest.fixture(scope="module", params=PLACES)
def place(request, tmp_path_factory):
    kind, _, login = request.param.partition(" ")
    with (docker_place if kind == "docker" else sandbox_place)(tmp_path_factory.mktemp("registry"), login) as made:
        yield made


@pytest.fixture
def sandbox(tmp_path):
    with sandbox_place(tmp_path, "token") as made:
        yield made


def test_a_catalog_is_well_before_its_first_push_and_after_it(place):
    watched = Watched(place)
    assert watched.trouble() is None
    watched.push()
    assert watched.trouble() is None


def test_a_login_that_the_registry_does_not_accept_is_trouble(place):
    wrong = Watched(place, username=USER, password=WRONG).trouble()
    anonymous = Watched(place, username=None, password=None).trouble()
    for told in (wrong, anonymous):
        assert told is None if place.login == "none" else "the registry answered 401" in told
        assert WRONG not in str(told)


def test_an_account_is_accepted_or_not_whatever_it_may_do(place):
    nowhere = Repository(place.image().repository.scheme, place.host, "somewhere/else")
    place.client().check_account(nowhere)
    if place.login != "none":
        client = place.client(Credentials(USER, SecretStr(WRONG)))
        with pytest.raises(CatalogAuthorizationError, match="Failed to log in to the image registry"):
            client.check_account(nowhere)


def test_only_reads_are_made_with_tokens_that_permit_no_more(sandbox):
    watched = Watched(sandbox)
    watched.trouble()
    assert not any("push" in entry.target for entry in sandbox.registry.log)
    watched.push()
    before = len(sandbox.registry.log)
    for _ in range(3):
        watched.trouble()
    asked = [(entry.method, entry.target.partition("?")[0]) for entry in sandbox.registry.log[before:]]
    assert asked == [("GET", f"/v2/{watched.image.repository.path}/tags/list")] * 3, "the token is kept"


def test_a_registry_like_quay_makes_no_repository_because_of_a_check(tmp_path):
    with sandbox_place(tmp_path, "token", like_quay=True) as place:
        watched = Watched(place)
        assert [watched.trouble() for _ in range(3)] == [None] * 3
        assert place.registry.repositories() == ()
        watched.push()
        assert watched.trouble() is None


def test_a_catalog_that_was_there_and_may_not_be_read_any_more_is_trouble(tmp_path):
    with sandbox_place(tmp_path, "token", like_quay=True) as place:
        watched = Watched(place)
        watched.push()
        assert watched.trouble() is None
        place.registry.faults.add(Fault("GET /v2/.*/tags/list", status=403, times=None))
        assert "the registry answered 403" in watched.trouble()


def test_a_registry_that_is_away_and_comes_back_is_told_and_so_is_one_that_fails(sandbox):
    watched = Watched(sandbox)
    assert watched.trouble() is None
    sandbox.registry.stop()
    assert "cannot be reached" in watched.trouble()
    sandbox.registry.start()
    assert watched.trouble() is None
    sandbox.registry.faults.add(Fault(f"GET /v2/{watched.image.repository.path}/tags/list", status=503))
    assert "503" in watched.trouble()
    assert watched.trouble() is None


@pytest.mark.parametrize(("seconds", "timeout"), [(ANSWER_SECONDS, "100ms"), (0.1, "5s")])
def test_a_check_waits_for_an_answer_as_long_as_the_catalog_and_the_checks_allow(sandbox, seconds, timeout):
    held = Event()
    sandbox.registry.faults.add(Fault("GET /v2/", hold=held))
    try:
        told = Watched(sandbox, seconds, timeout=timeout).trouble()
    finally:
        held.set()
    (waited,) = re.findall(r"within ([\d.]+) seconds", told)
    assert float(waited) <= 0.1


def test_a_tag_that_is_being_written_is_no_trouble(sandbox):
    watched = Watched(sandbox)
    watched.push()
    name = ImageName(watched.image.repository, "latest")
    sandbox.registry.faults.add(Fault(f"(GET|HEAD) /v2/{name.repository.path}/manifests/", status=500, times=None))
    assert watched.trouble() is None
