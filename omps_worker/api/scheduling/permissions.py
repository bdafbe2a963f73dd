# SPDX-License-Identifier: GPL-3.0-or-later
"""A cheap check whether a token may push at all, before expensive work is done for its client.

A registry does not tell what a token may do. But to a token with rights in an organization it answers that a package
does not exist (404), and to all others that access is denied (403). Robot accounts that may only create packages get a
403 as well, so after a 403 a login decides whether the registry knows the account. Findings are cached for a while.
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
from omps_worker.destinations.app_registry.client import LoginVerdict
from omps_worker.destinations.refusals import basic_credentials

ASK_SECONDS = 3.0
"""The timeout of one request to the registry, in seconds. A push shows as well whether it is allowed, but later."""

KEPT = 1000
"""The maximum number of tokens whose finding is cached."""


class Permission(enum.Enum):
    """What is known about a token in an organization."""

    KNOWN = "known"
    """The token has rights there, or the registry knows its account: the push may be tried."""
    UNKNOWN = "unknown"
    """The registry could not be queried, or its answer was inconclusive."""
    REFUSED = "refused"
    """Nothing can be pushed with this token."""


@dataclass(frozen=True, slots=True)
class PermissionCheck:
    """The finding about a token; ``response`` is the registry's JSON when it refused, {} if there was none."""

    permission: Permission
    response: Any = field(default_factory=dict)


KNOWN, UNKNOWN, REFUSED = (
    PermissionCheck(Permission.KNOWN),
    PermissionCheck(Permission.UNKNOWN),
    PermissionCheck(Permission.REFUSED),
)

KEPT_SECONDS = {Permission.KNOWN: 300.0, Permission.UNKNOWN: 5.0, Permission.REFUSED: 10.0}
"""How many seconds a finding is cached."""


class Registry(Protocol):
    """The part of the app registry's client that the check needs; see ``client.AppRegistry``."""

    def has_rights(self, organization: str, authorization: SecretStr | None) -> bool:
        """Return whether these credentials may see which packages of the organization exist."""
        ...

    def check_credentials(self, authorization: SecretStr) -> LoginVerdict:
        """Return whether the registry knows the account of these credentials."""
        ...


class PermissionChecker:
    """Checks what tokens may do, and caches the findings. Thread-safe. ``clock`` returns seconds."""

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, bytes], tuple[float, PermissionCheck]] = OrderedDict()

    def kept(self, organization: str, authorization: SecretStr) -> PermissionCheck | None:
        """Return the cached finding, or None. Sends no requests."""
        with self._lock:
            until, finding = self._kept.get(_key(organization, authorization), (0.0, None))
        return finding if self._clock() < until else None

    def ask(self, organization: str, authorization: SecretStr) -> PermissionCheck:
        """Return the cached finding, or query the registry, with at most two short requests.

        Never raises RegistryError: if the registry cannot be queried, the finding is UNKNOWN.
        """
        finding = self.kept(organization, authorization)
        if finding is None:
            try:
                finding = self._ask(organization, authorization)
            except RegistryError:
                finding = UNKNOWN
            with self._lock:
                key = _key(organization, authorization)
                self._kept[key] = self._clock() + KEPT_SECONDS[finding.permission], finding
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
            # A robot account has rights only in its own organization.
            return REFUSED
        verdict = self._registry.check_credentials(authorization)
        if verdict.accepted is False:
            return PermissionCheck(Permission.REFUSED, verdict.response)
        return KNOWN if verdict.accepted else UNKNOWN


def refusal(organization: str, finding: PermissionCheck) -> QuayAuthorizationError:
    """Return the error for a token that may not push."""
    return QuayAuthorizationError(
        f"Failed to push to {organization}: Unauthorized access. The registry does not know these credentials, or they "
        "have no rights in this organization. The push was not attempted.",
        details={"quay_response": finding.response},
        transient=True,
    )


def _key(organization: str, authorization: SecretStr) -> tuple[str, bytes]:
    return organization, hashlib.sha256(authorization.get_secret_value().encode("utf-8", "replace")).digest()
