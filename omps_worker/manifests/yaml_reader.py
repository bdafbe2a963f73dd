# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML that comes from outside: fast, within bounds, and with operator-courier's verdict.

The values are those of ``yaml.safe_load``, which is what operator-courier calls. It is built on
PyYAML's own parser, twenty times slower than libyaml's. So libyaml parses here and the values
are built from its events: no tree of nodes is ever in memory, and whatever grows is counted.

The two parsers disagree about a few texts (tabs between tokens, a byte order mark in the middle,
the tag ``!``, ``|#``, ``[a?]``, escaped surrogates). There PyYAML's parser has the last word, so that
what is accepted here is what operator-courier accepts.

Bounds, each with a fault that names it: how deep values nest (``DEPTH``), how many there are and how much
text they have once aliases are followed (``limits.VALUES``, ``CHARACTERS``), how long a number is (``NUMBER_LENGTH``),
how many keys are no text (``ODD_KEYS``), and how much PyYAML has to understand (``TAGGED_NODES``). An alias
inside the value that it names is refused too: such a value has no end.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from omps_worker.common.limits import VALUES, whose
from omps_worker.common.text import one_line

DEPTH = 200
"""How deeply values may nest. Custom resources reach about forty."""

CHARACTERS = 10 * 2**20
"""How much text the files of one operator may have together, aliases followed: a dump repeats it."""

ODD_KEYS = 1000
"""How many keys of a mapping may be no text: numbers can be chosen such that a dict takes hours for them."""

TAGGED_NODES = 100_000
"""How many values a text with tags or merge keys may have: PyYAML keeps a tree of nodes of it."""

NUMBER_LENGTH = 1000
"""How many characters a number may have: Python's time for them grows with the square."""

REPEATED_KEYS = 20
"""Of how many keys of one text that stand twice in a mapping people are told."""

PURE_CHARACTERS = 2**20
"""How much text of one operator PyYAML's own parser may look at; beyond, libyaml decides alone.

Texts with tags or merge keys must not have more.
"""

_LIBYAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PURE: Any = yaml.SafeLoader

_TAG = "tag:yaml.org,2002:"
_FIRST_LETTERS = frozenset(key for key in Resolver.yaml_implicit_resolvers if key is not None)
"""What a plain scalar begins with if it may be anything but text."""
_NULLS = ("~", "null", "Null", "NULL", "")
_WORDS: dict[str, bool | None] = dict.fromkeys(_NULLS) | {
    form: value for word, value in _PURE.bool_values.items() for form in (word, word.capitalize(), word.upper())
}
_UNFINISHED = object()
_BLOCK_COMMENT = re.compile(r"[|>][-+1-9]{0,2}#")
_RARE_BREAK = re.compile("[\r\x85\u2028\u2029]")
_COMMENT = re.compile(r"(?:^|[ \t])#")
_OF_NUMBERS = "0123456789abcdefABCDEFxoXO_.:+-tTzZ \t"
"""Every letter that a number or a date of more than ``NUMBER_LENGTH`` characters can have."""


class YamlFault(ValueError):
    """A text that is refused; its message is a phrase that says why, and where."""


class YamlReader:
    """Reads the YAML files of one operator; the bounds are for all of them together.

    ``most``: how many values they may have, aliases followed.
    """

    def __init__(self, most: int = VALUES) -> None:
        self._most = most
        self._nodes = self._characters = 0
        self._pure_room = PURE_CHARACTERS
        self.repeated: list[str] = []
        """What stood twice in a mapping of the text that was read last, a sentence each."""

    @property
    def values(self) -> int:
        """How many values it has read, aliases followed."""
        return self._nodes

    def read(self, text: str) -> Any:
        """The one document in ``text``, None if there is none. Raises YamlFault."""
        try:
            return self._read(text)
        except YamlFault:
            raise
        except yaml.YAMLError as error:
            raise YamlFault(_phrase(error)) from None
        except RecursionError:
            raise YamlFault("its values nest too deeply") from None
        except (ValueError, OverflowError):
            raise YamlFault("it has a number or a date that is none") from None
        except (TypeError, AttributeError, LookupError):
            raise YamlFault("its tags do not fit its values") from None

    def _read(self, text: str) -> Any:
        if _parsers_differ(text) and self._may_use_pure(text):
            return self._load(text, _PURE)
        nodes, characters = self._nodes, self._characters
        try:
            return self._load(text, _LIBYAML)
        except yaml.YAMLError:
            if not self._may_use_pure(text):
                raise
            self._nodes, self._characters = nodes, characters
            return self._load(text, _PURE)

    def _may_use_pure(self, text: str) -> bool:
        if len(text) > self._pure_room:
            return False
        self._pure_room -= len(text)
        return True

    def _load(self, text: str, parser: Any) -> Any:
        if len(text) > CHARACTERS:
            raise _too_much_text()
        nodes = self._nodes
        self.repeated = []
        loader = parser(text)
        try:
            value, certain = self._build(loader)
        finally:
            loader.dispose()
        if certain:
            return value
        # Rare, and PyYAML's to understand. The bounds were kept above, but it needs far more for each value.
        if self._nodes - nodes > TAGGED_NODES or not self._may_use_pure(text):
            raise YamlFault(
                f"it has tags or merge keys and is too large for that: more than {TAGGED_NODES} values, or, with "
                f"all such files, {PURE_CHARACTERS} characters"
            )
        return yaml.load(text, _Tagged)  # noqa: S506 - a safe loader

    def _build(self, loader: Any) -> tuple[Any, bool]:
        """The document's value, and whether it is certain: not if there are tags or merge keys."""
        next_event = loader.get_event
        next_event()
        if isinstance(next_event(), StreamEndEvent):
            return None, True
        certain, nodes, characters, flow = True, self._nodes, self._characters, False
        most = self._most
        known: dict[str, Any] = dict(_WORDS)
        anchors: dict[str, tuple[Any, int, int]] = {}
        outer: list[tuple[list[Any], str | None, int, int, bool]] = []
        items: list[Any] = []
        while True:
            event = next_event()
            kind = type(event)
            anchor = None
            start, text_start = nodes, characters
            nodes += 1
            if kind is ScalarEvent:
                value = event.value
                characters += len(value)
                if event.tag is not None:
                    certain = False
                elif event.implicit[0]:
                    if flow and "?" in value:
                        certain = False
                    if value[:1] in _FIRST_LETTERS:
                        if value in known:
                            value = known[value]
                        else:
                            value, simple = _resolved(loader, value, known)
                            certain = certain and simple
                anchor = event.anchor
                if anchor is not None:
                    _check_new(anchor, anchors, event)
                elif nodes <= most and characters <= CHARACTERS:
                    # By far the most.
                    items.append(value)
                    continue
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                if event.tag is not None:
                    certain = False
                anchor = event.anchor
                if anchor is not None:
                    _check_new(anchor, anchors, event)
                    anchors[anchor] = (_UNFINISHED, 0, 0)
                outer.append((items, anchor, start, text_start, flow))
                if len(outer) > DEPTH:
                    raise YamlFault(f"its values nest more than {DEPTH} deep{_at(event)}")
                items, flow = [], flow or event.flow_style
                continue
            elif kind is MappingEndEvent:
                value = _mapping(items, certain, event)
                if 2 * len(value) != len(items):
                    self._note_repeated(items, event)
                items, anchor, start, text_start, flow = outer.pop()
                nodes -= 1
            elif kind is SequenceEndEvent:
                value = items
                items, anchor, start, text_start, flow = outer.pop()
                nodes -= 1
            elif kind is AliasEvent:
                if event.anchor not in anchors:
                    raise YamlFault(f"it has an alias of nothing, {one_line(event.anchor)[:80]}{_at(event)}")
                value, size, text_size = anchors[event.anchor]
                if value is _UNFINISHED:
                    raise YamlFault(f"it has an alias inside the value that it names{_at(event)}")
                nodes += size - 1
                characters += text_size
            elif kind is DocumentEndEvent:
                break
            if nodes > most:
                raise _too_many_values(most)
            if characters > CHARACTERS:
                raise _too_much_text()
            if anchor is not None:
                anchors[anchor] = (value, nodes - start, characters - text_start)
            items.append(value)
        after = next_event()
        if not isinstance(after, StreamEndEvent):
            raise YamlFault(f"it has more than one document{_at(after)}")
        self._nodes, self._characters = nodes, characters
        return items[0], certain

    def _note_repeated(self, items: list[Any], event: Any) -> None:
        seen: set[str] = set()
        for key in items[::2]:
            if len(self.repeated) >= REPEATED_KEYS:
                return
            # A merge key may stand there more than once.
            if type(key) is not str or key == "<<":
                continue
            if key in seen:
                where = f"in the mapping that ends{_at(event)}"
                self.repeated.append(f"{one_line(key)[:80]} stands more than once {where}: the last one counts")
            seen.add(key)


def _resolved(loader: Any, value: str, known: dict[str, Any]) -> tuple[Any, bool]:
    """What a plain scalar stands for, and whether that is certain.

    Numbers are remembered in ``known`` where they take long to understand. Dates are not: PyYAML makes a new one
    for each.
    """
    if value.isdigit() and value.isascii() and value[0] != "0" and len(value) <= NUMBER_LENGTH:
        return int(value), True
    if len(value) > NUMBER_LENGTH:
        # Nothing for PyYAML's regular expressions: they take fifty times the memory that "1:1:1:…" has.
        if value.strip(_OF_NUMBERS):
            return value, True
        if value.count(":") > NUMBER_LENGTH // 2:
            raise _too_long_number()
    tag = loader.resolve(ScalarNode, value, (True, False)).removeprefix(_TAG)
    if tag in ("merge", "value"):
        return value, False
    if tag in ("int", "float"):
        if len(value) > NUMBER_LENGTH:
            raise _too_long_number()
        known[value] = loader.yaml_constructors[_TAG + tag](loader, ScalarNode(_TAG + tag, value))
        return known[value], True
    if tag == "str":
        return value, True
    return loader.yaml_constructors[_TAG + tag](loader, ScalarNode(_TAG + tag, value)), True


def _too_long_number() -> YamlFault:
    return YamlFault(f"it has a number of more than {NUMBER_LENGTH} characters")


def _too_many_values(most: int) -> YamlFault:
    return YamlFault(f"with the files before it, it has more than {most} values, aliases followed; {whose('values')}")


def _too_much_text() -> YamlFault:
    return YamlFault(
        f"with the files before it, it has more than {CHARACTERS} characters of text, aliases followed; that is a "
        "limit of this worker, which no key raises"
    )


def _too_many_odd_keys(event: Any) -> YamlFault:
    return YamlFault(f"it has more than {ODD_KEYS} keys that are no text, in a mapping{_at(event)}")


def _mapping(items: list[Any], certain: bool, event: Any) -> dict[Any, Any]:
    """A mapping of ``items``, keys and values by turns; of two equal keys the last one counts."""
    if len(items) > 2 * ODD_KEYS and sum(type(key) is not str for key in items[::2]) > ODD_KEYS:
        raise _too_many_odd_keys(event)
    try:
        return dict(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        if certain:
            raise YamlFault(f"it has a list or a mapping as a key, in the mapping that ends{_at(event)}") from None
        return {}


class _Tagged(_PURE):  # type: ignore[misc]
    """PyYAML's safe loader, for what only it understands; with the bound for keys that are no text."""

    def flatten_mapping(self, node: Any) -> None:
        """Take in merge keys, as PyYAML does before it makes any kind of mapping."""
        super().flatten_mapping(node)
        if sum(key.tag != f"{_TAG}str" for key, _ in node.value) > ODD_KEYS:
            raise _too_many_odd_keys(node)


def _check_new(anchor: str, anchors: dict[str, tuple[Any, int, int]], event: Any) -> None:
    if anchor in anchors:
        raise YamlFault(f"it has two anchors of one name, {one_line(anchor)[:80]}{_at(event)}")


def _parsers_differ(text: str) -> bool:
    """Whether libyaml may accept ``text``, or read it, in another way than PyYAML does."""
    if text.find("\ufeff", 1) > 0 or _BLOCK_COMMENT.search(text):
        return True
    return "\t" in text and (bool(_RARE_BREAK.search(text)) or _has_loose_tab(text.removeprefix("\ufeff")))


def _has_loose_tab(text: str) -> bool:
    """Whether a tab stands outside of quoted text, block text and comments."""
    starts, ends = [-1], [0]
    events: Iterator[Any] = yaml.parse(text, Loader=_LIBYAML)
    try:
        for event in events:
            if isinstance(event, ScalarEvent) and event.style:
                start, end = _span(event)
                if event.style in "|>":
                    # The text begins below the line of the indicator, which an anchor or a tag may precede.
                    start = text.find("\n", start, end) if event.anchor is None and event.tag is None else -1
                    if start < 0:
                        continue
                starts.append(start)
                ends.append(end)
    except yaml.YAMLError:
        return False
    at = text.find("\t")
    while at >= 0:
        last = bisect.bisect_right(starts, at) - 1
        if at < ends[last]:
            at = text.find("\t", ends[last])
            continue
        line_start = max(text.rfind("\n", 0, at) + 1, ends[last])
        if not _COMMENT.search(text[line_start:at]):
            return True
        line_end = text.find("\n", at)
        at = text.find("\t", line_end) if line_end >= 0 else -1
    return False


def _phrase(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark else ""
        problem = str(error.problem or error.context or "it is no YAML")
        if "'\\t'" in problem or "tab character" in problem:
            problem = "it has a tab where only blanks can be"
        return one_line(problem)[:200] + where
    reason = getattr(error, "reason", None)
    return one_line(str(reason))[:200] if reason else "it is no YAML"


def _span(event: Any) -> tuple[int, int]:
    return event.start_mark.index, event.end_mark.index


def _at(event: Any) -> str:
    return f" (line {event.start_mark.line + 1})"
