# SPDX-License-Identifier: GPL-3.0-or-later
"""Organizations in turn: what is known of each, when nothing can be published, and how much the registry is asked."""

from __future__ import annotations

import logging

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import Fault, QuayAuthorizationError, QuayPackageError, SettingsError
from omps_worker.destinations.app_registry.client import LoginVerdict
from omps_worker.monitoring.health import EVERY_SECONDS
from omps_worker.monitoring.organization_probes import LOGIN_SECONDS, OrganizationProbes

FINE = LoginVerdict(True, "logged in")
REFUSED = LoginVerdict(False, "Invalid Username or Password")
NO_LOGIN = LoginVerdict(None, "this registry has no login")


class Organization:
    def __init__(self, token: str | None = "basic YTpi") -> None:
        self.token = token

    def authorization(self) -> SecretStr:
        if self.token is None:
            raise SettingsError([Fault("configuration", "community.token_file", "the secret is gone")], transient=True)
        return SecretStr(self.token)


class Registry:
    """Fails looks of some organizations and logins with some tokens, and counts what it is asked."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.logins: dict[str, LoginVerdict | Exception] = {}
        self.away = False
        self.exists: bool | None = None
        self.looked: list[str] = []
        self.logged_in = 0

    def has_rights(self, organization: str, _authorization: SecretStr | None) -> bool:
        self.looked.append(organization)
        if self.away:
            raise QuayPackageError("the registry cannot be reached", transient=True)
        if organization in self.failing:
            raise self.failing[organization]
        return self.exists is False

    def is_there(self) -> None:
        if self.away:
            raise QuayPackageError("the registry cannot be reached", transient=True)

    def check_credentials(self, authorization: SecretStr) -> LoginVerdict:
        self.logged_in += 1
        verdict = self.logins.get(authorization.get_secret_value(), FINE)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class Turns:
    """Two organizations, or others, and their registry."""

    def __init__(self, *names: str, needed: tuple[str, ...] = ()) -> None:
        self.registry = Registry()
        self.organizations = {name: Organization() for name in names or ("community", "partners")}
        self.needed = needed
        self.now = 0.0
        self.looks = OrganizationProbes(self.registry, self.organizations, lambda: self.needed, clock=lambda: self.now)  # type: ignore[arg-type]

    def round(self) -> str | None:
        """Look at each once; what was said to be wrong with all together after the last."""
        told: str | None = None
        for _ in self.organizations:
            told = None
            try:
                self.looks.look()
            except QuayPackageError as error:
                told = error.message
        return told


def failed(status: int) -> QuayPackageError:
    return QuayPackageError(f"the registry answered {status}", transient=True)


def test_what_fails_for_one_organization_is_known_of_it_and_stops_no_other() -> None:
    turns = Turns()
    assert turns.round() is None
    assert turns.looks.troubles() == {"community": None, "partners": None}
    turns.registry.failing["community"] = failed(500)
    assert turns.round() is None
    assert turns.looks.troubles() == {"community": "the registry answered 500", "partners": None}
    assert turns.looks.warnings() == ["organization community: the registry answered 500"]


@pytest.mark.parametrize("error", [failed(502), QuayAuthorizationError("the registry answered 401")])
def test_when_every_look_fails_nothing_can_be_published(error: Exception) -> None:
    turns = Turns()
    turns.registry.failing = {"community": error, "partners": error}
    told = turns.round()
    assert told is not None
    assert told.startswith("nothing can be published to any of 2 organizations; partners: the registry answered")
    del turns.registry.failing["community"]
    assert turns.round() is None


def test_only_those_that_the_mapping_publishes_to_count() -> None:
    turns = Turns(needed=("community", "not configured"))
    turns.registry.failing["community"] = failed(500)
    assert turns.round() == "nothing can be published to community: the registry answered 500"
    turns.needed = ("community", "partners")
    assert turns.round() is None
    turns.needed = ()
    assert turns.round() is None


def test_nothing_is_said_to_be_well_before_it_was_looked_at() -> None:
    turns = Turns(needed=("partners",))
    with pytest.raises(QuayPackageError, match="partners: it has not been checked yet"):
        turns.looks.look()
    assert turns.looks.troubles() == {"community": None}


@pytest.mark.parametrize("why", ["refused", "absent"])
def test_an_organization_without_a_good_token_is_not_well_until_it_has_another(why: str) -> None:
    turns = Turns()
    assert turns.round() is None
    turns.organizations["community"].token = "basic old" if why == "refused" else None
    turns.registry.logins["basic old"] = REFUSED
    turns.round()
    (warning,) = turns.looks.warnings()
    assert ("Invalid Username" if why == "refused" else "community.token_file: the secret is gone") in warning
    turns.organizations["community"].token = "basic new"
    turns.round()
    assert turns.looks.warnings() == [], "at its next turn"


def test_a_registry_that_cannot_tell_about_logins_is_believed_when_it_answers_looks() -> None:
    turns = Turns()
    turns.registry.logins["basic YTpi"] = NO_LOGIN
    assert turns.round() is None
    turns.now += LOGIN_SECONDS
    turns.registry.logins["basic YTpi"] = failed(500)
    assert turns.round() is None
    assert turns.looks.warnings() == []


def test_one_logs_in_seldom_with_the_same_token_and_notices_all_the_same_that_it_was_revoked() -> None:
    turns = Turns()
    for _ in range(50):
        turns.round()
        turns.now += EVERY_SECONDS
    assert turns.registry.logged_in == 2
    turns.registry.logins["basic YTpi"] = REFUSED
    turns.now = LOGIN_SECONDS
    assert turns.round() is not None
    assert turns.registry.logged_in == 4
    for _ in range(50):
        turns.round()
        turns.now += EVERY_SECONDS
    assert turns.registry.logged_in == 4, "a refused token is not tried again and again either"


def test_a_token_that_loses_its_rights_is_tried_at_the_next_turn() -> None:
    turns = Turns()
    turns.registry.exists = False
    turns.round()
    turns.round()
    turns.registry.exists, turns.registry.logins["basic YTpi"] = None, REFUSED
    turns.round()
    assert len(turns.looks.warnings()) == 2
    turns.round()
    assert turns.registry.logged_in == 4


def test_while_the_registry_is_away_nothing_is_learned_of_organizations(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns()
    turns.round()
    turns.registry.away = True
    assert turns.round() is None, "it is the part registry that is away"
    assert turns.looks.warnings() == []
    fresh = Turns()
    fresh.registry.away = True
    assert "the registry cannot be reached" in (fresh.round() or "")
    assert (fresh.looks.troubles(), caplog.records) == ({}, [])


def test_trouble_and_its_end_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    turns = Turns()
    turns.registry.failing["community"] = failed(500)
    turns.round()
    turns.round()
    turns.registry.failing.clear()
    turns.round()
    turns.round()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "community" in caplog.text


@pytest.mark.parametrize(("organizations", "seconds"), [(1, 5.0), (2, 5.0), (10, 10.0), (100, 100.0)])
def test_a_hundred_organizations_are_looked_at_in_turn_one_a_second(organizations: int, seconds: float) -> None:
    turns = Turns(*(f"organization-{number}" for number in range(organizations)))
    assert turns.looks.question().every * organizations == pytest.approx(seconds)
    turns.round()
    assert turns.registry.looked == list(turns.organizations)


def test_no_secret_is_in_what_is_known() -> None:
    turns = Turns()
    turns.registry.logins["basic YTpi"] = REFUSED
    assert "YTpi" not in f"{turns.round()} {turns.looks.troubles()} {turns.looks.warnings()}"
