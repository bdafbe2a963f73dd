# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in to image registries: basic authentication, and bearer tokens of docker's token specification.

A registry's first refusal says how it wants to be told who asks. A password is sent only to the registry itself, and
to the token server that the registry names; if the registry is reached through TLS, so is that server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from omps_worker.common.http_client.client import Answer, HttpClient, HttpFault, place_of
from omps_worker.common.text import printable
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.challenges import (
    Challenge,
    actions_of,
    challenges_of,
    limited,
    merged,
)
from omps_worker.destinations.catalog.image_registry.failures import denied, failure, unreachable, unreadable
from omps_worker.destinations.catalog.image_registry.image_name import Repository
from omps_worker.destinations.refusals import Scrubber

Keychain = Callable[[Repository], Credentials | None]
"""Finds the credentials for a repository; None: ask anonymously. May raise a WorkerError."""

TOKEN_BYTES = 64 * 1024
"""The maximum size of a token server's answer in bytes."""

LIFETIME = 60.0
"""How long a token is valid, in seconds, if the token server does not say so; docker's specification has it so."""

LIFETIME_LIMIT = 3600.0
"""How long a token is used at most, in seconds, whatever the token server says."""

MARGIN = 0.2
"""The share of its lifetime after which a token is not used any more: a call must not outlive it."""

REMEMBERED = 100
"""How many secrets are looked for in texts of registries: those that were used last."""

_Key = tuple[str, str, str, str | None, SecretStr | None]


@dataclass(frozen=True, slots=True)
class _Token:
    value: SecretStr
    until: float


@dataclass(slots=True)
class _Registry:
    """What is known of one registry: how it wants to be told who asks; None: not known yet."""

    challenge: Challenge | None = None
    open: bool = False
    """Whether it has answered without a login."""
    wanted: dict[frozenset[str], frozenset[str]] = field(default_factory=dict[frozenset[str], frozenset[str]])
    """The scopes that it wanted to have for a call, where they are others than those of the call."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a call is for: the repository, and the scopes that a token must have."""

    repository: Repository
    scopes: frozenset[str]
    what: str = field(compare=False, default="")
    """The beginning of an error message about the call."""


