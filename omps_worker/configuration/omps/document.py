# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing TOML with comments. No name or value can break out of its line."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from omps_worker.common.text import one_line

BLANK = "FILL IN"
"""The marker of keys that the user must fill in."""

WIDTH = 100
"""The maximum width of comment lines."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def text(value: str) -> str:
    """Return ``value`` as a TOML string on one line; invisible characters are escaped.

    >>> print(text('say "hello"'))
    "say \\"hello\\""
    """
    if "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"  # keeps regular expressions readable
    return _quoted(value)


def _quoted(value: str) -> str:
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08X}"


def key(name: str) -> str:
    """Return ``name`` as a TOML key: bare if possible."""
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def value(item: object) -> str:
    """Return ``item`` as a TOML value on one line. Raises ValueError for what TOML does not have, such as None."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return repr(item) if math.isfinite(item) else str(item)
    if isinstance(item, str):
        return text(item)
    if isinstance(item, Mapping):
        pairs = ", ".join(f"{key(name)} = {value(inner)}" for name, inner in item.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(item, (list, tuple)):
        return f"[{', '.join(map(value, item))}]"
    raise ValueError(f"TOML has no {type(item).__name__}")


def _comment(words: str, indent: str = "") -> list[str]:
    lines = textwrap.wrap(one_line(words), WIDTH - 2, subsequent_indent=indent, break_on_hyphens=False)
    return [f"# {line}" for line in lines] or ["#"]


class Document:
    """A TOML document that is written from the top.

    ``whole`` is the table that it stands for once its blanks are filled in with their examples.
    """

    def __init__(self) -> None:
        self.whole: dict[str, Any] = {}
        self.blanks: list[str] = []
        """The keys that must be filled in, dotted."""
        self._path: tuple[str, ...] = ()
        self._table = self.whole
        self._preface: list[str] = []
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in [*self._preface, *self._lines])

    @property
    def path(self) -> tuple[str, ...]:
        """The path of the current table."""
        return self._path

    def preface(self, words: str, indent: str = "") -> None:
        """Add a comment at the very top; ``indent`` is the indentation of its continuation lines."""
        self._preface += _comment(words, indent)

    def comment(self, words: str) -> None:
        """Add a comment on as many lines as it needs."""
        self._lines += _comment(words)

    def table(self, *path: str) -> None:
        """Begin the table ``path``; the following keys belong to it."""
        self._lines.append("")
        self._path, self._table = path, self.whole
        for part in path:
            self._table = self._table.setdefault(part, {})
        self._lines.append(f"[{'.'.join(map(key, path))}]")

    def put(self, name: str, item: object) -> None:
        """Add a key and its value."""
        self._lines.append(f"{key(name)} = {value(item)}")
        self._table[name] = item

    def blank(self, name: str, example: object, why: str) -> None:
        """Add a commented-out key that the user must fill in."""
        if not self._path:
            self._lines.append("")
        self._fill_in(why, name)
        self._lines.append(f"#{key(name)} = {value(example)}")
        self._table[name] = example

    def blank_entry(self, name: str, example: Mapping[str, object], why: str) -> None:
        """Add a commented-out list of tables with one entry that the user must fill in; a table must follow."""
        self._lines.append("")
        self._path, self._table = (), self.whole
        self._fill_in(why, name)
        self._lines.append(f"#[[{key(name)}]]")
        self._lines += [f"#{key(each)} = {value(item)}" for each, item in example.items()]
        self._table[name] = [dict(example)]

    def _fill_in(self, why: str, name: str) -> None:
        self.comment(f"{BLANK}: {why}")
        self.blanks.append(".".join(map(key, [*self._path, name])))
