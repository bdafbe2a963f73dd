# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what manifests are made of as YAML: the very bytes that PyYAML writes, in a fraction of the time.

PyYAML makes a node of each value, in Python, before libyaml writes it. Here blocks and plain texts are written
directly. Whatever may need quotes is left to PyYAML, all of it at once, and so is a document in which anything
unusual is found: then there is no text.

The form is that of ``yaml.dump(value, default_flow_style=False, width=…)`` with a width that nothing reaches.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

import yaml

_LETTERS = frozenset(string.ascii_letters)
_SPECIAL = re.compile(r"""[^ !"$-~]|:(?![!-~])| (?![ !"$-~])""")
"""What a text may need quotes for. In blocks, only what it begins with, ``: `` and `` #`` matter."""

_WORDS = frozenset(
    form
    for word in ("null", *yaml.SafeLoader.bool_values, "y", "n")
    for form in (word, word.capitalize(), word.upper())
)
"""Those that would be read as something else."""

_LONGEST_PLAIN_KEY, _LONGEST_QUOTED_KEY = 100, 30
"""Longer keys, with what quoting adds to them, may come to be written in a form of their own."""

_LINE = re.compile(r"\n(?=[^\n])")
_WRITTEN = {None: " null\n", True: " true\n", False: " false\n"}


class _Unusual(Exception):
    """PyYAML is to write this document."""


def dump(value: list[Any] | dict[Any, Any], render: Callable[[list[Any]], str], text: type[str]) -> str | None:
    """``value`` as PyYAML writes it; None if that is for PyYAML to do.

    ``render`` is PyYAML's dump, for a list of texts: of ``str``, and of ``text``, which it writes in a way of its own.
    """
    if not value:
        return None
    writer = _Writer(text)
    try:
        writer.block(value, 0, inline=True)
        return writer.written(render)
    except (_Unusual, UnicodeEncodeError, RecursionError):
        return None


class _Writer:
    def __init__(self, text: type[str]) -> None:
        self._text = text
        self._parts: list[str] = []
        self._left: list[tuple[int, str, int, str]] = []
        """What PyYAML is to write: the part that it is, what it is, in which column, and what follows."""
        self._seen: set[int] = set()

    def block(self, value: Any, column: int, *, inline: bool) -> None:
        """Write a list or a mapping whose lines begin in ``column``; ``inline``: the first is begun already."""
        if id(value) in self._seen:
            # It would become an alias.
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
                self._leave(key, column, ":")
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
        """Write what follows ``key:`` or ``-`` to the end of its last line."""
        if kind is str:
            if _is_plain(value):
                self._parts.append(f" {value}\n")
            else:
                self._parts.append(" ")
                self._leave(value, column, "\n")
        elif kind is bool or value is None:
            self._parts.append(_WRITTEN[value])
        elif kind is int:
            self._parts.append(f" {value}\n")
        elif kind is self._text:
            self._parts.append(" ")
            self._leave(value, column, "\n")
        elif kind in (dict, list):
            if id(value) in self._seen:
                raise _Unusual
            self._seen.add(id(value))
            self._parts.append(" {}\n" if kind is dict else " []\n")
        else:
            raise _Unusual

    def _leave(self, value: str, column: int, after: str) -> None:
        self._left.append((len(self._parts), value, column, after))
        self._parts.append("")

    def written(self, render: Callable[[list[Any]], str]) -> str:
        """The whole text, once PyYAML has written what was left to it."""
        if self._left:
            different = {(type(value), value): value for _, value, _, _ in self._left}
            # The last one is ours, so that all others end alike.
            items = render([*different.values(), "end"]).split("\n- ")
            if len(items) != len(different) + 1 or not items[0].startswith("- "):
                raise _Unusual
            items[0] = items[0][2:]
            texts = dict(zip(different, items, strict=False))
            for part, value, column, after in self._left:
                text = texts[type(value), value]
                if "\r" in text or (text[:1] == "|" and "+" in text[:4]):
                    # A line break that is none for us; or one at the end that counts, also for what follows.
                    raise _Unusual
                if column and "\n" in text:
                    text = _LINE.sub("\n" + " " * column, text)
                self._parts[part] = text + after
        return "".join(self._parts)


def _is_plain(text: str) -> bool:
    """Whether ``text`` surely needs no quotes."""
    return text[:1] in _LETTERS and not _SPECIAL.search(text) and text not in _WORDS


def _key(item: tuple[str, Any]) -> str:
    return item[0]
