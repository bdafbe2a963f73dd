# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of the sandbox's registry: users, robots, organizations, OAuth tokens.

As on Quay, wrong, expired or malformed credentials are not an error. They make the caller anonymous, and an anonymous
caller may only read public packages.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from omps_worker.sandbox.http_server import basic_credentials

RobotRole = Literal["creator", "admin", "none"]
"""What a robot may do in its organization: create packages and own them; everything; nothing."""

OAUTH_USER = "$oauthtoken"
"""The user name to log in with when the password is an OAuth token."""


@dataclass(frozen=True)
class Account:
    """A user or robot that can log in. A robot's name is ``organization+name``."""

    name: str
    password: str = field(repr=False)

    @property
    def description(self) -> str:
        """The account as Quay's error messages describe it."""
        return f"{'robot' if '+' in self.name else 'user'} {self.name}"

    @property
    def authorization(self) -> str:
        """The Authorization value for the app registry, as the login call returns it."""
        return "basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


@dataclass
class Organization:
    """A namespace: ``owners`` may do everything in it, ``creators`` may create packages."""

    name: str
    owners: set[str] = field(default_factory=set)
    creators: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class OAuthToken:
    """A token for Quay's own API, acting for ``account`` within ``scopes``."""

    account: Account
    scopes: frozenset[str]
    expired: bool = False


class Accounts:
    """All accounts, organizations and OAuth tokens of one registry."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._organizations: dict[str, Organization] = {}
        self._oauth: dict[str, OAuthToken] = {}

    def add_user(self, name: str, password: str | None = None) -> Account:
        """Add a user, and a namespace with the user's name. Without a password, a random one is chosen."""
        account = self._accounts[name] = Account(name, password or secrets.token_urlsafe(12))
        self._organizations[name] = Organization(name, owners={name})
        return account

    def add_organization(self, name: str, owner: str | None = None) -> Organization:
        """Add an organization. Without ``owner``, a user ``<name>-owner`` is added to own it."""
        if owner is None:
            owner = self.add_user(f"{name}-owner").name
        organization = self._organizations[name] = Organization(name, owners={owner})
        return organization

    def add_robot(self, organization: str, name: str, password: str | None, role: RobotRole) -> Account:
        """Add the robot ``organization+name``."""
        account = Account(f"{organization}+{name}", password or secrets.token_urlsafe(24))
        self._accounts[account.name] = account
        if role == "creator":
            self._organizations[organization].creators.add(account.name)
        elif role == "admin":
            self._organizations[organization].owners.add(account.name)
        return account

    def add_oauth_token(self, owner: str, token: str | None, scopes: Collection[str], expired: bool) -> str:
        """Add an OAuth token of ``owner``: a user, or an organization (the token then acts for its first owner)."""
        if owner not in self._accounts:
            owner = min(self._organizations[owner].owners)
        token = token or secrets.token_urlsafe(30)
        self._oauth[token] = OAuthToken(self._accounts[owner], frozenset(scopes), expired)
        return token

    def organization(self, name: str) -> Organization | None:
        """Return the organization or user namespace of that name, or None."""
        return self._organizations.get(name)

    def login(self, name: str, password: str) -> Account | None:
        """Return the account if the password is right, otherwise None."""
        if name == OAUTH_USER:
            token = self._oauth.get(password)
            return token.account if token and not token.expired else None
        account = self._accounts.get(name)
        # JSON text may contain lone surrogates, which no password contains.
        given = password.encode(errors="surrogatepass")
        return account if account and secrets.compare_digest(account.password.encode(), given) else None

    def by_basic(self, authorization: str) -> Account | None:
        """Return the account for a ``basic …`` Authorization value, or None if it is not valid."""
        given = basic_credentials(authorization)
        return self.login(*given) if given else None

    def by_bearer(self, authorization: str) -> OAuthToken | None:
        """Return the OAuth token for a ``Bearer …`` Authorization value, or None if it is not valid."""
        scheme, _, value = authorization.partition(" ")
        token = self._oauth.get(value) if scheme.lower() == "bearer" else None
        return token if token and not token.expired else None

    def owns(self, account: Account | None, namespace: str) -> bool:
        """Return whether the account may do everything in the namespace."""
        organization = self._organizations.get(namespace)
        return bool(account and organization and account.name in organization.owners)

    def may_create(self, account: Account | None, namespace: str) -> bool:
        """Return whether the account may create packages in the namespace."""
        organization = self._organizations.get(namespace)
        return bool(account and organization and account.name in organization.owners | organization.creators)
