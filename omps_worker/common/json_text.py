# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading JSON from outside within limits.

Python's parser accepts about as many levels as fit on the stack. That number depends on the version and on the caller,
and code that walks through the value afterwards runs out of stack sooner. So the depth is limited here, once. All other
code can walk, cut and write the value with plain recursion.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

DEPTH_LIMIT = 200
"""The maximum nesting depth of objects and arrays; real documents have a dozen levels."""

CONTAINERS = 100_000
"""The maximum number of objects and arrays in ``parse_json``: they take fifty times the memory of their text."""

_CONTAINERS = frozenset((dict, list, tuple))


class TooDeep(ValueError):
    """The JSON is nested too deeply."""


class TooMany(ValueError):
    """The JSON has too many objects and arrays."""


def read_json(
    text: str,
    *,
    depth: int = DEPTH_LIMIT,
    containers: int | None = None,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """Parse ``text`` as a JSON document.

    ``depth`` is the maximum nesting depth of objects and arrays. ``containers`` is their maximum number, because they
    take fifty times the memory of their text; None means no limit. The other parameters are those of ``json.loads``.

    Raises TooDeep, TooMany, json.JSONDecodeError if the text is not JSON, and whatever the callables and Python's limit
    on the digits of an integer raise. All of these are ValueErrors.
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
    """Return whether dicts, lists and tuples are nested deeper than ``depth``. Does not recurse.

    Instances of subclasses do not count: the parser makes none.
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
    """Return ``value`` with each dict, list and tuple at nesting level ``depth`` replaced by "…"."""
    if isinstance(value, dict):
        return {key: cut_below(inner, depth - 1) for key, inner in value.items()} if depth else "…"
    if isinstance(value, (list, tuple)):
        return [cut_below(inner, depth - 1) for inner in value] if depth else "…"
    return value


def parse_json(body: bytes | str) -> Any:
    """Parse ``body`` as JSON; return None if that fails.

    It fails if the body is not JSON, is nested too deeply, is too large, or has values that JSON does not have (NaN).
    """
    try:
        text = body if isinstance(body, str) else body.decode("utf-8-sig")
        value = read_json(text, containers=CONTAINERS, parse_constant=_refuse, parse_float=_finite)
        if "\\ud" in text.lower() or not text.isascii():
            # Half a surrogate pair cannot be encoded again: writing the value would fail, far from here.
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except ValueError:
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(text: str) -> float:
    # 1e999 is valid JSON, but becomes infinity, which cannot be written as JSON.
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value
