# SPDX-License-Identifier: GPL-3.0-or-later
"""The details of an error, as results and replies may carry them: plain JSON of bounded size and depth."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any

from omps_worker.common.json_text import cut_below, is_deeper

DETAILS_LIMIT = 64 * 1024
"""How many bytes the details of one error may take in a result message, as JSON."""

DETAILS_DEPTH = 50
"""How many objects and arrays may stand within each other in the details of one error."""


def why(error: OSError) -> str:
    """What the system says is wrong, without the path: Python's own words may name several."""
    if error.errno == errno.ENOENT and error.filename is None:
        return "no directory for them can be written"  # tempfile's, which has tried all that it knows
    return os.strerror(error.errno) if error.errno else type(error).__name__


def limited(details: Mapping[str, Any]) -> dict[str, Any]:
    """``details`` as plain JSON of at most ``DETAILS_LIMIT`` bytes, nested no deeper than ``DETAILS_DEPTH``.

    What does not fit is cut: long lists lose their tail, long texts their end, and what is nested
    too deeply becomes "…"; ``truncated: true`` says so.
    """
    details = dict(details)
    if is_deeper(details, DETAILS_DEPTH):
        details = {**cut_below(details, DETAILS_DEPTH), "truncated": True}
    text = json.dumps(details, default=str)
    # NaN and Infinity are not JSON; a peer's answer may hold them all the same.
    whole: dict[str, Any] = json.loads(text, parse_constant=str)
    if len(text) <= DETAILS_LIMIT:
        return whole
    items, letters = 1000, 8192
    while letters:
        plain: dict[str, Any] = {**_cut(whole, items, letters), "truncated": True}
        if len(json.dumps(plain)) <= DETAILS_LIMIT:
            return plain
        items, letters = max(items // 2, 1), letters // 2
    return {"truncated": True}


def _cut(value: Any, items: int, letters: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= letters else value[:letters] + "…"
    if isinstance(value, list):
        return [_cut(item, items, letters) for item in value[:items]]
    if isinstance(value, dict):
        return {key[:letters]: _cut(item, items, letters) for key, item in list(value.items())[:items]}
    return value
