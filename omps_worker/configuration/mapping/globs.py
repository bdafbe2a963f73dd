# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell globs: matching them, and recognising globs that are probably a mistake."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

_WILD = re.compile(r"[*?\[]")
_BRACKETS = re.compile(r"\[!?\]?[^\]]*\]")

_REGULAR = re.compile(r"^\^|\$$|[\\()|]|\.\+|(?:^|[^A-Za-z0-9])\.\*")
"""Characters of regular expressions that names do not contain."""

_OF_NO_BUILD = re.compile(r"[^A-Za-z0-9_.+~^,*?-]")
"""Characters that no NVR, no name of a component, and outside of brackets no glob on these contains."""

_NVR = re.compile(r".+-[^-]+-\d[^-]*")
"""A name, a version and a release. A release begins with a digit."""


def matcher(globs: Sequence[str]) -> Callable[[str], object]:
    """Return a function that tells whether a text matches one of ``globs``, as fnmatchcase does."""
    if not any(_WILD.search(glob) for glob in globs):
        return frozenset(globs).__contains__
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match


def suspicion(fact: str, glob: str) -> str | None:
    """Return why a glob on ``fact``, a key under ``match``, is probably a mistake, or None."""
    if glob != glob.strip():
        return (
            f"has a space at its {'end' if glob != glob.rstrip() else 'beginning'}: it matches nothing without a space"
        )
    if r"\[" in fnmatch.translate(glob):
        return "has a [ without a ]: it matches nothing, because no name contains a ["
    if _REGULAR.search(glob):
        return "looks like a regular expression; in a glob, * alone matches any text"
    if fact not in ("nvr", "component"):
        return None
    what = "NVR" if fact == "nvr" else "name of a component"
    if odd := _OF_NO_BUILD.search(_BRACKETS.sub("", glob)):
        return f"has {odd.group()!r}, which no {what} contains: it matches nothing"
    if fact == "nvr" and not _WILD.search(glob) and not _NVR.fullmatch(glob):
        return (
            "is not an NVR (name-version-release) and has no wildcard: it matches no build; "
            f"{glob}-* matches all builds of a component"
        )
    return None
