# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody who pushes by hand may ask for, and who that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr


class Caller(Protocol):
    """Who waits for what a Request asks for, and may have asked for it before. Safe for any thread."""

    def check(self) -> None:
        """Return if somebody waits still; RequestAbandoned otherwise."""
        ...

    def earlier(self) -> str | None:
        """As which version an earlier try of the same request was about to be released; None: there was none."""
        ...

    def note(self, version: str) -> None:
        """Keep the version as which it is just about to be released. Raises StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What somebody who pushes by hand may ask for on top of a build's own rules.

    ``authorization`` is what that person shows the registry; with it, the organization need not be
    a configured one. Without ``reverts``, content that is released is never released again. ``held``: even if
    the mapping holds the build.
    """

    organization: str | None = None
    repository: str | None = None
    version: str | None = None
    new_release: bool = False
    dry_run: bool = False
    held: bool = False
    reverts: bool = True
    authorization: SecretStr | None = None
    caller: Caller | None = None
