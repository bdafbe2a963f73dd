# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an organization's credentials that change nothing: a login, and a query of its packages."""

from __future__ import annotations

from omps_worker.common.errors import QuayAuthorizationError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.organizations import Organization


def log_in(registry: AppRegistry, organization: Organization) -> str:
    """Log in with the organization's credentials and return what the registry says about them.

    Raises Inconclusive if the registry does not say whether they are valid, QuayAuthorizationError if it does not
    accept them, and RegistryError if it cannot be queried.
    """
    verdict = registry.check_credentials(organization.authorization())
    if verdict.accepted is None:
        raise Inconclusive(verdict.detail)
    if not verdict.accepted:
        raise QuayAuthorizationError(f"The registry does not accept the credentials: {verdict.detail}", transient=False)
    return verdict.detail


def check_organization(registry: AppRegistry, name: str, organization: Organization) -> str:
    """Log in with the organization's credentials, query its packages with them, and return what the registry says.

    Raises SettingsError without credentials, QuayPackageError, and QuayAuthorizationError: a refusal is not transient
    here, even if the registry has no login, so that only the query shows it.
    """
    inconclusive, detail = None, ""
    try:
        detail = log_in(registry, organization)
    except Inconclusive as error:
        inconclusive = str(error)
    try:
        registry.has_rights(name, organization.authorization())
    except QuayAuthorizationError as error:
        raise QuayAuthorizationError(error.message, details=error.details, transient=False) from None
    if inconclusive is not None:
        raise Inconclusive(inconclusive)
    return detail
