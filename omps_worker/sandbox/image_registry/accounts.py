# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of the sandbox's image registry, and the token server that vouches for them.

The token server also works for a real registry: ``sign`` then makes the tokens that the registry can verify.
"""

from __future__ import annotations

import base64
import fnmatch
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.sandbox.http_server import Request, Response, basic_credentials

Claims = Mapping[str, Any]
"""What a token says: issuer, audience, subject, times, and the ``access`` that it grants."""

SERVICE = "sandbox-registry"
ISSUER = "sandbox-tokens"


@dataclass(frozen=True)
class Account:
    """A user of the registry. ``pull`` and ``push`` are patterns of the repositories' paths."""

    name: str
    password: str = field(repr=False)
    pull: tuple[str, ...] = ("*",)
    push: tuple[str, ...] = ("*",)

    @property
    def authorization(self) -> str:
        """The value of the header Authorization."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


class Accounts:
    """The accounts of one registry. ``public`` are patterns of repositories that can be pulled without a login."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self.public: list[str] = []

    def add(
        self, name: str, password: str | None, pull: Collection[str] = ("*",), push: Collection[str] = ("*",)
    ) -> Account:
        """Add an account, or replace the one of that name; without a password one is made up."""
        account = Account(name, password or secrets.token_urlsafe(12), tuple(pull), tuple(push))
        self._accounts[name] = account
        return account

    def by_basic(self, authorization: str) -> Account | None:
        """Return the account whose user name and password these are; None if there is none."""
        given = basic_credentials(authorization)
        if given is None:
            return None
        name, password = given
        account = self._accounts.get(name)
        same = account is not None and secrets.compare_digest(account.password.encode(), password.encode())
        return account if same else None

    def allowed(self, account: Account | None, path: str, actions: Collection[str]) -> frozenset[str]:
        """Return which of the actions the account, or somebody without one, may do in the repository."""
        patterns = {
            "pull": [*self.public, *(account.pull if account else ())],
            "push": account.push if account else (),
            "delete": account.push if account else (),
        }
        return frozenset(
            action
            for action in actions
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns.get(action, ()))
        )


class TokenServer:
    """Answers requests for tokens. ``lifetime`` is how long its tokens are valid, in seconds.

    ``exists`` and ``create``, if set, are what a repository is looked up and made with: as on Quay, somebody who may
    push makes the repository by asking for a token, and nobody may pull from one that does not exist.

    ``sign`` makes a token of claims; without it tokens are random, and ``claims`` knows what they say.
    """

    def __init__(self, accounts: Accounts, *, sign: Callable[[Claims], str] | None = None) -> None:
        self.accounts = accounts
        self.lifetime = 60
        self.issued = 0
        self.exists: Callable[[str], bool] | None = None
        self.create: Callable[[str], object] = lambda _path: None
        self._sign = sign or self._opaque
        self._claims: dict[str, Claims] = {}
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Response:
        """Return the answer to one request for a token."""
        authorization = request.headers.get("authorization")
        account = self.accounts.by_basic(authorization) if authorization is not None else None
        if authorization is not None and account is None:
            return Response.json({"details": "incorrect username or password"}, 401)
        granted = []
        for scope in request.queries.get("scope", ()):
            kind, _, rest = scope.partition(":")
            path, _, actions = rest.rpartition(":")
            allowed = self.accounts.allowed(account, path, actions.split(","))
            if self.exists is not None and not self.exists(path):
                if "push" in allowed:
                    self.create(path)
                else:
                    allowed = frozenset()
            if kind == "repository" and allowed:
                granted.append({"type": kind, "name": path, "actions": sorted(allowed)})
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": request.query.get("service", SERVICE),
            "sub": account.name if account else "",
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
            "access": granted,
        }
        with self._lock:
            self.issued += 1
        token = self._sign(claims)
        return Response.json({"token": token, "access_token": token, "expires_in": self.lifetime})

    def claims(self, authorization: str) -> Claims | None:
        """Return what a ``Bearer …`` value says; None if it is not a valid token of this server."""
        scheme, _, value = authorization.partition(" ")
        with self._lock:
            claims = self._claims.get(value) if scheme.lower() == "bearer" else None
        return claims if claims and claims["exp"] > time.time() else None

    def revoke(self) -> None:
        """Make all tokens invalid that were issued so far."""
        with self._lock:
            self._claims.clear()

    def _opaque(self, claims: Claims) -> str:
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._claims[token] = claims
        return token
