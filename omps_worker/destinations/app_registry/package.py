# SPDX-License-Identifier: GPL-3.0-or-later
"""The location of a package in an app registry, and the credentials for it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials for an organization.

    ``authorization`` is the complete value of the Authorization header for pushes. ``oauth`` is the token for making
    packages public, which is done if ``public`` is True.
    """

    authorization: SecretStr | None
    oauth: SecretStr | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class PackageLocation:
    """The package that a release goes to, with the credentials of its organization."""

    organization: str
    repository: str
    credentials: Credentials

    def __str__(self) -> str:
        return f"{self.organization}/{self.repository}"
