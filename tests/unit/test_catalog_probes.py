# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogs in turn: what is known of each, what is asked for it, and when nothing can be published at all."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import (
    CatalogAuthorizationError,
    CatalogError,
    Fault,
    QuayPackageError,
    SettingsError,
)
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.image_name import ImageTemplate, Repository
from omps_worker.monitoring.catalog_probes import CatalogProbes
from omps_worker.monitoring.destination_probes import LOGIN_SECONDS, DestinationProbes, join
from omps_worker.monitoring.health import EVERY_SECONDS, Probe

AWAY = CatalogError("the image registry cannot be reached", transient=True)
WRONG = CatalogAuthorizationError("the password is wrong")
HIDDEN = CatalogAuthorizationError("access to the repository is denied")


class FakeCatalog:
    """A catalog in the configuration, and the registry of which it is asked."""

    def __init__(self, image: str, bundles: str) -> None:
        self.image = ImageTemplate.parse(image, tagged=True)
        self.bundle_images = ImageTemplate.parse(bundles, tagged=False)
        self.password: str | None = "first"
        self.repository: Exception | None = None
        """What a look at the repository says."""
        self.accounts: dict[str, Exception] = {}
        """What registries say to the account, by host."""
        self.asked: list[str] = []

    def credentials(self, repository: Repository) -> Credentials | None:
        if self.password == "":
            raise SettingsError([Fault("configuration", "auth_file", "the file is missing")], transient=True)
        return Credentials("robot", SecretStr(self.password)) if self.password else None

    def check_login(self, repository: Repository) -> None:
        self.asked.append(repository.path)
        if self.repository is not None:
            raise self.repository

    def check_account(self, repository: Repository) -> None:
        self.asked.append(repository.host)
        if repository.host in self.accounts:
            raise self.accounts[repository.host]

    def refuse_login(self) -> None:
        self.repository = self.accounts["a.example"] = WRONG

    def accept(self) -> None:
        self.repository = None
        self.accounts.clear()


class Turns:
    """Catalogs, and the checks of them."""

    def __init__(self, *names: str, image: str = "team/catalog", bundles: str = "a.example") -> None:
        self.catalogs = {
            name: FakeCatalog(f"https://a.example/{image}:{name}", f"https://{bundles}/team/{{package}}-bundle")
            for name in names or ("community", "partners")
        }
        self.needed: tuple[str, ...] = tuple(self.catalogs)
        self.now = 0.0
        self.probes = CatalogProbes(self.catalogs, lambda each: each, lambda: self.needed, clock=lambda: self.now)  # type: ignore[arg-type, return-value]

    @property
    def first(self) -> FakeCatalog:
        return self.catalogs["community"]

    def round(self) -> str | None:
        """Look at each once; what was said to be wrong with all together after the last."""
        told: str | None = None
        for _ in self.catalogs:
            told = None
            try:
                self.probes.look()
            except CatalogError as error:
                told = error.message
        return told


class Elsewhere(DestinationProbes):
    """Destinations of another kind, which are as they are told to be."""

    def __init__(self, *names: str, needed: tuple[str, ...]) -> None:
        super().__init__("organization", names, lambda: needed, patience=1.0)
        self.trouble: str | None = None

    @staticmethod
    def nothing_publishable(message: str) -> QuayPackageError:
        return QuayPackageError(message)

    def _trouble(self, name: str) -> str | None:
        return self.trouble


def test_a_catalog_that_is_well_takes_one_read() -> None:
    turns = Turns("community")
    assert turns.round() is None
    assert turns.probes.troubles() == {"community": None}
    assert turns.first.asked == ["team/catalog"]


def test_a_registry_that_is_away_is_known_of_its_catalog_alone() -> None:
    turns = Turns()
    turns.first.repository = AWAY
    assert turns.round() is None
    assert turns.probes.troubles() == {"community": "the image registry cannot be reached", "partners": None}
    assert turns.probes.warnings() == ["catalog community: the image registry cannot be reached"]
    turns.first.accept()
    turns.round()
    assert turns.probes.warnings() == []


def test_a_refused_login_is_not_sent_again_and_again() -> None:
    turns = Turns()
    turns.first.refuse_login()
    for _ in range(50):
        turns.round()
        turns.now += EVERY_SECONDS
    assert turns.probes.warnings() == ["catalog community: the password is wrong"]
    assert turns.first.asked == ["team/catalog", "a.example"]
    turns.now = LOGIN_SECONDS
    turns.round()
    assert len(turns.first.asked) == 4


def test_another_login_is_tried_at_the_next_turn() -> None:
    turns = Turns()
    turns.first.refuse_login()
    turns.round()
    turns.first.accept()
    turns.round()
    assert turns.probes.warnings() != []
    turns.first.password = "second"
    turns.round()
    assert turns.probes.warnings() == []


