# SPDX-License-Identifier: GPL-3.0-or-later
"""Periodic checks of every organization: a query of the registry with the organization's token, as before a push.

A check queries a package that does not exist and changes nothing. It cannot tell a wrong token from a missing one; only
a login can. Because registries count refused logins, the worker logs in only when a token is new or seems to have lost
its rights, and then every ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omps_worker.common.errors import QuayAuthorizationError, QuayPackageError, RegistryError, WorkerError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.text import one_line
from omps_worker.destinations.app_registry.credential_checks import log_in
from omps_worker.monitoring.destination_probes import LOGIN_SECONDS, DestinationProbes
from omps_worker.monitoring.health import ANSWER_SECONDS, SLACK_SECONDS

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.destinations.app_registry.client import AppRegistry
    from omps_worker.destinations.app_registry.organizations import Organization

MOST_CALLS = 3
"""The most calls that a check takes: the query, the login, and a query whether the registry as a whole is away."""


@dataclass(frozen=True, slots=True)
class _LastLogin:
    """The last login of an organization: its token, its time, and what was wrong with the token."""

    token: SecretStr
    at: float
    trouble: str | None


class OrganizationProbes(DestinationProbes):
    """Checks ``organizations`` in turn, and knows what is wrong with each; see DestinationProbes."""

    def __init__(
        self,
        registry: AppRegistry,
        organizations: Mapping[str, Organization],
        needed: Callable[[], Collection[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        patience = MOST_CALLS * ANSWER_SECONDS + SLACK_SECONDS
        super().__init__("organization", organizations, needed, patience=patience, clock=clock)
        self._registry = registry
        self._organizations = dict(organizations)
        self._logins: dict[str, _LastLogin] = {}
        self._with_rights: set[str] = set()

    @staticmethod
    def nothing_publishable(message: str) -> QuayPackageError:
        """Return the error that says so."""
        return QuayPackageError(message)

    def _trouble(self, name: str) -> str | None:
        """Check one organization and return what is wrong with it. Raises RegistryError if the registry is away."""
        try:
            authorization = self._organizations[name].authorization()
            had_rights = name in self._with_rights
            if self._registry.has_rights(name, authorization):
                self._with_rights.add(name)
            elif had_rights:
                self._with_rights.remove(name)
                self._logins.pop(name, None)
            return self._login(name, authorization)
        except QuayPackageError as error:
            self._registry.is_there()
            return one_line(error.message)
        except WorkerError as error:
            return one_line(error.message)

    def _login(self, name: str, token: SecretStr) -> str | None:
        """Log in if a login is due, and return why the registry does not accept the token; None if it does."""
        last, now = self._logins.get(name), self._clock()
        if last is None or last.token != token or now - last.at >= LOGIN_SECONDS:
            last = self._logins[name] = _LastLogin(token, now, self._refusal(name))
        return last.trouble

    def _refusal(self, name: str) -> str | None:
        try:
            log_in(self._registry, self._organizations[name])
        except QuayAuthorizationError as error:
            return one_line(error.message)
        except (Inconclusive, RegistryError):
            # A push needs no login. If the login fails for another reason, the query of the package shows the problem.
            return None
        return None
