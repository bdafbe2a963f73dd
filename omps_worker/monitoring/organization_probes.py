# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at every organization of the registry with its token, as a push does, again and again.

There may be a hundred of them, and several replicas: they are looked at one after the other, one a second at
most, and each no oftener than every five seconds. A look changes nothing, and is at a package that nobody has. It
cannot tell a wrong token from none, which only a login does; as registries count logins that they refuse, one logs
in when a token is new or seems to have lost its rights, and then every ten minutes.
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
"""From one look to the next, at least, whoever it is at."""

LOGIN_SECONDS = 600.0
"""From one login with the same token to the next."""

MOST_CALLS = 3
"""How many calls a look may take: the login, the look itself, and whether it is the registry that is away."""


NOT_YET = "it was not looked at yet"


@dataclass(frozen=True, slots=True)
class _LastLogin:
    """With which token one logged in last, when, and what was wrong with it."""

    token: SecretStr
    at: float
    trouble: str | None


class OrganizationProbes:
    """What is wrong with each of ``organizations``.

    ``needed`` are those that builds are published to now; if it names none, all are. ``clock`` is in seconds.
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
        """The question of a lookout that looks at the next one; see ``look``."""
        pace = max(PACE_SECONDS, EVERY_SECONDS / max(len(self._organizations), 1))
        return Probe(self.look, every=pace, patience=MOST_CALLS * ANSWER_SECONDS + SLACK_SECONDS)

    def troubles(self) -> dict[str, str | None]:
        """For each that was looked at what is wrong with it, and None if nothing is."""
        return dict(self._known)

    def warnings(self) -> list[str]:
        """What is wrong, a sentence for each organization that something is wrong with."""
        return [f"organization {name}: {trouble}" for name, trouble in self.troubles().items() if trouble is not None]

    def look(self) -> None:
        """Look at the next one. Raises QuayPackageError if none of those that are needed is known to be well."""
        name, away = next(self._turns), NOT_YET
        try:
            self._learn(name, self._trouble(name))
        except RegistryError as error:
            # It is away for all, which is told as such: nothing was learned of this one.
            away = one_line(error.message)
        needed = [each for each in self._organizations if each in self._needed()] or list(self._organizations)
        troubles = {each: self._known.get(each, away) for each in needed}
        if all(troubles.values()):
            told = name if name in troubles else needed[0]
            every = f"any of {len(needed)} organizations" if len(needed) > 1 else told
            which = f"; {told}" if len(needed) > 1 else ""
            raise QuayPackageError(f"nothing can be published to {every}{which}: {troubles[told]}")

    def _trouble(self, name: str) -> str | None:
        """What is wrong with it. Raises RegistryError if the registry is away."""
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
        """Why the registry does not accept the token, if it says so."""
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
            # No push needs a login: what comes of one that fails for another reason, the look tells.
            return None
        return None

    def _learn(self, name: str, trouble: str | None) -> None:
        before = self._known.get(name)
        self._known[name] = trouble
        if trouble is not None and before is None:
            log.warning("nothing can be published to the organization %s: %s", name, trouble)
        elif trouble is None and before is not None:
            log.info("the organization %s is well again", name)
