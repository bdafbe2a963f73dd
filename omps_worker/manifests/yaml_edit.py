# SPDX-License-Identifier: GPL-3.0-or-later
"""Change single values in YAML text, and keep every other character.

Nothing is dumped again. The file keeps its comments, order, quotes and line ends, and parsers of other versions and
languages still read what they read before.

The places are found from the parser's events, in one pass that keeps none of them. The result is right for all styles
that people and programs write. It may be wrong, or not even YAML, if anchors, aliases and merge keys let a value belong
to several places. So the caller must read the result and compare it (``equal``) with the expected document before
using it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.nodes import ScalarNode

from omps_worker.manifests.yaml_reader import NUMBER_LENGTH, PURE_CHARACTERS

_LIBYAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PURE: Any = yaml.SafeLoader
_STR = "tag:yaml.org,2002:str"
_BREAKS = "\r\n\x85\u2028\u2029"
_BREAK = re.compile(r"\r\n|\n|\r")
_COMMENT = re.compile(rf"(?:^|(?<=\s))#[^{_BREAKS}]*")
_BLOCK_HEADER_COMMENT = re.compile(rf"(?:[&!]\S*[ \t]+)*[|>][-+0-9]*([ \t]+#[^{_BREAKS}]*)")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class CannotEdit(ValueError):
    """The value cannot be changed in the text. The message is a phrase that says why."""


@dataclass(slots=True)
class _Value:
    """The position of a value; for mappings on the path to the wanted keys, also their wanted pairs."""

    event: Any
    end: int
    """The index of its end; for mappings and lists in block style, the start of what follows them."""
    pairs: dict[str, _Pair] = field(default_factory=dict)
    """The wanted pairs. Of equal keys, this is the last one, which counts."""
    is_empty: bool = True

    @property
    def start(self) -> int:
        """The index of its start, including its anchor and tag."""
        index: int = self.event.start_mark.index
        return index


@dataclass(slots=True)
class _Pair:
    key_end: int
    value: _Value


def quoted(text: str) -> str:
    """Return a double-quoted scalar on one line that every parser reads as ``text``."""
    return f'"{"".join(map(_escaped, text))}"'


def with_texts(text: str, path: Sequence[str], values: Mapping[str, str]) -> str:
    """Return ``text`` with the keys and texts of ``values`` set in the mapping at ``path``, a list of keys.

    ``text`` is one readable document, a mapping. Each value on the path must be a mapping, null or missing; missing
    mappings are created. If a key exists already, only its value is replaced.

    Raises CannotEdit if the values cannot be set, for example because there is an alias on the path.
    """
    mark, body = _split_mark(text)
    line_end = _line_end(body)
    mapping, floor = _find(body, path, values), len(body)
    for depth, key in enumerate(path):
        if key not in mapping.pairs:
            return mark + _apply(body, [_insertion(body, mapping, floor, path[depth:], values, line_end)])
        pair = mapping.pairs[key]
        if isinstance(pair.value.event, ScalarEvent):
            return mark + _apply(body, [_replacement(body, mapping, pair, _flow(path[depth + 1 :], values), line_end)])
        if not isinstance(pair.value.event, MappingStartEvent):
            raise CannotEdit(f"{'.'.join(path[: depth + 1])} is an alias of another value")
        mapping, floor = pair.value, pair.key_end
    edits = [
        _replacement(body, mapping, mapping.pairs[key], quoted(value), line_end)
        for key, value in values.items()
        if key in mapping.pairs
    ]
    missing = {key: value for key, value in values.items() if key not in mapping.pairs}
    if missing:
        edits.append(_insertion(body, mapping, floor, (), missing, line_end))
    return mark + _apply(body, edits)


def with_suffix(text: str, key: str, suffix: str) -> str:
    """Return ``text`` with ``suffix`` appended to the text of the top-level ``key``, in the style of that text.

    If that style cannot express it, the result has another meaning. Raises CannotEdit if the key or its text cannot be
    found.
    """
    mark, body = _split_mark(text)
    pair = _find(body, (), (key,)).pairs.get(key)
    if pair is None or not isinstance(pair.value.event, ScalarEvent):
        raise CannotEdit(f"{key} has no text of its own")
    style = pair.value.event.style
    end = pair.value.start + len(body[pair.value.start : pair.value.end].rstrip(f" {_BREAKS}"))
    at = end - 1 if style in ("'", '"') else end
    return mark + _apply(body, [(at, at, suffix)])


def equal(left: Any, right: Any) -> bool:
    """Return whether two values that were read from YAML are indistinguishable.

    1, 1.0 and true are different values, and NaN equals itself. The order of the keys of a mapping does not matter,
    unless they are not text.
    """
    waiting = [(left, right)]
    while waiting:
        one, other = waiting.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, dict):
            if len(one) != len(other):
                return False
            for key, value in one.items():
                if type(key) is str:
                    if key not in other:
                        return False
                    waiting.append((value, other[key]))
            # These are not looked up, because Python considers 1 and 1.0 equal, and does not find NaN.
            odd = [[pair for pair in mapping.items() if type(pair[0]) is not str] for mapping in (one, other)]
            if odd != [[], []]:
                waiting.append((odd[0], odd[1]))
        elif isinstance(one, (list, tuple)):
            if len(one) != len(other):
                return False
            waiting.extend(zip(one, other, strict=True))
        elif isinstance(one, set):
            if sorted(map(repr, one)) != sorted(map(repr, other)):
                return False
        elif one != other if isinstance(one, str) else repr(one) != repr(other):
            return False
    return True


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _split_mark(text: str) -> tuple[str, str]:
    """Return the byte order mark and the rest of the text. Parsers do not agree whether the mark counts in indexes."""
    return ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)


def _line_end(body: str) -> str:
    first = _BREAK.search(body)
    return first.group() if first else "\n"


def _apply(body: str, edits: Sequence[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        body = body[:start] + new + body[end:]
    return body


def _replacement(body: str, mapping: _Value, pair: _Pair, new: str, line_end: str) -> tuple[int, int, str]:
    """Return the edit that replaces the value of ``pair``, including its anchor and tag, with ``new``."""
    value, event = pair.value, pair.value.event
    if isinstance(event, (MappingStartEvent, SequenceStartEvent)) and not event.flow_style:
        raise CannotEdit("its value is a mapping or a list on lines of its own")
    start, end = value.start, value.end
    if start == end and ":" not in _COMMENT.sub("", body[pair.key_end : start]):
        # There is only a key, {key} or "? key", without a colon.
        column = " " * mapping.event.end_mark.column
        return pair.key_end, pair.key_end, f": {new}" if mapping.event.flow_style else f"{line_end}{column}: {new}"
    if start == end:
        return start, end, f" {new}"
    if isinstance(event, ScalarEvent) and event.style in ("|", ">"):
        old = body[start:end]
        comment = _BLOCK_HEADER_COMMENT.match(old)
        end = start + len(old.rstrip(f" {_BREAKS}"))
        new += comment[1] if comment else ""
    return start, end, new


def _insertion(
    body: str, mapping: _Value, floor: int, path: Sequence[str], values: Mapping[str, str], line_end: str
) -> tuple[int, int, str]:
    """Return the edit that adds ``values`` at the start of ``mapping``, inside new mappings for the keys of ``path``.

    They are added at the start because the end of a block mapping is hard to find: comments and empty lines may belong
    to its last value or to what follows. The edit must not be above the index ``floor``.
    """
    at = mapping.event.end_mark.index
    if mapping.event.flow_style:
        return at, at, _flow(path, values)[1:-1] + ("" if mapping.is_empty else ", ")
    column = mapping.event.end_mark.column
    indent = " " * column
    new = f"{line_end}{indent}".join(_block(path, values)) + line_end
    if body[at - column : at] != indent:
        return at, at, new + indent
    at -= column
    while (above := body.rfind("\n", 0, max(at - 1, 0)) + 1) > floor and body[above:at].lstrip(" ").startswith("#"):
        at = above  # comments above the first key belong to it
    return at, at, indent + new


def _block(path: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a block mapping, without their common indentation."""
    for depth, key in enumerate(path):
        yield f"{'  ' * depth}{key}:"
    for key, value in values.items():
        yield f"{'  ' * len(path)}{quoted(key)}: {quoted(value)}"


