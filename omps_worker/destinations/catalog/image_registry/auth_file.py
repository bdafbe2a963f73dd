# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials for image registries, and the file in which docker and podman keep them.

Programs that such a file names (``credHelpers``, ``credsStore``) are never executed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from omps_worker.common.json_text import parse_json
from omps_worker.common.text import printable
from omps_worker.destinations.catalog.image_registry.image_name import DOCKER_HUB, Repository

_HUB_KEY = "index.docker.io"
_HUB_NAMES = frozenset({DOCKER_HUB, "registry-1.docker.io", _HUB_KEY})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password."""

    username: str
    password: SecretStr

    @property
    def authorization(self) -> SecretStr:
        """The value of the header Authorization."""
        value = f"{self.username}:{self.password.get_secret_value()}".encode()
        return SecretStr("Basic " + base64.b64encode(value).decode())


@dataclass(frozen=True, slots=True)
class AuthFile:
    """The credentials of a docker or podman auth file, by ``host[:port][/path]``. Make one with ``parse``."""

    entries: Mapping[str, Credentials | str] = field(repr=False)
    """Credentials, or why an entry cannot be used."""

    @classmethod
    def parse(cls, text: str) -> AuthFile:
        """Return what the file says. Raises ValueError, which never quotes the file."""
        document = parse_json(text)
        if not isinstance(document, dict):
            raise ValueError("is not a JSON object")
        entries: dict[str, Credentials | str] = {}
        store = document.get("credsStore")
        for key, entry in _auths(document).items():
            # Docker leaves empty entries behind for registries whose credentials a program keeps.
            found = _credentials(entry) or (_left_to(store) if store else None)
            if found is not None:
                entries.setdefault(_normal(key), found)
        helpers = document.get("credHelpers")
        for key, helper in (helpers if isinstance(helpers, dict) else {}).items():
            entries.setdefault(_normal(key), _left_to(helper))
        return cls(entries)

    def find(self, repository: Repository) -> Credentials | None:
        """Return the credentials of the most specific entry for the repository; None if there is no entry.

        Raises ValueError if the entry cannot be used, for example because a program keeps the credentials.
        """
        host = _HUB_KEY if repository.host in _HUB_NAMES else repository.host
        key = f"{host}/{repository.path}"
        while key:
            found = self.entries.get(key)
            if isinstance(found, str):
                raise ValueError(f"has an entry for {key} that cannot be used: {found}")
            if found is not None:
                return found
            key = key.rpartition("/")[0]
        return None


def _auths(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "auths" not in document and document and all(isinstance(entry, dict) for entry in document.values()):
        # The older form, .dockercfg, has the entries at the top.
        return {key: entry for key, entry in document.items() if "auth" in entry}
    auths = document.get("auths", {})
    if not isinstance(auths, dict):
        raise ValueError("has auths that are not an object")
    return auths


def _credentials(entry: Any) -> Credentials | str | None:
    if not isinstance(entry, dict):
        return "it is not an object"
    if entry.get("identitytoken"):
        return "it has an identitytoken, which is not supported: use a user name and a password"
    encoded, name, password = entry.get("auth"), entry.get("username"), entry.get("password")
    if isinstance(encoded, str) and encoded:
        try:
            name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return "its auth is not base64"
        # Docker pads with zeros.
        password = password.rstrip("\0")
        if not colon or not name or not password:
            return "its auth is not the base64 of USER:PASSWORD"
    if isinstance(name, str) and name and isinstance(password, str) and password:
        if ":" in name:
            return "its user name has a colon"
        return Credentials(name, SecretStr(password))
    return None


def _left_to(helper: Any) -> str:
    return f"the program docker-credential-{printable(str(helper), 50)} keeps it, and is not executed"


def _normal(key: str) -> str:
    """Return ``host[:port][/path]`` of a key, which may be a URL; docker's URLs name hosts only."""
    scheme, separator, rest = key.partition("://")
    if separator:
        key = rest.partition("/")[0]
    key = key.rstrip("/")
    for suffix in ("/v1", "/v2"):
        key = key.removesuffix(suffix)
    host, slash, path = key.partition("/")
    host = host.lower()
    host = host.removesuffix(":80" if separator and scheme.lower() == "http" else ":443")
    return f"{_HUB_KEY if host in _HUB_NAMES else host}{slash}{path}"
