# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluating expressions of a Python file without running anything.

Literals, names that were assigned such values before, concatenated texts and lists, and arithmetic like ``20 * 1024 *
1024`` have values. An environment variable becomes a ``Variable``. Everything else becomes an ``Unreadable`` with a
reason, which may also be inside a list or a table; the caller that needs the value decides whether that matters. No
reason repeats the content of the file, which may be a secret.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = Any
"""None, bool, int, float, str, list, ``TableWithLines``, ``Variable``, ``Section`` or ``Unreadable``."""

WEIGHT_LIMIT = 2**20
"""The maximum size of a value in characters and items. A name that is joined with itself doubles each time."""

LARGEST = 2**63 - 1
"""The largest integer that every TOML parser supports."""

NOT_RUN = "and the file is never run: write the value itself"
"""The end of the reasons for unreadable values."""

_WHY: Mapping[type[ast.AST], str] = {
    ast.Attribute: "refers to an attribute of something else",
    ast.Await: "is the result of a call",
    ast.BoolOp: "depends on a condition",
    ast.Call: "is the result of a call",
    ast.Compare: "depends on a condition",
    ast.DictComp: "is computed by a loop",
    ast.GeneratorExp: "is computed by a loop",
    ast.IfExp: "depends on a condition",
    ast.Lambda: "is a function",
    ast.ListComp: "is computed by a loop",
    ast.Set: "is a set",
    ast.SetComp: "is computed by a loop",
    ast.Starred: "is unpacked from another value",
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that could only be known by running the file."""

    line: int
    reason: str
    """The reason: a sentence without its subject, which is the key."""


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of an environment variable."""

    line: int
    name: str


class TableWithLines(dict[Any, Any]):
    """A table that remembers the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}

    def put(self, key: object, value: Value, line: int) -> None:
        """Set ``key``; a later value replaces an earlier one, as in Python."""
        self[key] = value
        self.lines[key] = line


@dataclass(frozen=True, slots=True)
class BoundName:
    """The value that a name is bound to."""

    name: str
    value: Value
    line: int
    weight: int = 1
    reach: frozenset[str] | None = None
    """For a name that is not a setting, such as a function: the names that it mentions."""


Scope = dict[str, BoundName]


@dataclass(eq=False, slots=True)
class Section:
    """A class in the file."""

    name: str
    line: int
    scope: Scope
    bases: tuple[Section, ...]
    foreign: tuple[int, ...] = ()
    """The lines of base classes that are not in the file."""
    fault: Unreadable | None = None
    """Why even the names of its keys cannot be known."""
    kind: type = field(init=False)

    def __post_init__(self) -> None:
        # An empty class, so that Python itself computes the order in which bases are searched.
        self.kind = type("Section", tuple(base.kind for base in self.bases), {"section": self})

    @property
    def whole(self) -> bool:
        """Whether all inherited keys are in the file and can be known."""
        return not any(section.foreign or section.fault for section in self.lineage)

    @property
    def lineage(self) -> tuple[Section, ...]:
        """This class and the classes that it inherits from, in Python's search order."""
        return tuple(vars(kind)["section"] for kind in self.kind.__mro__[:-1])

    def look_up(self, name: str) -> BoundName | None:
        """Return the binding that Python would find, or None."""
        return next((section.scope[name] for section in self.lineage if name in section.scope), None)


def look_up(name: str, scopes: Sequence[Mapping[str, BoundName]]) -> BoundName | None:
    """Return the binding of ``name`` in ``scopes``, which are ordered from inner to outer, or None."""
    return next((scope[name] for scope in scopes if name in scope), None)


class Evaluation:
    """The evaluation of an expression in ``scopes`` (from inner to outer); ``weight`` is the size of its values."""

    def __init__(self, scopes: Sequence[Mapping[str, BoundName]]) -> None:
        self._scopes = scopes
        self.weight = 0

    def of(self, node: ast.expr) -> Value:
        """Return the value of ``node``."""
        self.weight += 1
        value = self._of(node)
        if isinstance(value, str):
            self.weight += len(value)
        return self._checked(value, node.lineno)

    def _of(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.of(item) for item in items]
            case ast.Dict():
                return self._table(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return self._signed(sign, self.of(operand), node.lineno)
            case ast.BinOp():
                return self._joined(node)
            case ast.JoinedStr(values=parts):
                return self._formatted(parts, node.lineno)
            case ast.Name(id=name):
                return self._named(look_up(name, self._scopes), node.lineno)
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                section = look_up(owner, self._scopes)
                if section and isinstance(section.value, Section) and section.value.whole:
                    return self._named(section.value.look_up(name), node.lineno)
            case ast.Call() | ast.Subscript():
                if variable := environment_variable(node):
                    return Variable(node.lineno, variable)
        return Unreadable(node.lineno, f"{_WHY.get(type(node), 'is an expression that must be run')}, {NOT_RUN}")

    def _checked(self, value: Value, line: int) -> Value:
        if self.weight > WEIGHT_LIMIT:
            return Unreadable(line, "is too large")
        if isinstance(value, (bool, float, list, dict, Unreadable, Variable)) or value is None:
            return value
        if isinstance(value, int):
            return value if abs(value) <= LARGEST else Unreadable(line, "is too large a number")
        if isinstance(value, str):
            surrogate = any("\ud800" <= letter <= "\udfff" for letter in value)
            return Unreadable(line, "has half of a surrogate pair, which is not a character") if surrogate else value
        return Unreadable(line, "is neither text nor a number")

    def _named(self, binding: BoundName | None, line: int) -> Value:
        if binding is None:
            return Unreadable(line, "uses a name that the file does not set before (text must be in quotes)")
        if isinstance(binding.value, Section):
            return Unreadable(line, "is a class")
        self.weight += binding.weight
        return binding.value

    def _table(self, node: ast.Dict) -> Value:
        table = TableWithLines()
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.of(value_node)
            if key_node is None:
                if not isinstance(value, TableWithLines):
                    return Unreadable(value_node.lineno, f"is unpacked from another value, {NOT_RUN}")
                for key in value:
                    table.put(key, value[key], value.lines[key])
                continue
            key = self.of(key_node)
            if not isinstance(key, (str, int, float)):
                return Unreadable(key_node.lineno, "has a key that is not text")
            table.put(key, value, key_node.lineno)
        return table

    def _signed(self, sign: ast.unaryop, value: Value, line: int) -> Value:
        if not _is_number(value):
            return _first_unreadable(value) or Unreadable(line, "has a sign, but is not a number")
        return -value if isinstance(sign, ast.USub) else value

    def _formatted(self, parts: Sequence[ast.expr], line: int) -> Value:
        text = ""
        for part in parts:
            plain = isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None
            value = self.of(part.value if isinstance(part, ast.FormattedValue) else part)
            if not isinstance(value, str) or (isinstance(part, ast.FormattedValue) and not plain):
                return _first_unreadable(value) or Unreadable(line, "is formatted from something other than plain text")
            text += value
        return text

    def _joined(self, node: ast.BinOp) -> Value:
        left, right, line = self.of(node.left), self.of(node.right), node.lineno
        if fault := _first_unreadable(left, right):
            return fault
        if isinstance(node.op, ast.Add) and any(
            isinstance(left, kind) and isinstance(right, kind) for kind in (str, list)
        ):
            self.weight += len(left) + len(right)
            return left + right if self.weight <= WEIGHT_LIMIT else Unreadable(line, "is too large")
        action = _ARITHMETIC.get(type(node.op))
        if action is None or not _is_number(left) or not _is_number(right):
            return Unreadable(line, f"is computed, {NOT_RUN}")
        if isinstance(node.op, (ast.Pow, ast.LShift)) and not (
            isinstance(left, int) and isinstance(right, int) and 0 <= right < 64
        ):
            return Unreadable(line, f"is computed, {NOT_RUN}")
        try:
            return action(left, right)
        except ArithmeticError:
            return Unreadable(line, "is a number that cannot be computed")


def environment_variable(node: ast.expr) -> str | None:
    """Return the name of the environment variable that ``node`` reads, or None."""
    match node:
        case ast.Subscript(value=source, slice=ast.Constant(value=str(name))):
            return name if _dotted(source) in ("os.environ", "environ") else None
        case ast.Call(func=source, args=[ast.Constant(value=str(name)), *_]):
            return name if _dotted(source) in ("os.getenv", "getenv", "os.environ.get", "environ.get") else None
    return None


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < 3:
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _first_unreadable(*values: Value) -> Unreadable | None:
    for value in values:
        if isinstance(value, Unreadable):
            return value
        if isinstance(value, Variable):
            return Unreadable(value.line, "combines an environment variable with something else")
    return None