def _flow(path: Sequence[str], values: Mapping[str, str]) -> str:
    """Return the same mapping in flow style."""
    inner = ", ".join(f"{quoted(key)}: {quoted(value)}" for key, value in values.items())
    for key in reversed(path):
        inner = f"{key}: {{{inner}}}"
    return f"{{{inner}}}"


def _find(body: str, path: Sequence[str], names: Mapping[str, str] | Sequence[str]) -> _Value:
    """Return the top-level mapping of ``body``, with the mappings on ``path`` and the pairs ``names`` at its end."""
    wanted = [*([key] for key in path), names]
    try:
        return _Finder(_LIBYAML(body)).document(wanted)
    except yaml.YAMLError:
        if len(body) > PURE_CHARACTERS:
            raise CannotEdit("it is too long, and not YAML that every parser can read") from None
    try:
        return _Finder(_PURE(body)).document(wanted)
    except yaml.YAMLError:
        raise CannotEdit("it is not YAML") from None


def _end(event: Any) -> int:
    index: int = event.end_mark.index
    return index


class _Finder:
    """Reads the events of one document and keeps only the wanted positions."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._next = loader.get_event
        self._anchored: dict[str, str | None] = {}

    def document(self, wanted: Sequence[Any]) -> _Value:
        """Return the document's mapping. ``wanted`` has the keys to find in each mapping on the path."""
        try:
            self._next()  # the stream begins
            self._next()  # the document begins
            event = self._next()
            if not isinstance(event, MappingStartEvent):
                raise CannotEdit("it is not a mapping")
            return self._value(event, wanted)
        finally:
            self._loader.dispose()

    def _value(self, event: Any, wanted: Sequence[Any]) -> _Value:
        if isinstance(event, MappingStartEvent) and wanted:
            return self._mapping(event, wanted)
        return _Value(event, self._skip(event))

    def _mapping(self, event: Any, wanted: Sequence[Any]) -> _Value:
        mapping = _Value(event, 0)
        keys = wanted[0]
        while not isinstance(key := self._next(), MappingEndEvent):
            mapping.is_empty = False
            name = self._text(key)
            end = self._skip(key)
            if name is not None and name in keys:
                mapping.pairs[name] = _Pair(end, self._value(self._next(), wanted[1:]))
            else:
                self._skip(self._next())
        mapping.end = _end(key)
        return mapping

    def _skip(self, event: Any) -> int:
        """Skip the value that begins with ``event``, and return the index of its end."""
        depth = 0
        while True:
            kind = type(event)
            if kind is ScalarEvent:
                if event.anchor is not None:
                    self._anchored[event.anchor] = self._text(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                depth += 1
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                depth -= 1
            if depth == 0:
                return _end(event)
            event = self._next()

    def _text(self, event: Any) -> str | None:
        """Return the text of a key, or None if the key is not text."""
        if isinstance(event, AliasEvent):
            return self._anchored.get(event.anchor or "")
        if not isinstance(event, ScalarEvent) or event.tag not in (None, "!", _STR):
            return None
        text: str = event.value
        may_be_number = event.tag is None and event.implicit[0] and len(text) <= NUMBER_LENGTH
        if may_be_number and self._loader.resolve(ScalarNode, text, (True, False)) != _STR:
            return None
        return text
