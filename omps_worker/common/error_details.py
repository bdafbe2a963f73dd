# SPDX-License-Identifier: GPL-3.0-or-later
"""The details of errors in results and replies: plain JSON of limited size and depth."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any

from omps_worker.common.json_text import cut_below, is_deeper

DETAILS_LIMIT = 64 * 1024
"""The maximum size of an error's details in a result message, in bytes of JSON."""

DETAILS_DEPTH = 50
"""The maximum nesting depth of objects and arrays in an error's details."""


def system_reason(error: OSError) -> str:
    """Return the system's text for ``error`` without a path: Python's own text may contain several."""
    if error.errno == errno.ENOENT and error.filename is None:
        return "no temporary directory is writable"  # from tempfile, which has tried all its candidates
    return os.strerror(error.errno) if error.errno else type(error).__name__


def limited(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``details`` as plain JSON of at most ``DETAILS_LIMIT`` bytes and ``DETAILS_DEPTH`` levels.

    The rest is cut: long lists lose their tail, long texts their end, and values that are nested too deeply become "…".
    ``truncated: true`` then says so.
    """
    details = dict(details)
    if is_deeper(details, DETAILS_DEPTH):
        details = {**cut_below(details, DETAILS_DEPTH), "truncated": True}
    text = json.dumps(details, default=str)
    # NaN and Infinity are not JSON, but a peer's answer may contain them.
    whole: dict[str, Any] = json.loads(text, parse_constant=str)
    if len(text) <= DETAILS_LIMIT:
        return whole
    items, characters = 1000, 8192
    while characters:
        plain: dict[str, Any] = {**_cut(whole, items, characters), "truncated": True}
        if len(json.dumps(plain)) <= DETAILS_LIMIT:
            return plain
        items, characters = max(items // 2, 1), characters // 2
    return {"truncated": True}


def _cut(value: Any, items: int, characters: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "…"
    if isinstance(value, list):
        return [_cut(item, items, characters) for item in value[:items]]
    if isinstance(value, dict):
        return {key[:characters]: _cut(item, items, characters) for key, item in list(value.items())[:items]}
    return value
