# SPDX-License-Identifier: GPL-3.0-or-later
"""Read untrusted YAML: fast, within limits, and with the same results as operator-courier.

The values are those of ``yaml.safe_load``, which operator-courier calls. That function uses PyYAML's own parser, which
is twenty times slower than libyaml's. So libyaml parses here, and the values are built from its events: there is never
a tree of nodes in memory, and everything that can grow is counted.

The two parsers disagree about a few texts (tabs between tokens, a byte order mark in the middle, the tag ``!``,
``|#``, ``[a?]``, escaped surrogates). For those, PyYAML's parser decides, so that this module accepts what
operator-courier accepts.

Each limit has its own error: the depth of nested values (``DEPTH``), the number of values and the amount of text with
aliases followed (``limits.VALUES``, ``CHARACTERS``), the length of a number (``NUMBER_LENGTH``), the number of keys
that are not text (``ODD_KEYS``), and the size of what PyYAML must read (``TAGGED_NODES``). An alias inside the value
that it refers to is refused too, because such a value is infinite.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
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

from omps_worker.common.limits import VALUES, limit_advice
from omps_worker.common.text import one_line

DEPTH = 200
"""The most levels of nested values. Custom resources have up to about forty."""

CHARACTERS = 10 * 2**20
"""The most characters in the files of one operator, with aliases followed because a dump repeats the text."""

ODD_KEYS = 1000
"""The most keys of a mapping that are not text. Numbers can be chosen so that a dict of them takes hours to build."""

TAGGED_NODES = 100_000
"""The most values in a text with tags or merge keys, of which PyYAML builds a tree of nodes."""

NUMBER_LENGTH = 1000
"""The most characters of a number. The time to convert a number grows with the square of its length."""

REPEATED_KEYS = 20
"""The most repeated keys of one text that are reported."""

PURE_CHARACTERS = 2**20
"""The most characters of one operator that PyYAML's own parser reads. Beyond that, libyaml alone decides.

Texts with tags or merge keys must not have more.
"""

_LIBYAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PURE: Any = yaml.SafeLoader

_TAG = "tag:yaml.org,2002:"
_FIRST_LETTERS = frozenset(key for key in Resolver.yaml_implicit_resolvers if key is not None)
"""The first characters of plain scalars that may be something else than text."""
_NULLS = ("~", "null", "Null", "NULL", "")
_WORDS: dict[str, bool | None] = dict.fromkeys(_NULLS) | {
    form: value for word, value in _PURE.bool_values.items() for form in (word, word.capitalize(), word.upper())
}
_UNFINISHED = object()
_BLOCK_COMMENT = re.compile(r"[|>][-+1-9]{0,2}#")
_RARE_BREAK = re.compile("[\r\x85\u2028\u2029]")
_COMMENT = re.compile(r"(?:^|[ \t])#")
_NUMBER_CHARACTERS = "0123456789abcdefABCDEFxoXO_.:+-tTzZ \t"
"""All characters that can occur in a number or a date of more than ``NUMBER_LENGTH`` characters."""


class YamlFault(ValueError):
    """A text is refused. The message is a phrase that says why, and where."""


class NotYaml(YamlFault):
    """A text is not YAML at all, so that no other program can read it either."""


class YamlReader:
    """Reads the YAML files of one operator. The limits apply to all files together.

    ``max_values`` is the most values that they may have, with aliases followed. ``scalar`` returns what a plain scalar
    stands for, for readers with other rules than PyYAML's; it raises YamlFault to refuse one. ``tagged`` makes PyYAML's
    kind of loader for texts with tags or merge keys, by the same rules.
    """

    def __init__(
        self,
        max_values: int = VALUES,
        scalar: Callable[[str], Any] | None = None,
        tagged: Callable[[str], Any] | None = None,
    ) -> None:
        self._max_values = max_values
        self._scalar = scalar
        self._tagged: Any = tagged or Tagged
        self._nodes = self._characters = 0
        self._pure_remaining = PURE_CHARACTERS
        self.repeated: list[str] = []
        """The repeated keys in mappings of the text that was read last, each in a sentence."""

    @property
    def values(self) -> int:
        """The number of values that were read, with aliases followed."""
        return self._nodes

    def read(self, text: str) -> Any:
        """Return the one document in ``text``, or None if there is none. Raises YamlFault if the text is refused."""
        try:
            return self._read(text)
        except YamlFault:
            raise
        except yaml.YAMLError as error:
            raise NotYaml(_phrase(error)) from None
        except RecursionError:
            raise YamlFault("its values are nested too deeply") from None
        except (ValueError, OverflowError):
            raise YamlFault("it has an invalid number or date") from None
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
        if len(text) > self._pure_remaining:
            return False
        self._pure_remaining -= len(text)
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
        # Rarely, PyYAML must interpret the text. The limits are checked above, but PyYAML needs far more per value.
        if self._nodes - nodes > TAGGED_NODES or not self._may_use_pure(text):
            raise YamlFault(
                f"it has tags or merge keys and is too large for that: more than {TAGGED_NODES} values, or more than "
                f"{PURE_CHARACTERS} characters together with all such files"
            )
        return yaml.load(text, self._tagged)  # noqa: S506 - a safe loader

    def _build(self, loader: Any) -> tuple[Any, bool]:
        """Return the document's value, and whether it is certain. It is not if there are tags or merge keys."""
        next_event = loader.get_event
        next_event()
        if isinstance(next_event(), StreamEndEvent):
            return None, True
        certain, nodes, characters, flow = True, self._nodes, self._characters, False
        max_values, scalar = self._max_values, self._scalar
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
                    if scalar is not None:
                        certain = certain and value != "<<"
                        value = scalar(value)
                    elif value[:1] in _FIRST_LETTERS:
                        if value in known:
                            value = known[value]
                        else:
                            value, simple = _resolved(loader, value, known)
                            certain = certain and simple
                anchor = event.anchor
                if anchor is not None:
                    _check_new(anchor, anchors, event)
                elif nodes <= max_values and characters <= CHARACTERS:
                    # By far the most common case.
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
                    raise YamlFault(f"its values are nested more than {DEPTH} levels deep{_at(event)}")
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
                    raise YamlFault(f"it has an alias without an anchor, {one_line(event.anchor)[:80]}{_at(event)}")
                value, size, text_size = anchors[event.anchor]
                if value is _UNFINISHED:
                    raise YamlFault(f"it has an alias inside the value that the alias refers to{_at(event)}")
                nodes += size - 1
                characters += text_size
            elif kind is DocumentEndEvent:
                break
            if nodes > max_values:
                raise _too_many_values(max_values)
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
            # A merge key may occur more than once.
            if type(key) is not str or key == "<<":
                continue
            if key in seen:
                mapping = f"the mapping that ends{_at(event)}"
                self.repeated.append(f"{one_line(key)[:80]} occurs more than once in {mapping}: the last one counts")
            seen.add(key)


