# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading YAML with the line of every key, so that faults can name it.

Reads plain data only. What YAML allows but is always a mistake is a fault: duplicate keys, keys that are not text, and
tags. Anchors, aliases and merge keys work, unless they make the document too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from omps_worker.configuration.settings.tables import Location

DEPTH_LIMIT = 40
"""The maximum nesting depth of lists and tables."""
NODE_LIMIT = 100_000
"""The maximum number of values in a document, with aliases followed."""

_MERGE = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """The text is not readable YAML. The message says why, and in which line."""


@dataclass
class Document:
    """A document: its value, the lines of its parts, and its faults."""

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    """The line (from 1) of each key and list entry."""
    faults: list[tuple[Location, str]] = field(default_factory=list)

    def line(self, location: Location) -> int | None:
        """Return the line of ``location``, or of its innermost part that exists."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return None


def read(text: str) -> Document:
    """Read the only document in ``text``. Raises YamlError if it is not readable YAML."""
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error.problem):  # the parser has a limit of its own
            raise _too_deep() from None
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = error.problem or error.context
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            problem = "there is a tab where only spaces are allowed"
        elif _begins_with_a_star(text, error):
            problem = 'a value that begins with *, or has * after a ], must be in quotes, as in "*-container"'
        raise YamlError(f"is not YAML: {problem}{place}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        raise YamlError(f"is not YAML: it contains a character that YAML does not allow (line {line})") from None
    except (yaml.YAMLError, UnicodeError):
        raise YamlError("is not YAML") from None
    document = Document()
    if node is not None:
        document.value = _Builder(document).build(node, (), 0)
    return document


def _begins_with_a_star(text: str, error: yaml.MarkedYAMLError) -> bool:
    """Return whether the error is about an alias that was meant as a glob that begins with ``*``."""
    alias = error.context_mark if error.context == "while scanning an alias" else error.problem_mark
    return alias is not None and text[alias.index : alias.index + 1] == "*"


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise _too_deep()
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _too_deep() -> YamlError:
    return YamlError(f"is nested too deeply: more than {DEPTH_LIMIT} levels")


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._constructor = SafeConstructor()

    def build(self, node: Node, location: Location, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > NODE_LIMIT or depth > DEPTH_LIMIT:
            raise YamlError("is too large, or endless, once its aliases (*) are followed")
        if isinstance(node, MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._table(node, location, depth)
        if isinstance(node, SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = []
            for index, item in enumerate(node.value):
                place = (*location, index)
                self._document.lines[place] = item.start_mark.line + 1
                items.append(self.build(item, place, depth + 1))
            return items
        return self._scalar(node, location)

    def _table(self, node: MappingNode, location: Location, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for part in self._merged(value_node, location):
                    for name, value in self.build(part, location, depth + 1).items():
                        merged.setdefault(name, value)
                continue
            key = self._scalar(key_node, location) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                line = key_node.start_mark.line + 1
                self._fault(location, f"has a key that is not text (line {line}): put it in quotes")
                continue
            place = (*location, key)
            if key in table:
                self._fault(place, f"is repeated in line {key_node.start_mark.line + 1}: keep one")
                continue
            self._document.lines[place] = key_node.start_mark.line + 1
            table[key] = self.build(value_node, place, depth + 1)
        return {**merged, **table}

    def _merged(self, node: Node, location: Location) -> Iterator[MappingNode]:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            self._nodes += 1
            if isinstance(part, MappingNode):
                yield part
            else:
                self._fault(location, "has a merge key (<<) whose value is not a table")

    def _scalar(self, node: Node, location: Location) -> Any:
        if not isinstance(node, ScalarNode) or node.tag not in _PLAIN_TAGS:
            self._fault(location, "has a tag (!): only plain values are allowed")
            return None
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, TypeError, OverflowError):
            self._fault(location, "cannot be read: put the value in quotes")
            return None

    def _fault(self, location: Location, reason: str) -> None:
        self._document.faults.append((location, reason))
