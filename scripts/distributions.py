# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed distributions that a package needs at run time, and their metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import pins

ITSELF = "omps-worker"
EXTRAS = ("api",)
"""The extras that are installed for users. The others are for contributors."""


@dataclass(frozen=True)
class Distribution:
    """The metadata of an installed distribution."""

    name: str
    """Canonical: lower case, words joined by hyphens."""
    version: str
    summary: str
    requires: tuple[str, ...]
    expression: str
    """The licence as an SPDX expression; empty if there is none."""
    licence: str
    """The licence in the distribution's own words (the first line, if it is a whole text); empty if there are none."""
    classifiers: tuple[str, ...]
    """The classifiers about the licence, without ``License ::``."""
    hashes: tuple[tuple[str, str], ...] = ()
    """Algorithm and hex digest of the archive that it was installed from, if the installer recorded them."""

    @classmethod
    def read(cls, name: str) -> Distribution:
        """Return the installed distribution. Raises PackageNotFoundError if there is none."""
        found = metadata.distribution(name)
        about: Any = found.metadata
        prefix = "License :: "
        return cls(
            name=canonicalize_name(about["Name"]),
            version=found.version,
            summary=about.get("Summary") or "",
            requires=tuple(found.requires or ()),
            expression=about.get("License-Expression") or "",
            licence=(about.get("License") or "").strip().partition("\n")[0],
            classifiers=tuple(
                text.removeprefix(prefix) for text in about.get_all("Classifier") or () if text.startswith(prefix)
            ),
            hashes=_hashes(found.read_text("direct_url.json")),
        )


def _hashes(direct_url: str | None) -> tuple[tuple[str, str], ...]:
    archive = json.loads(direct_url or "{}").get("archive_info") or {}
    return tuple(sorted((archive.get("hashes") or {}).items()))


def needed(
    root: str = ITSELF, extras: Iterable[str] = EXTRAS, read: Callable[[str], Distribution] = Distribution.read
) -> dict[str, Distribution]:
    """Return the distributions that ``root`` with ``extras`` needs on this Python, including itself, by name.

    Raises PackageNotFoundError if one of them is not installed.
    """
    environment = {name: str(value) for name, value in default_environment().items()}
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(root), extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found[name] = found.get(name) or read(name)
        for requirement in map(Requirement, found[name].requires):
            if pins.applies(requirement.marker, {**environment, "extra": extra}):
                waiting += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return dict(sorted(found.items()))