def _resolved(loader: Any, value: str, known: dict[str, Any]) -> tuple[Any, bool]:
    """Return the value of a plain scalar, and whether it is certain.

    Numbers that take long to convert are cached in ``known``. Dates are not cached, because PyYAML creates a new object
    for each.
    """
    if value.isdigit() and value.isascii() and value[0] != "0" and len(value) <= NUMBER_LENGTH:
        return int(value), True
    if len(value) > NUMBER_LENGTH:
        # Not for PyYAML's regular expressions, which take fifty times the memory of a text like "1:1:1:…".
        if value.strip(_NUMBER_CHARACTERS):
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


def _too_many_values(limit: int) -> YamlFault:
    return YamlFault(
        f"together with the files before it, it has more than {limit} values, with aliases followed; "
        f"{limit_advice('values')}"
    )


def _too_much_text() -> YamlFault:
    return YamlFault(
        f"together with the files before it, it has more than {CHARACTERS} characters of text, with aliases followed; "
        "that is a limit of this worker, and no configuration key raises it"
    )


def _too_many_odd_keys(event: Any) -> YamlFault:
    return YamlFault(f"it has more than {ODD_KEYS} keys that are not text, in a mapping{_at(event)}")


def _mapping(items: list[Any], certain: bool, event: Any) -> dict[Any, Any]:
    """Return a mapping of ``items``, which alternate between keys and values. Of equal keys, the last one counts."""
    if len(items) > 2 * ODD_KEYS and sum(type(key) is not str for key in items[::2]) > ODD_KEYS:
        raise _too_many_odd_keys(event)
    try:
        return dict(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        if certain:
            raise YamlFault(f"it has a list or a mapping as a key, in the mapping that ends{_at(event)}") from None
        return {}


class Tagged(_PURE):  # type: ignore[misc]
    """PyYAML's safe loader, for texts that only PyYAML interprets, with the limit for keys that are not text."""

    def flatten_mapping(self, node: Any) -> None:
        """Resolve merge keys, as PyYAML does before it creates a mapping of any kind."""
        super().flatten_mapping(node)
        if sum(key.tag != f"{_TAG}str" for key, _ in node.value) > ODD_KEYS:
            raise _too_many_odd_keys(node)


def _check_new(anchor: str, anchors: dict[str, tuple[Any, int, int]], event: Any) -> None:
    if anchor in anchors:
        raise YamlFault(f"it has two anchors with the same name, {one_line(anchor)[:80]}{_at(event)}")


def _parsers_differ(text: str) -> bool:
    """Return whether libyaml and PyYAML may disagree about whether ``text`` is valid, or about its meaning."""
    if text.find("\ufeff", 1) > 0 or _BLOCK_COMMENT.search(text):
        return True
    return "\t" in text and (bool(_RARE_BREAK.search(text)) or _has_loose_tab(text.removeprefix("\ufeff")))


def _has_loose_tab(text: str) -> bool:
    """Return whether there is a tab outside of quoted text, block text and comments."""
    starts, ends = [-1], [0]
    events: Iterator[Any] = yaml.parse(text, Loader=_LIBYAML)
    try:
        for event in events:
            if getattr(event, "style", None):
                start, end = event.start_mark.index, event.end_mark.index
                if event.style in "|>":
                    # The text begins on the line after the indicator. An anchor or a tag may precede the indicator.
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
        problem = str(error.problem or error.context or "it is not YAML")
        if "'\\t'" in problem or "tab character" in problem:
            problem = "it has a tab where only spaces are allowed"
        return one_line(problem)[:200] + where
    reason = getattr(error, "reason", None)
    return one_line(str(reason))[:200] if reason else "it is not YAML"


def _at(event: Any) -> str:
    return f" (line {event.start_mark.line + 1})"
