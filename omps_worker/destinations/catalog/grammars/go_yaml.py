# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML and JSON files as opm reads them.

opm is written in Go. It splits a file into documents at lines that begin with ``---``, reads one document with yaml.v2,
and turns it into JSON. Plain scalars follow other rules than PyYAML's: dates and ``1:30`` are text, ``y`` is true, and
``1e3`` is a number.
"""

from __future__ import annotations

import datetime
import math
import re
from decimal import Decimal
from typing import Any

from omps_worker.common.limits import VALUES
from omps_worker.manifests.yaml_reader import NUMBER_LENGTH, Tagged, YamlFault, YamlReader

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAG = "!omps-worker-scalar"
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_SEPARATOR = "---"
_POINT_FLOAT = re.compile(r"\.[0-9](?:_?[0-9])*(?:[eE][-+]?[0-9](?:_?[0-9])*)?")
_WHOLE = 1e21
"""Floats without a fraction below this are written as integers, as Go writes them."""


class GoReader(YamlReader):
    """Reads documents by the rules of opm; the bounds are for all of them together.

    ``most``: how many values they may have, aliases followed.
    """

    def __init__(self, most: int = VALUES) -> None:
        super().__init__(most, scalar, _Tagged)


def scalar(text: str) -> Any:
    """Return what yaml.v2 takes a plain scalar for: None, a boolean, a number or text.

    Raises YamlFault for a number that JSON cannot hold, or that is too long to be read.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if len(text) > NUMBER_LENGTH:
        return text if text.strip("0123456789abcdefABCDEFxXoO_.+-") else _refuse_number()
    if text[0] == ".":
        if _NOT_FINITE.fullmatch(text):
            raise YamlFault(f"it has a number that JSON cannot hold, {text}")
        number = _float(text.replace("_", "")) if _POINT_FLOAT.fullmatch(text) else None
        return text if number is None else number
    if _NOT_FINITE.fullmatch(text):
        raise YamlFault(f"it has a number that JSON cannot hold, {text}")
    plain = text.replace("_", "")
    integer = _integer(plain)
    if integer is not None:
        return integer
    number = _float(plain) if _FLOAT.fullmatch(plain) else None
    return text if number is None else number


def documents(text: str) -> list[str]:
    """Split the text of a file into documents, as opm does; each keeps its own separator line.

    Raises YamlFault if something else than a comment follows a separator: opm stops there.
    """
    if f"\n{_SEPARATOR}" not in text and not text.startswith(_SEPARATOR):
        return [text] if text else []
    found: list[str] = []
    lines: list[str] = []
    for line in _LINE.findall(text):
        if line.startswith(_SEPARATOR):
            rest = line[len(_SEPARATOR) :].strip()
            if rest and not rest.startswith("#"):
                raise YamlFault("it has a line that begins with --- and goes on")
            if lines:
                found.append("".join(lines))
                lines = []
                # The separator itself begins nothing: opm does not give it to the next document.
                continue
        lines.append(line)
    if lines:
        found.append("".join(lines))
    return found


def json_value(value: Any) -> Any:
    """Return ``value``, which a reader returned, as JSON has it: keys are text, and there are no dates.

    Raises YamlFault for what JSON cannot hold. Recursion is bounded: readers bound the depth.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise YamlFault("it has a number that JSON cannot hold")
        return int(Decimal(repr(value))) if value.is_integer() and abs(value) < _WHOLE else value
    if isinstance(value, dict):
        return {_key(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [json_value(inner) for inner in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    raise YamlFault("it has a value that JSON cannot hold")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(json_value(key))
    raise YamlFault("it has a key that JSON cannot hold")


def _integer(plain: str) -> int | None:
    match = _INTEGER.fullmatch(plain)
    if match is None:
        return None
    sign, hexadecimal, binary, octal, decimal = match.groups()
    for digits, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)):
        if digits is not None:
            value = int(digits, base)
            break
    if sign == "-":
        return -value if value <= 2**63 else None
    # Go's ParseUint takes no sign.
    return value if value < (2**63 if sign else 2**64) else None


def _float(plain: str) -> float | None:
    value = float(plain)
    return value if math.isfinite(value) else None


def _refuse_number() -> str:
    raise YamlFault(f"it has a number of more than {NUMBER_LENGTH} characters")


class _Tagged(Tagged):
    """PyYAML's safe loader with the rules of yaml.v2 for plain scalars."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the tag of a node: that of text, unless the rules make something else of a plain scalar."""
        if isinstance(value, str) and implicit[0]:
            if value == "<<":
                return f"{_TAG}merge"
            return f"{_TAG}str" if isinstance(scalar(value), str) else _SCALAR_TAG
        return super().resolve(kind, value, implicit)

    def construct_plain(self, node: Any) -> Any:
        """Return what a plain scalar stands for."""
        return scalar(node.value)


_Tagged.add_constructor(_SCALAR_TAG, _Tagged.construct_plain)
