# SPDX-License-Identifier: GPL-3.0-or-later
"""A cheap look whether a token may push at all, before anything heavy is done for whoever sent it.

A registry tells nobody what a token may do; but whoever has rights in an organization is told that a package is
missing (404), and everybody else that it is none of their business (403). Robots that may only create packages are
told that too, so then a login decides whether the registry knows them. What is found out is kept for a while.
"""

from __future__ import annotations

import enum
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from omps_worker.common.errors import QuayAuthorizationError, RegistryError
from omps_worker.destinations.app_registry.answers import basic_credentials
from omps_worker.destinations.app_registry.client import LoginVerdict

ASK_SECONDS = 3.0
"""How long one question to the registry may take; a push itself tells as well, only later."""

KEPT = 1000
"""Of how many tokens it is kept what is known."""


class Permission(enum.Enum):
    """What is known of a token in an organization."""

    KNOWN = "known"
    """It has rights there, or is the registry's own: it may be tried."""
    UNKNOWN = "unknown"
    """The registry could not be asked, or did not tell."""
    REFUSED = "refused"
    """Nothing can be pushed with it."""


@dataclass(frozen=True, slots=True)
class PermissionCheck:
    """A standing, and what the registry said when it refused: its JSON, {} if there was none."""

    standing: Permission
    response: Any = field(default_factory=dict)


KNOWN, UNKNOWN, REFUSED = (
    PermissionCheck(Permission.KNOWN),
    PermissionCheck(Permission.UNKNOWN),
    PermissionCheck(Permission.REFUSED),
)

KEPT_SECONDS = {Permission.KNOWN: 300.0, Permission.UNKNOWN: 5.0, Permission.REFUSED: 10.0}
"""For how many seconds it is kept."""


class Registry(Protocol):
    """The part of the app registry that is needed; see ``client.AppRegistry``."""

    def has_rights(self, organization: str, authorization: SecretStr | None) -> bool:
        """Whether it tells these credentials which packages of the organization are missing."""
        ...

    def check_credentials(self, authorization: SecretStr) -> LoginVerdict:
        """Whether the registry would know who sends this."""
        ...


class PermissionChecker:
    """What tokens may do; for any number of threads. ``clock`` gives seconds."""

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, bytes], tuple[float, PermissionCheck]] = OrderedDict()

    def kept(self, organization: str, authorization: SecretStr) -> PermissionCheck | None:
        """What is known already. Asks nobody."""
        with self._lock:
            until, finding = self._kept.get(_key(organization, authorization), (0.0, None))
        return finding if self._clock() < until else None

    def ask(self, organization: str, authorization: SecretStr) -> PermissionCheck:
        """What is known, or what the registry says: two short questions at most. Never raises RegistryError."""
        finding = self.kept(organization, authorization)
        if finding is None:
            try:
                finding = self._ask(organization, authorization)
            except RegistryError:
                finding = UNKNOWN
            with self._lock:
                key = _key(organization, authorization)
                self._kept[key] = self._clock() + KEPT_SECONDS[finding.standing], finding
                self._kept.move_to_end(key)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return finding

    def _ask(self, organization: str, authorization: SecretStr) -> PermissionCheck:
        if self._registry.has_rights(organization, authorization):
            return KNOWN
        credentials = basic_credentials(authorization)
        if credentials is None:
            return REFUSED
        robots_organization, plus, _ = credentials[0].partition("+")
        if plus and robots_organization != organization:
            # A robot has rights in its own organization only.
            return REFUSED
        verdict = self._registry.check_credentials(authorization)
        if verdict.accepted is False:
            return PermissionCheck(Permission.REFUSED, verdict.response)
        return KNOWN if verdict.accepted else UNKNOWN


def refusal(organization: str, finding: PermissionCheck) -> QuayAuthorizationError:
    """The error of who may not push."""
    return QuayAuthorizationError(
        f"Failed to push to {organization}: Unauthorized access. The registry does not know these credentials, or they "
        "have no rights in this organization. Nothing was looked at.",
        details={"quay_response": finding.response},
        transient=True,
    )


def _key(organization: str, authorization: SecretStr) -> tuple[str, bytes]:
    return organization, hashlib.sha256(authorization.get_secret_value().encode("utf-8", "replace")).digest()
