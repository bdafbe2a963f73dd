# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell globs: what they match, and which of them hardly anybody means."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

_WILD = re.compile(r"[*?\[]")
_BRACKETS = re.compile(r"\[!?\]?[^\]]*\]")

_REGULAR = re.compile(r"^\^|\$$|[\\()|]|\.\+|(?:^|[^A-Za-z0-9])\.\*")
"""What names do not have, and regular expressions do."""

_OF_NO_BUILD = re.compile(r"[^A-Za-z0-9_.+~^,*?-]")
"""What no NVR and no name of a component has, nor, beside brackets, a glob on one."""

_NVR = re.compile(r".+-[^-]+-\d[^-]*")
"""A name, a version and a release. Releases begin with a digit."""


def matcher(globs: Sequence[str]) -> Callable[[str], object]:
    """Whether a text matches one of ``globs``, as fnmatchcase does."""
    if not any(_WILD.search(glob) for glob in globs):
        return frozenset(globs).__contains__
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match


def doubt(fact: str, glob: str) -> str | None:
    """Why a glob on ``fact``, a key under ``match``, is hardly one that somebody meant; None: it may be."""
    if glob != glob.strip():
        return f"has a blank at its {'end' if glob != glob.rstrip() else 'beginning'}: it matches nothing without one"
    if r"\[" in fnmatch.translate(glob):
        return "has a [ that no ] ends: it matches nothing, as no name has a ["
    if _REGULAR.search(glob):
        return "looks like a regular expression; in a glob * alone stands for any text"
    if fact not in ("nvr", "component"):
        return None
    what = "NVR" if fact == "nvr" else "name of a component"
    if odd := _OF_NO_BUILD.search(_BRACKETS.sub("", glob)):
        return f"has {odd.group()!r}, which no {what} has: it matches nothing"
    if fact == "nvr" and not _WILD.search(glob) and not _NVR.fullmatch(glob):
        return f"is no NVR (name-version-release) and has no wildcard: it is no build; {glob}-* is all of a component"
    return None
