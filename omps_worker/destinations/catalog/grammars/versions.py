# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, releases and ranges of versions, by the grammar of the library that opm uses (blang/semver v4).

The grammar of ranges is a port of its parser, oddities included. Two kinds of ranges are refused here although the
library parses them: those with characters outside of ASCII, and those with nothing between two ``||``, at which the
library crashes when it uses them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

VERSION_LENGTH = 500
"""How many characters a version may have. A tag, which is made of it, has 128 at most."""

RANGE_LENGTH = 5000
"""How many characters a range may have."""

RELEASE_LENGTH = 20
"""How many characters a release may have, by the definition of ClusterServiceVersions."""

_LARGEST = 2**64 - 1
_NUMBER = r"(?:0|[1-9][0-9]{0,19})"
_NUMERIC = re.compile(_NUMBER)
_IDENTIFIER = re.compile(r"[0-9A-Za-z-]+")
_VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-([^+]*))?(?:\+(.*))?")
_GO_SPACE = " \t\n\v\f\r"
_OPERATORS = frozenset(("", "=", "==", "!", "!=", "<", "<=", ">", ">="))

Identifiers = tuple[tuple[int, int, str], ...]
"""Identifiers between dots, in the form in which tuples compare as semver wants: numbers first, then text."""


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version with its release; ordered by semver's precedence, then by release, then by build metadata.

    Build metadata has no precedence in semver. It decides here between versions that are otherwise equal, so that the
    order does not depend on which version came first.
    """

    numbers: tuple[int, int, int]
    pre: Identifiers = ()
    build: Identifiers = ()
    release: Identifiers = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """What decides whether two versions are equal for opm: everything but the build metadata."""
        return (self.numbers, not self.pre, self.pre, self.release)

    def __str__(self) -> str:
        text = ".".join(map(str, self.numbers))
        for mark, identifiers in (("-", self.pre), ("+", self.build), ("-", self.release)):
            if identifiers:
                text += mark + _text(identifiers)
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return (*self.precedence, self.build)


def parse_version(text: str, release: str = "") -> Version:
    """Return the version that ``text`` is, with a release. Raises ValueError, whose message is a phrase."""
    if len(text) > VERSION_LENGTH:
        raise ValueError(f"has more than {VERSION_LENGTH} characters")
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError("is no semantic version, like 1.2.3 or 1.2.3-rc.1+5")
    major, minor, patch = (int(match.group(number)) for number in (1, 2, 3))
    if max(major, minor, patch) > _LARGEST:
        raise ValueError("has a number that is too large")
    pre = _identifiers(match.group(4), numeric=True)
    build = _identifiers(match.group(5), numeric=False)
    return Version((major, minor, patch), pre, build, parse_release(release))


def parse_release(text: str) -> Identifiers:
    """Return the identifiers of a release, none for an empty text. Raises ValueError, whose message is a phrase."""
    if len(text) > RELEASE_LENGTH:
        raise ValueError(f"has a release of more than {RELEASE_LENGTH} characters")
    return _identifiers(text or None, numeric=True)


def tag_of(version: str, release: str = "") -> str:
    """Return the tag of the bundle of a version: ``+``, which no tag may have, becomes ``-``."""
    return f"v{version}{f'-{release}' if release else ''}".replace("+", "-")


def range_fault(text: str) -> str | None:
    """Return why opm refuses ``text`` as a range of versions; None if it takes it."""
    if len(text) > RANGE_LENGTH:
        return f"it has more than {RANGE_LENGTH} characters"
    if not text.isascii():
        return "it has characters outside of ASCII"
    alternatives: list[list[str]] = [[]]
    for part in _parts(text):
        if part == "||":
            alternatives.append([])
        else:
            alternatives[-1].append(part)
    if not alternatives[0]:
        return "it is empty" if len(alternatives) == 1 else "it begins with ||"
    if not alternatives[-1]:
        return "it ends with ||"
    if not all(alternatives):
        return "it has nothing between two ||"
    for comparison in (each for alternative in alternatives for part in alternative for each in _expanded(part)):
        operator, version = _split(comparison)
        if not version:
            return f"there is no version in {comparison!r}"
        if operator not in _OPERATORS:
            return f"{operator!r} in {comparison!r} is no operator"
        try:
            parse_version(version)
        except ValueError as fault:
            return f"{version!r} in {comparison!r} {fault}"
    return None


def _identifiers(text: str | None, *, numeric: bool) -> Identifiers:
    if text is None:
        return ()
    found = []
    for each in text.split("."):
        if not _IDENTIFIER.fullmatch(each):
            raise ValueError("has an identifier that is empty or has other characters than letters, digits and dashes")
        if not each.isdigit():
            found.append((1, 0, each))
        elif not numeric:
            # Build metadata may have leading zeros: the text counts where the numbers are equal.
            found.append((0, int(each), each))
        elif not _NUMERIC.fullmatch(each) or int(each) > _LARGEST:
            raise ValueError("has a number with leading zeros, or one that is too large")
        else:
            found.append((0, int(each), each))
    return tuple(found)


def _text(identifiers: Identifiers) -> str:
    return ".".join(text for _, _, text in identifiers)


def _parts(text: str) -> list[str]:
    """Split a range at spaces, but not after a comparison sign. Drops single characters, as the library does."""
    parts, last, before = [], 0, ""
    for index, letter in enumerate(text):
        if letter != " ":
            before = letter
        elif before not in (">", "<", "="):
            if last < index - 1:
                parts.append(text[last:index])
            last = index + 1
    if last < len(text) - 1:
        parts.append(text[last:])
    return [part.replace(" ", "") for part in parts]


def _split(comparison: str) -> tuple[str, str]:
    """Return the operator and the version; no version if there is no digit."""
    match = re.search("[0-9]", comparison)
    if match is None:
        return comparison, ""
    return comparison[: match.start()].strip(_GO_SPACE), comparison[match.start() :]


def _expanded(part: str) -> list[str]:
    """Replace the wildcard ``x`` in a comparison by what it means."""
    if "x" not in part:
        return [part]
    operator, version = _split(part)
    if not version:
        return [part]
    pieces = version.split(".")
    kind = len(pieces) if pieces[-1] == "x" else 0
    flat = version.replace(".x.x", ".x", 1).replace(".x", ".0", 1)
    if flat.count(".") == 1:
        flat += ".0"
    if operator in (">=", "<"):
        return [f"{operator}{flat}"]
    higher = _incremented(flat, {3: 1, 2: 0}.get(kind))
    if operator == ">":
        return [f">={higher}"]
    if operator == "<=":
        return [f"<{higher}"]
    if operator in ("", "=", "=="):
        return [f">={flat}", f"<{higher}"]
    if operator in ("!", "!="):
        return [f"<{flat}", f">={higher}"]
    # The library forgets an operator that it does not know.
    return [flat]


def _incremented(version: str, position: int | None) -> str:
    """Return ``version`` with one of its numbers incremented; nothing if that is not possible."""
    pieces = version.split(".")
    if position is None or position >= len(pieces):
        return ""
    # The library increments integers of 64 bits; the largest one becomes negative, which is no version.
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", pieces[position]) or abs(int(pieces[position])) >= 2**63 - 1:
        return ""
    pieces[position] = str(int(pieces[position]) + 1)
    return ".".join(pieces)
