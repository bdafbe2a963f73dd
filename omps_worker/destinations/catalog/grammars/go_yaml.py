# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML and JSON files as opm reads them.

opm is written in Go. It reads what begins with ``{`` as JSON, if it is that. All else it splits into documents at lines
that begin with ``---``, reads one document with yaml.v2, and turns it into JSON. Plain scalars follow other rules than
PyYAML's: dates and ``1:30`` are text, ``y`` is true, and ``1e3`` is a number.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from decimal import Decimal
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.parser import ParserError

from omps_worker.common.json_text import is_deeper
from omps_worker.common.limits import VALUES, limit_advice
from omps_worker.manifests.yaml_reader import CHARACTERS, DEPTH, NUMBER_LENGTH, ODD_KEYS, NotYaml, YamlFault, YamlReader

_LIBYAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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
_NO_SPACE = re.compile(r"\S")
_SEPARATOR = "---"
_POINT_FLOAT = re.compile(r"\.[0-9](?:_?[0-9])*(?:[eE][-+]?[0-9](?:_?[0-9])*)?")
_NUMBERS = (_INTEGER, _FLOAT, _POINT_FLOAT)
_WHOLE = 1e21
"""Floats without a fraction below this are written as integers, as Go writes them."""

_PEEKED = 30
"""Within how many bytes opm looks for the brace that JSON begins with."""

_SURROGATES = re.compile("[\ud800-\udfff]")


class _Followed(YamlFault):
    """Something that is no document follows the end of a document."""

    def __init__(self, end: int) -> None:
        super().__init__("something follows the end of its document")
        self.end = end


class GoReader(YamlReader):
    """Reads documents by the rules of opm; the bounds are for all of them together.

    ``most``: how many values they may have, aliases followed.
    """

    def __init__(self, most: int = VALUES) -> None:
        super().__init__(most, scalar, _Tagged)
        self._most = most

    def _read(self, text: str) -> Any:
        # yaml.v2 is a port of libyaml: what PyYAML's own parser thinks of tabs does not count.
        try:
            return self._load(text, _LIBYAML)
        except ConstructorError as error:
            raise YamlFault(str(error.problem)) from None
        except ParserError as error:
            if "document start" not in str(error.problem) or error.problem_mark is None:
                raise
            raise _Followed(error.problem_mark.index) from None

    def first(self, text: str) -> Any:
        """Return the first document in the text of a file; None if there is none.

        Raises NotYaml if opm cannot read it either, and YamlFault for what is only refused here.
        """
        if _may_be_json(text):
            self._check_brackets(text)
            value, end = self._json(text, 0)
            if end:
                return value
        pieces = documents(text)
        if not pieces:
            return None
        try:
            return self.read(pieces[0])
        except _Followed as fault:
            # yaml.v2 does not look at what follows a document.
            return self.read(pieces[0][: fault.end])

    def all(self, text: str, most: int) -> list[tuple[str, Any]]:
        """Return the text of each document of a file, ``most`` at most, and its value if it were a file of its own.

        Raises YamlFault if one of them cannot be read, or if there are more.
        """
        pieces = documents(text)
        if any(map(_may_be_json, pieces)):
            self._check_brackets(text)
        found: list[tuple[str, Any]] = []
        for piece in pieces:
            found += self._pieces(piece, most - len(found))
        return found

    def _pieces(self, piece: str, most: int) -> list[tuple[str, Any]]:
        """Return the JSON objects in a document, or what it is in YAML."""
        found: list[tuple[str, Any]] = []
        start = 0
        while start < len(piece):
            if len(found) == most:
                raise YamlFault("it has too many documents")
            value, end = self._json(piece, start) if _may_be_json(piece[start : start + _PEEKED]) else (None, 0)
            if not end:
                value, end = (self.read(piece[start:]) if has_content(piece) else None), len(piece)
            elif not _NO_SPACE.search(piece, end):
                end = len(piece)
            found.append((piece[start:end], value))
            start = end
        return found

    def _json(self, text: str, start: int) -> tuple[Any, int]:
        """Return the JSON object at ``start`` and where it ends; 0 if there is none."""
        at = text.index("{", start)
        try:
            value, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None, 0
        if is_deeper(value, DEPTH):
            raise YamlFault(f"its values are nested more than {DEPTH} levels deep")
        if text.find("\\u", at, end) >= 0 and _SURROGATES.search(written := json.dumps(value, ensure_ascii=False)):
            # Go has no halves of surrogate pairs.
            value = json.loads(_SURROGATES.sub("\ufffd", written))
        self._nodes += _size(value)
        self._characters += end - at
        if self._nodes > self._most:
            raise self._too_many()
        if self._characters > CHARACTERS:
            raise YamlFault(f"together with the files before it, it has more than {CHARACTERS} characters of text")
        return value, end

    def _check_brackets(self, text: str) -> None:
        # The parser has no limits, and an empty list takes fifty times the memory of its text.
        if text.count("{") + text.count("[") > self._most:
            raise self._too_many()

    def _too_many(self) -> YamlFault:
        return YamlFault(
            f"together with the files before it, it has more than {self._most} values; {limit_advice('values')}"
        )


def scalar(text: str) -> Any:
    """Return what yaml.v2 takes a plain scalar for: None, a boolean, a number or text.

    Raises YamlFault for a number that JSON cannot hold, or that is too long to be read.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if len(text) > NUMBER_LENGTH:
        # A long version consists of the same characters as a number.
        plain = text.replace("_", "")
        too_long = any(form.fullmatch(each) for form in _NUMBERS for each in (text, plain))
        return _refuse_number() if too_long else text
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

    Raises NotYaml if something else than a comment follows a separator: opm stops there.
    """
    if text and not text.endswith("\n"):
        # opm ends each line, which counts in block scalars at the end of a file.
        text += "\n"
    if f"\n{_SEPARATOR}" not in text and not text.startswith(_SEPARATOR):
        return [text] if text else []
    found: list[str] = []
    lines: list[str] = []
    for line in _LINE.findall(text):
        if line.startswith(_SEPARATOR):
            rest = line[len(_SEPARATOR) :].strip()
            if rest and not rest.startswith("#"):
                raise NotYaml("it has a line that begins with --- and goes on")
            if lines:
                found.append("".join(lines))
                lines = []
                # The separator itself begins nothing: opm does not give it to the next document.
                continue
        lines.append(line)
    if lines:
        found.append("".join(lines))
    return found


def has_content(piece: str) -> bool:
    """Return whether a document is more than comments and directives."""
    lines = (line.strip() for line in piece.splitlines())
    return any(line and not line.startswith(("#", "%", "---")) for line in lines)


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


def _may_be_json(text: str) -> bool:
    """Return whether opm tries to read ``text`` as JSON."""
    return text[:_PEEKED].encode()[:_PEEKED].decode(errors="ignore").lstrip().startswith("{")


def _size(value: Any) -> int:
    """Return how many values there are in JSON, keys counted too."""
    count = 0
    waiting = [value]
    for each in waiting:
        if type(each) is dict:
            count += 2 * len(each)
            waiting += (inner for inner in each.values() if type(inner) in (dict, list))
        else:
            count += len(each)
            waiting += (inner for inner in each if type(inner) in (dict, list))
    return count + 1


def _finite_number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_JSON = json.JSONDecoder(parse_float=_finite_number, parse_constant=_no_number)


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


class _Tagged(_LIBYAML):  # type: ignore[misc]
    """PyYAML's safe loader with libyaml's parser and the rules of yaml.v2 for plain scalars."""

    def flatten_mapping(self, node: Any) -> None:
        """Resolve merge keys, as PyYAML does before it creates a mapping of any kind."""
        super().flatten_mapping(node)
        if sum(key.tag != f"{_TAG}str" for key, _ in node.value) > ODD_KEYS:
            raise YamlFault(f"it has more than {ODD_KEYS} keys that are not text, in a mapping")

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