class Authenticator:
    """Makes the header Authorization for calls to registries. Safe to use from several threads.

    ``keychain`` is asked again for each call, so that renewed credentials are used at once.
    """

    def __init__(self, keychain: Keychain, http: HttpClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._keychain = keychain
        self._http = http
        self._clock = clock
        self._lock = threading.Lock()
        self._registries: dict[str, _Registry] = {}
        self._tokens: dict[_Key, _Token] = {}
        self._secrets: dict[SecretStr, None] = {}

    def knows(self, repository: Repository) -> bool:
        """Return whether the registry has said how to log in, or answered without a login."""
        with self._lock:
            registry = self._registries.get(repository.origin)
            return registry is not None and (registry.open or registry.challenge is not None)

    def is_anonymous(self, repository: Repository) -> bool:
        """Return whether there are no credentials for the repository."""
        return self._keychain(repository) is None

    def note_open(self, repository: Repository) -> None:
        """Note that the registry answered without a login."""
        with self._lock:
            self._registries.setdefault(repository.origin, _Registry()).open = True

    def learn(self, access: Access, answer: Answer) -> Challenge | None:
        """Note, and return, how the registry wants to be told who asks, of those ways that its refusal (401) offers.

        None: it offers none. The scopes of the offer are not noted: only those of a refused call are about that call,
        and ghcr.io names an example. Raises CatalogAuthorizationError if no way is supported.
        """
        offered = challenges_of(answer.headers.get("WWW-Authenticate", ""))
        challenge = next((each for scheme in ("bearer", "basic") for each in offered if each.scheme == scheme), None)
        if challenge is None:
            if offered:
                kinds = printable(", ".join(each.scheme for each in offered), 100)
                raise denied(access.what, f"the registry wants a login of a kind that is not supported ({kinds})")
            return None
        with self._lock:
            self._registries.setdefault(access.repository.origin, _Registry()).challenge = challenge
        return challenge

    def authorization(self, access: Access) -> SecretStr | None:
        """Return the value of the header Authorization, as far as the registry has said what it wants to have.

        Fetches a token if there is none that is valid. Raises CatalogError and CatalogAuthorizationError.
        """
        with self._lock:
            registry = self._registries.get(access.repository.origin)
            if registry is None or registry.challenge is None:
                return None
            challenge, scopes = registry.challenge, registry.wanted.get(access.scopes, access.scopes)
        return self._answer_to(challenge, access, scopes, renewed=False)

    def challenged(self, access: Access, answer: Answer, sent: SecretStr | None) -> SecretStr | None:
        """Return the value of the header Authorization with which a refused (401) call can be sent again.

        ``sent`` is the value that was refused. None: sending the call again makes no sense. Raises CatalogError and
        CatalogAuthorizationError.
        """
        challenge = self.learn(access, answer)
        if challenge is None:
            return None
        # Asking for permission to push can make a repository, which must not come of reading one.
        further = limited(challenge.scopes, {"pull"} | actions_of(access.scopes))
        with self._lock:
            registry = self._registries[access.repository.origin]
            scopes = merged([*access.scopes, *further]) if access.scopes else access.scopes
            if scopes != access.scopes:
                registry.wanted[access.scopes] = scopes
            if len(registry.wanted) > REMEMBERED:
                del registry.wanted[next(iter(registry.wanted))]
        value = self._answer_to(challenge, access, scopes, renewed=sent is not None)
        return None if value == sent else value

    def scrubber(self) -> Scrubber:
        """Return what takes secrets out of texts that come from registries and token servers."""
        with self._lock:
            return Scrubber(*self._secrets)

    def _remember(self, secret: SecretStr) -> None:
        with self._lock:
            self._secrets.pop(secret, None)
            self._secrets[secret] = None
            if len(self._secrets) > REMEMBERED:
                del self._secrets[next(iter(self._secrets))]

    def _answer_to(
        self, challenge: Challenge, access: Access, scopes: frozenset[str], *, renewed: bool
    ) -> SecretStr | None:
        credentials = self._keychain(access.repository)
        if credentials is not None:
            self._remember(credentials.authorization)
        if challenge.scheme == "basic":
            return credentials.authorization if credentials else None
        return self._bearer(challenge, access, scopes, credentials, renewed=renewed)

    def _bearer(
        self,
        challenge: Challenge,
        access: Access,
        scopes: frozenset[str],
        credentials: Credentials | None,
        *,
        renewed: bool,
    ) -> SecretStr:
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
        user = (credentials.username, credentials.password) if credentials else (None, None)
        key = (realm, service, " ".join(sorted(scopes)), *user)
        with self._lock:
            known = self._tokens.get(key)
        if known is None or renewed or known.until <= self._clock():
            begun = self._clock()
            value, lifetime = self._fetch(realm, service, scopes, access, credentials)
            known = _Token(value, begun + lifetime * (1 - MARGIN))
            with self._lock:
                now = self._clock()
                self._tokens = {each: token for each, token in self._tokens.items() if token.until > now}
                self._tokens[key] = known
        self._remember(known.value)
        return known.value

    def _fetch(
        self, realm: str, service: str, scopes: frozenset[str], access: Access, credentials: Credentials | None
    ) -> tuple[SecretStr, float]:
        url = _token_url(access, realm, service, scopes)
        headers = {"Authorization": credentials.authorization.get_secret_value()} if credentials else {}
        what = f"{access.what}: no token of {place_of(realm)}"
        try:
            answer = self._http.request("GET", url, headers=headers, max_bytes=TOKEN_BYTES, follow=False)
        except HttpFault as fault:
            raise unreachable(what, fault, self.scrubber(), writes=False) from None
        if answer.status != 200:
            no_login_for = None if credentials else access.repository.host
            raise failure(what, answer, self.scrubber(), no_login_for=no_login_for)
        content = answer.json()
        content = content if isinstance(content, dict) else {}
        value = content.get("token") or content.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise unreadable(what, "the answer has no token")
        lifetime = content.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or lifetime <= 0:
            lifetime = LIFETIME
        return SecretStr(f"Bearer {value}"), float(min(lifetime, LIFETIME_LIMIT))


def _token_url(access: Access, realm: str, service: str, scopes: frozenset[str]) -> str:
    """Return the URL of a request for a token. Raises CatalogAuthorizationError if credentials must not go there."""
    origin = access.repository.origin
    try:
        parts = urlsplit(realm)
        usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc and realm.isascii()
    except ValueError:
        usable = False
    if not usable or not realm.isprintable() or " " in realm or parts.scheme not in ("http", "https") or parts.fragment:
        raise denied(access.what, f"{place_of(origin)} names a token server whose address is not usable")
    if origin.startswith("https:") and parts.scheme != "https":
        reason = f"{place_of(origin)} names the token server {place_of(realm)}, to which nothing is sent without TLS"
        raise denied(access.what, reason)
    query = [f"service={quote(service, safe='')}"] if service else []
    query += [f"scope={quote(scope, safe=':,/*')}" for scope in sorted(scopes)]
    return realm + ("&" if parts.query else "?") + "&".join(query) if query else realm
