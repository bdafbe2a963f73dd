# SPDX-License-Identifier: GPL-3.0-or-later
"""Periodic checks of every organization: a query of the registry with the organization's token, as before a push.

There may be a hundred organizations and several replicas. The organizations are therefore checked one after the other,
at most one per second, and each at most every five seconds. A check queries a package that does not exist and changes
nothing. It cannot tell a wrong token from a missing one; only a login can. Because registries count refused logins, the
worker logs in only when a token is new or seems to have lost its rights, and then every ten minutes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from omps_worker.common.errors import QuayAuthorizationError, QuayPackageError, RegistryError, WorkerError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.text import one_line
from omps_worker.destinations.app_registry.credential_checks import log_in
from omps_worker.monitoring.health import ANSWER_SECONDS, EVERY_SECONDS, SLACK_SECONDS, Probe

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.destinations.app_registry.client import AppRegistry
    from omps_worker.destinations.app_registry.organizations import Organization

log = logging.getLogger(__name__)

PACE_SECONDS = 1.0
"""The shortest time between two checks, of whichever organizations, in seconds."""

LOGIN_SECONDS = 600.0
"""The seconds between two logins with the same token."""

MOST_CALLS = 3
"""The most calls that a check takes: the query, the login, and a query whether the registry as a whole is away."""


NOT_YET = "it has not been checked yet"


@dataclass(frozen=True, slots=True)
class _LastLogin:
    """The last login of an organization: its token, its time, and what was wrong with the token."""

    token: SecretStr
    at: float
    trouble: str | None


class OrganizationProbes:
    """Checks ``organizations`` in turn, and knows what is wrong with each.

    ``needed`` returns the organizations that the mapping publishes to now. If it returns none, all organizations count
    as needed. ``clock`` returns seconds.
    """

    def __init__(
        self,
        registry: AppRegistry,
        organizations: Mapping[str, Organization],
        needed: Callable[[], Collection[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._organizations = dict(organizations)
        self._needed = needed
        self._clock = clock
        self._turns = cycle(self._organizations)
        self._known: dict[str, str | None] = {}
        self._logins: dict[str, _LastLogin] = {}
        self._with_rights: set[str] = set()

    def question(self) -> Probe:
        """Return the Probe for HealthChecks that checks the next organization; see ``look``."""
        pace = max(PACE_SECONDS, EVERY_SECONDS / max(len(self._organizations), 1))
        return Probe(self.look, every=pace, patience=MOST_CALLS * ANSWER_SECONDS + SLACK_SECONDS)

    def troubles(self) -> dict[str, str | None]:
        """Return what is wrong with each organization that was checked, by name; None for one that is well."""
        return dict(self._known)

    def warnings(self) -> list[str]:
        """Return one sentence for each organization that has a problem."""
        return [f"organization {name}: {trouble}" for name, trouble in self.troubles().items() if trouble is not None]

    def look(self) -> None:
        """Check the next organization. Raises QuayPackageError if no needed organization is known to be well."""
        name, unknown = next(self._turns), NOT_YET
        try:
            self._record(name, self._trouble(name))
        except RegistryError as error:
            # The registry as a whole is away, which another health check reports: this organization stays as it was.
            unknown = one_line(error.message)
        needed = [each for each in self._organizations if each in self._needed()] or list(self._organizations)
        troubles = {each: self._known.get(each, unknown) for each in needed}
        if all(troubles.values()):
            example = name if name in troubles else needed[0]
            several = len(needed) > 1
            subject = f"any of {len(needed)} organizations; {example}" if several else example
            raise QuayPackageError(f"nothing can be published to {subject}: {troubles[example]}")

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

    def _record(self, name: str, trouble: str | None) -> None:
        before = self._known.get(name)
        self._known[name] = trouble
        if trouble is not None and before is None:
            log.warning("nothing can be published to the organization %s: %s", name, trouble)
        elif trouble is None and before is not None:
            log.info("builds can be published to the organization %s again", name)
