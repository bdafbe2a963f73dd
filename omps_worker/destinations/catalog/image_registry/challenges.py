# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry says about logging in to it: the header WWW-Authenticate, and scopes of bearer tokens.

The grammar is that of RFC 9110, section 11.6.1; the parameters are those of docker's token specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

LENGTH_LIMIT = 8192
"""How many characters of the header are read."""

SCOPES_LIMIT = 10
"""How many scopes of a challenge are heeded."""

_SCOPE = re.compile(r"repository(?:\([a-z0-9]{1,30}\))?:[a-z0-9._/:-]{1,255}:[a-z*]{1,20}(?:,[a-z*]{1,20}){0,9}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]+=*(?=\s*(?:,|$))")
_BLANK = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a registry offers. ``scheme`` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of repositories that a token must have, as far as they are well-formed."""
        named = self.parameters.get("scope", "").split()[:SCOPES_LIMIT]
        return merged(scope for scope in named if _SCOPE.fullmatch(scope))


def challenges_of(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a WWW-Authenticate header, which may have been sent as several; never raises.

    What cannot be read ends the list.
    """
    text, at = header[:LENGTH_LIMIT], 0
    found: list[Challenge] = []
    while (at := _end(_SEPARATORS, text, at)) < len(text):
        scheme = _TOKEN.match(text, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        single = _TOKEN68.match(text, blank) if (blank := _end(_BLANK, text, at)) > at else None
        at = single.end() if single is not None else _parameters(text, at, parameters)
        found.append(Challenge(scheme[0].lower(), parameters))
    return tuple(found)


def _parameters(text: str, at: int, into: dict[str, str]) -> int:
    """Read ``name=value`` pairs up to the next challenge; return where they end."""
    while True:
        name = _TOKEN.match(text, _end(_SEPARATORS, text, at))
        equals = _EQUALS.match(text, name.end()) if name else None
        if name is None or equals is None:
            return at
        quoted = _QUOTED.match(text, equals.end())
        value = quoted or _TOKEN.match(text, equals.end())
        if value is None:
            return len(text)
        plain = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value[0]
        into.setdefault(name[0].lower(), plain)
        at = value.end()


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def scope_of(path: str, *actions: str) -> str:
    """Return the scope of these actions (``pull``, ``push``) in the repository with this path."""
    return f"repository:{path}:{','.join(sorted(actions))}"


def actions_of(scopes: Iterable[str]) -> frozenset[str]:
    """Return all actions that the scopes name, in any repository."""
    return frozenset(action for scope in scopes for action in scope.rpartition(":")[2].split(","))


def limited(scopes: Iterable[str], actions: Set[str]) -> frozenset[str]:
    """Return the scopes with no other actions than these; without any, a scope is left out."""
    found = set()
    for scope in scopes:
        resource, _, named = scope.rpartition(":")
        if left := actions & set(named.split(",")):
            found.add(f"{resource}:{','.join(sorted(left))}")
    return frozenset(found)


def merged(scopes: Iterable[str]) -> frozenset[str]:
    """Return the scopes, one for each repository, with all actions that are named for it."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, named = scope.rpartition(":")
        actions.setdefault(resource, set()).update(named.split(","))
    return frozenset(f"{resource}:{','.join(sorted(named))}" for resource, named in actions.items())
