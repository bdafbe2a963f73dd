# SPDX-License-Identifier: GPL-3.0-or-later
"""The request of a user who pushes by hand, and the caller who waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr


class Caller(Protocol):
    """The client that waits for a PushRequest and may have sent it before. Safe to use from any thread."""

    def check(self) -> None:
        """Return if the client still waits. Raises RequestAbandoned otherwise."""
        ...

    def earlier(self) -> str | None:
        """Return the version under which an earlier attempt of the same request was about to be released, or None."""
        ...

    def note(self, version: str) -> None:
        """Store the version under which the content is about to be released. Raises StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class PushRequest:
    """The options of a user who pushes by hand, in addition to the rules for the build.

    ``authorization`` is the user's own Authorization header for the registry; with it, the organization need not be
    configured. With ``reverts`` false, content that is already released is never released again. ``held``: push the
    build even if the mapping holds it. ``catalog`` names a catalog instead of an organization. ``new_catalog``: start
    over if the catalog's image is not one of ours.
    """

    organization: str | None = None
    repository: str | None = None
    version: str | None = None
    new_release: bool = False
    dry_run: bool = False
    held: bool = False
    catalog: str | None = None
    new_catalog: bool = False
    reverts: bool = True
    authorization: SecretStr | None = None
    caller: Caller | None = None

    @property
    def names_place(self) -> bool:
        """Whether the user names an organization or a catalog, instead of leaving that to the mapping."""
        return self.organization is not None or self.catalog is not None