def test_credentials_that_are_not_there_are_trouble_without_a_call() -> None:
    turns = Turns()
    turns.first.password = ""
    turns.round()
    (warning,) = turns.probes.warnings()
    assert "the file is missing" in warning
    assert turns.first.asked == []


def test_a_repository_that_hides_may_not_exist_yet_and_is_well_if_the_account_is_accepted() -> None:
    turns = Turns("community")
    turns.first.repository = HIDDEN
    for _ in range(50):
        assert turns.round() is None
        turns.now += EVERY_SECONDS
    assert turns.first.asked.count("team/catalog") == 1, "seldom, as each look takes a new token"
    turns.first.accounts["a.example"] = AWAY
    assert turns.round() is not None
    turns.first.accounts["a.example"] = WRONG
    assert turns.round() is not None
    asked = len(turns.first.asked)
    turns.round()
    assert len(turns.first.asked) == asked


def test_a_repository_that_was_there_and_hides_now_is_trouble() -> None:
    turns = Turns("community")
    turns.round()
    turns.first.repository = HIDDEN
    assert turns.round() == "nothing can be published to community: access to the repository is denied"
    turns.first.accept()
    assert turns.round() is None, "at the next turn: no login was refused"


def test_nobody_without_a_login_makes_a_repository_that_hides() -> None:
    turns = Turns("community")
    turns.first.password = None
    turns.first.repository = HIDDEN
    assert turns.round() is not None


def test_the_registry_of_the_bundles_is_asked_too_if_it_is_another() -> None:
    turns = Turns("community", bundles="b.example")
    assert turns.round() is None
    assert turns.first.asked == ["team/catalog", "b.example"]
    turns.first.accounts["b.example"] = AWAY
    assert turns.round() == "nothing can be published to community: the image registry cannot be reached"


def test_if_each_package_has_an_image_of_its_own_the_account_is_checked() -> None:
    turns = Turns("community", image="team/{package}-catalog")
    assert turns.round() is None
    assert turns.first.asked == ["a.example"]
    turns.first.accounts["a.example"] = WRONG
    assert turns.round() is not None


def test_when_every_catalog_that_the_mapping_names_fails_nothing_can_be_published() -> None:
    turns = Turns()
    turns.first.repository = AWAY
    turns.needed = ("community",)
    assert turns.round() == "nothing can be published to community: the image registry cannot be reached"
    turns.needed = ("community", "partners")
    assert turns.round() is None
    turns.catalogs["partners"].repository = AWAY
    told = "nothing can be published to any of 2 catalogs; partners: the image registry cannot be reached"
    assert turns.round() == told


def test_nothing_is_said_to_be_well_before_it_was_looked_at() -> None:
    turns = Turns()
    turns.needed = ("partners",)
    with pytest.raises(CatalogError, match="partners: it has not been checked yet"):
        turns.probes.look()
    assert turns.probes.troubles() == {"community": None}


def test_the_worker_is_ready_as_long_as_anything_can_be_published_to_a_destination_of_either_kind() -> None:
    turns, other = Turns(), Elsewhere("community", needed=("community",))
    join(turns.probes, other)
    for catalog in turns.catalogs.values():
        catalog.repository = AWAY
    assert turns.round() is not None, "the organization has not been checked yet"
    other.look()
    assert turns.round() is None
    assert len(turns.probes.warnings()) == 2
    other.trouble = "its token is refused"
    with pytest.raises(QuayPackageError, match="nothing can be published to community: its token is refused"):
        other.look()
    assert turns.round() is not None
    turns.first.accept()
    assert turns.round() is None
    other.look()


def test_destinations_that_the_mapping_does_not_name_help_nobody() -> None:
    turns, other = Turns(), Elsewhere("community", needed=())
    join(turns.probes, other)
    other.look()
    for catalog in turns.catalogs.values():
        catalog.repository = AWAY
    assert turns.round() is not None
    turns.needed = ()
    turns.first.accept()
    other.trouble = "its token is refused"
    turns.round()
    with pytest.raises(QuayPackageError):
        other.look()


def test_many_catalogs_are_checked_one_a_second_and_a_slow_name_server_makes_no_other_catalog_unready() -> None:
    question = Turns(*(f"catalog-{number}" for number in range(100))).probes.question()
    assert isinstance(question, Probe)
    assert question.every * 100 == pytest.approx(100.0)
    assert question.patience > 30


def test_no_secret_is_in_what_is_known() -> None:
    turns = Turns()
    turns.first.password = "s3cr3t"
    turns.first.refuse_login()
    assert "s3cr3t" not in f"{turns.round()} {turns.probes.troubles()} {vars(turns.probes)}"
