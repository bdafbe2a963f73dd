# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that comes from outside, read within bounds.

Python's parser takes about as many levels as its stack holds, which differs between versions and
with where it is called, and whoever goes through the value afterwards runs out of stack sooner.
So depth is bounded here, once, and what was read can be walked, cut and written again by plain
recursion everywhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

DEPTH_LIMIT = 200
"""How many objects and arrays may stand within each other; a dozen are real."""

CONTAINERS = 100_000
"""How many objects and arrays ``parse_json`` takes: they take fifty times the memory that their text has."""

_CONTAINERS = frozenset((dict, list, tuple))


class TooDeep(ValueError):
    """The JSON is nested deeper than it may be."""


class TooMany(ValueError):
    """The JSON holds more objects and arrays than it may."""


def read_json(
    text: str,
    *,
    depth: int = DEPTH_LIMIT,
    containers: int | None = None,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """The JSON document that ``text`` is.

    ``depth`` is how many objects and arrays may stand within each other, ``containers`` how many
    there may be in all, as they take fifty times the memory that their text has; None: any number.
    The other parameters are those of ``json.loads``.

    Raises TooDeep, TooMany, json.JSONDecodeError for what is no JSON, and what the callables and
    Python's limit on the digits of an integer raise; all of them are ValueErrors.
    """
    opened = text.count("{") + text.count("[")
    if containers is not None and opened > containers:
        raise TooMany(f"more than {containers} objects and arrays")
    try:
        value = json.loads(text, parse_int=parse_int, parse_float=parse_float, parse_constant=parse_constant)
    except RecursionError:
        raise TooDeep(f"nested deeper than {depth} levels") from None
    if opened > depth and is_deeper(value, depth):
        raise TooDeep(f"nested deeper than {depth} levels")
    return value


def is_deeper(value: Any, depth: int) -> bool:
    """Whether more than ``depth`` dicts, lists and tuples stand within each other; needs no stack.

    Those of derived types do not count: the parser makes none.
    """
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
    return bool(level)


def cut_below(value: Any, depth: int) -> Any:
    """``value`` with "…" in place of each dict, list and tuple that stands within ``depth`` others."""
    if isinstance(value, dict):
        return {key: cut_below(inner, depth - 1) for key, inner in value.items()} if depth else "…"
    if isinstance(value, (list, tuple)):
        return [cut_below(inner, depth - 1) for inner in value] if depth else "…"
    return value


def parse_json(body: bytes | str) -> Any:
    """``body`` as JSON; None if it is none, is nested too deep or too large, or holds what JSON cannot say (NaN)."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8-sig")
        value = read_json(text, containers=CONTAINERS, parse_constant=_refuse, parse_float=_finite)
        if "\\ud" in text.lower() or not text.isascii():
            # Half a surrogate pair cannot be encoded again, and would fail far from here.
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except ValueError:
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(text: str) -> float:
    # 1e999 is JSON, but becomes infinity, which is none.
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value
