# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of an app registry, and what lets us in there."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Credentials:
    """How an organization lets us in.

    ``authorization`` is the whole header value for pushes, ``oauth`` the token for making
    packages public, which is done when ``public`` says so.
    """

    authorization: SecretStr | None
    oauth: SecretStr | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class PackageLocation:
    """The package that a release goes to, and how its organization lets us in."""

    organization: str
    repository: str
    credentials: Credentials

    def __str__(self) -> str:
        return f"{self.organization}/{self.repository}"
