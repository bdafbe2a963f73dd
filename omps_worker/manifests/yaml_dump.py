# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump manifests as YAML: the same bytes as PyYAML, in a fraction of the time.

PyYAML creates a node for each value, in Python, before libyaml writes it. Here blocks and plain texts are written
directly. Texts that may need quotes are left to PyYAML, all of them in one call. A document with anything unusual is
left to PyYAML as a whole.

The format is that of ``yaml.dump(value, default_flow_style=False, width=…)`` with a width that no line reaches.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

import yaml

_LETTERS = frozenset(string.ascii_letters)
_SPECIAL = re.compile(r"""[^ !"$-~]|:(?![!-~])| (?![ !"$-~])""")
"""Characters for which a text may need quotes. In blocks, only its first character, ``: `` and `` #`` matter."""

_WORDS = frozenset(
    form
    for word in ("null", *yaml.SafeLoader.bool_values, "y", "n")
    for form in (word, word.capitalize(), word.upper())
)
"""Words that would be read as a boolean or null without quotes."""

_LONGEST_PLAIN_KEY, _LONGEST_QUOTED_KEY = 100, 30
"""Longer keys may need another form (``? key``), also because quoting makes them longer."""

_LINE = re.compile(r"\n(?=[^\n])")
_WRITTEN = {None: " null\n", True: " true\n", False: " false\n"}


class _Unusual(Exception):
    """PyYAML must write this document."""


def dump(value: list[Any] | dict[Any, Any], render: Callable[[list[Any]], str], text: type[str]) -> str | None:
    """Return ``value`` as PyYAML writes it, or None if PyYAML must write it.

    ``render`` is PyYAML's dump, for a list of texts of type ``str`` or ``text``. It writes ``text`` in its own format.
    """
    if not value:
        return None
    writer = _Writer(text)
    try:
        writer.block(value, 0, inline=True)
        return writer.finish(render)
    except (_Unusual, UnicodeEncodeError, RecursionError):
        return None


class _Writer:
    def __init__(self, text: type[str]) -> None:
        self._text = text
        self._parts: list[str] = []
        self._deferred: list[tuple[int, str, int, str]] = []
        """Texts for PyYAML to write: the index of the part, the text, its column, and what follows it."""
        self._seen: set[int] = set()

    def block(self, value: Any, column: int, *, inline: bool) -> None:
        """Write a list or a mapping whose lines begin in ``column``. ``inline``: its first line is already begun."""
        if id(value) in self._seen:
            # PyYAML writes an alias here.
            raise _Unusual
        self._seen.add(id(value))
        if type(value) is dict:
            self._mapping(value, column, inline)
        else:
            self._list(value, column, inline)

    def _mapping(self, mapping: dict[Any, Any], column: int, inline: bool) -> None:
        parts, indent = self._parts, " " * column
        for key in mapping:
            if type(key) is not str:
                raise _Unusual
        for key, value in sorted(mapping.items(), key=_key):
            if inline:
                inline = False
            else:
                parts.append(indent)
            if len(key) <= _LONGEST_PLAIN_KEY and _is_plain(key):
                parts.append(f"{key}:")
            elif key and len(key) <= _LONGEST_QUOTED_KEY and key.isascii() and key.isprintable():
                self._defer(key, column, ":")
            else:
                raise _Unusual
            kind = type(value)
            if kind is dict and value:
                parts.append("\n")
                self.block(value, column + 2, inline=False)
            elif kind is list and value:
                parts.append("\n")
                self.block(value, column, inline=False)
            else:
                self._scalar(value, kind, column)

    def _list(self, values: list[Any], column: int, inline: bool) -> None:
        parts, dash = self._parts, " " * column + "-"
        for value in values:
            if inline:
                parts.append("-")
                inline = False
            else:
                parts.append(dash)
            kind = type(value)
            if (kind is dict or kind is list) and value:
                parts.append(" ")
                self.block(value, column + 2, inline=True)
            else:
                self._scalar(value, kind, column)

    def _scalar(self, value: Any, kind: type, column: int) -> None:
        """Write the value after ``key:`` or ``-``, to the end of its last line."""
        if kind is str:
            if _is_plain(value):
                self._parts.append(f" {value}\n")
            else:
                self._parts.append(" ")
                self._defer(value, column, "\n")
        elif kind is bool or value is None:
            self._parts.append(_WRITTEN[value])
        elif kind is int:
            self._parts.append(f" {value}\n")
        elif kind is self._text:
            self._parts.append(" ")
            self._defer(value, column, "\n")
        elif kind in (dict, list):
            if id(value) in self._seen:
                raise _Unusual
            self._seen.add(id(value))
            self._parts.append(" {}\n" if kind is dict else " []\n")
        else:
            raise _Unusual

    def _defer(self, value: str, column: int, after: str) -> None:
        self._deferred.append((len(self._parts), value, column, after))
        self._parts.append("")

    def finish(self, render: Callable[[list[Any]], str]) -> str:
        """Let PyYAML write the deferred texts, and return the whole text."""
        if self._deferred:
            different = {(type(value), value): value for _, value, _, _ in self._deferred}
            # An item is appended, so that all others end in the same way.
            items = render([*different.values(), "end"]).split("\n- ")
            if len(items) != len(different) + 1 or not items[0].startswith("- "):
                raise _Unusual
            items[0] = items[0][2:]
            texts = dict(zip(different, items, strict=False))
            for part, value, column, after in self._deferred:
                text = texts[type(value), value]
                if "\r" in text or (text[:1] == "|" and "+" in text[:4]):
                    # A line break that is not "\n", or trailing line breaks that are part of the text.
                    raise _Unusual
                if column and "\n" in text:
                    text = _LINE.sub("\n" + " " * column, text)
                self._parts[part] = text + after
        return "".join(self._parts)


def _is_plain(text: str) -> bool:
    """Return whether ``text`` certainly needs no quotes."""
    return text[:1] in _LETTERS and not _SPECIAL.search(text) and text not in _WORDS


def _key(item: tuple[str, Any]) -> str:
    return item[0]
