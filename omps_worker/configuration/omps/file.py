# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading OMPS's configuration: a Python file, which is never run.

OMPS imports the file and takes the attributes of one class, its section, in upper or lower case. Here the file is only
parsed. Its statements are followed from the top, as far as they assign values to names. If anything else is done with a
name, its value counts as unknown.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.text import one_line
from omps_worker.configuration.file_text import text_of
from omps_worker.configuration.omps.values import (
    NOT_RUN,
    BoundName,
    Evaluation,
    Scope,
    Section,
    TableWithLines,
    Unreadable,
    look_up,
)

USUAL_SECTION = "ProdConfig"
"""The section that OMPS uses by default."""

_REACHES_EVERYTHING = frozenset({"exec", "eval", "globals", "locals", "vars"})
_NO_COLON = re.compile(r"""(?:^|[{,])\s*(["'])(\w+)\1\s*["']""")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_WORDS = frozenset(
    {
        *("public", "oauth_token", "replace_registry", "package_name_suffix", "csv_annotations"),
        *("old", "new", "regexp", "name", "value", "url", "context", "product_version"),
    }
)
"""The keys of OMPS's tables. A hint repeats only these words: anything else that looks like a key may be a secret."""


@dataclass(frozen=True, slots=True)
class OmpsConfiguration:
    """The content of the file: the value of each key, by its name in upper case."""

    file: str
    section: str | None
    """The class that was read; None if the file has none, and its module-level names are the keys."""
    keys: Mapping[str, BoundName]
    foreign: tuple[int, ...]
    """The lines of base classes of the section that are not in the file."""


def read(path: Path, section: str | None = None) -> OmpsConfiguration:
    """Read the configuration in ``path``. Raises SettingsError if it is unreadable or has no such section."""
    file = str(path)
    try:
        scope = _module(_parsed(_text(path), file))
    except (MemoryError, RecursionError):
        raise SettingsError([Fault(file, "", "is nested too deeply to be a configuration")]) from None
    chosen = _choose_section(scope, section, file)
    if chosen is None:
        return OmpsConfiguration(file, None, _keys(scope.values(), file), ())
    for part in chosen.lineage:
        if part.fault:
            raise SettingsError([Fault(file, f"line {part.fault.line}, {part.name}", part.fault.reason)])
    inherited = [binding for part in reversed(chosen.lineage) for binding in part.scope.values()]
    foreign = tuple(line for part in chosen.lineage for line in part.foreign)
    return OmpsConfiguration(file, chosen.name, _keys({each.name: each for each in inherited}.values(), file), foreign)


def _text(path: Path) -> str:
    text = text_of(path)
    if "\0" in text:
        raise SettingsError([Fault(str(path), "", "is not text: it contains zero bytes")])
    return text


def _parsed(text: str, file: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # Python's warnings about the file's style do not matter here, and would repeat its lines.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        line = error.lineno or 1
        reason = f"is not Python: {one_line(error.msg)}{_hint(text, line)}"
        raise SettingsError([Fault(file, f"line {line}", reason)]) from None
    except ValueError:
        raise SettingsError([Fault(file, "", "is not readable Python")]) from None


def _hint(text: str, line: int) -> str:
    """Return what is probably missing: Python may notice a missing colon only in a later line."""
    for number, written in reversed(list(enumerate(_LINE_BREAK.split(text)[:line], start=1))):
        match = _NO_COLON.search(written)
        if match and match[2] in _WORDS:
            return f'; a colon is missing between "{match[2]}" and its value in line {number}'
        if match and number == line:
            return "; a colon is missing between a key and its value"
    return ""


def _module(tree: ast.Module) -> Scope:
    scope: Scope = {}
    _follow(tree.body, [scope])
    return scope


def _follow(body: Sequence[ast.stmt], scopes: Sequence[Scope]) -> None:
    """Assign the values in ``body`` to the names of the inner scope."""
    for statement in body:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
                continue
            case ast.Assign(targets=targets, value=expression) if all(isinstance(each, ast.Name) for each in targets):
                _bind([target.id for target in targets if isinstance(target, ast.Name)], expression, scopes)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as expression):
                _bind([name], expression, scopes)
            case ast.ClassDef() if len(scopes) == 1:
                scopes[0][statement.name] = BoundName(statement.name, _section(statement, scopes[0]), statement.lineno)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                reach = frozenset(_names_read_by(statement))
                scopes[0][statement.name] = BoundName(
                    statement.name, _imported(statement), statement.lineno, reach=reach
                )
            case ast.Import() | ast.ImportFrom() | ast.ClassDef():
                names = [statement.name] if isinstance(statement, ast.ClassDef) else list(_names_set_by(statement))
                _mark_unknown(statement, scopes, names)
                for name in names:
                    scopes[0][name] = BoundName(name, _imported(statement), statement.lineno, reach=frozenset())
            case _:
                _mark_unknown(statement, scopes, _names_set_by(statement))


def _imported(statement: ast.stmt) -> Unreadable:
    return Unreadable(statement.lineno, f"is imported, or is a function or a class, {NOT_RUN}")


def _bind(names: Sequence[str], expression: ast.expr, scopes: Sequence[Scope]) -> None:
    if any(isinstance(part, (ast.Call, ast.NamedExpr, ast.Await)) for part in ast.walk(expression)):
        _mark_unknown(expression, scopes, _names_set_by(expression))
    alias = look_up(expression.id, scopes) if isinstance(expression, ast.Name) else None
    evaluation = Evaluation(scopes)
    value = alias.value if alias and isinstance(alias.value, Section) else evaluation.of(expression)
    for name in names:
        scopes[0][name] = BoundName(name, value, expression.lineno, evaluation.weight)


def _section(statement: ast.ClassDef, module: Scope) -> Section:
    bases: list[Section] = []
    foreign: list[int] = []
    for base in statement.bases:
        known = look_up(base.id, [module]) if isinstance(base, ast.Name) else None
        if known and isinstance(known.value, Section):
            bases.append(known.value)
        elif not (isinstance(base, ast.Name) and base.id == "object" and known is None):
            foreign.append(base.lineno)
    fault = None
    if statement.decorator_list or statement.keywords:
        fault = Unreadable(statement.lineno, "has a decorator or a metaclass")
    scope: Scope = {}
    _follow(statement.body, [scope, module])
    try:
        return Section(statement.name, statement.lineno, scope, tuple(bases), tuple(foreign), fault)
    except TypeError:
        contradiction = Unreadable(statement.lineno, "has base classes that contradict each other")
        return Section(statement.name, statement.lineno, scope, (), tuple(foreign), contradiction)


def _mark_unknown(node: ast.stmt | ast.expr, scopes: Sequence[Scope], names: Iterable[str]) -> None:
    """Mark the ``names`` that ``node`` sets as unknown, as well as the tables and lists that it may change."""
    unreadable = Unreadable(node.lineno, f"is set or changed in a way that is not supported, {NOT_RUN}")
    mentioned, reached = set(_names_read_by(node)), set[str]()
    while new := mentioned - reached:
        reached |= new
        for scope in scopes:
            mentioned.update(*(scope[name].reach or () for name in new & set(scope)))
    everything = bool(reached & _REACHES_EVERYTHING)
    for name in names:
        everything |= name == "*"
        scopes[0][name] = BoundName(name, unreadable, node.lineno)
    for scope in scopes:
        for name in list(scope) if everything else reached & set(scope):
            if isinstance(scope[name].value, Section):
                scope[name].value.fault = scope[name].value.fault or unreadable
            elif isinstance(scope[name].value, (list, TableWithLines)) or (everything and scope[name].reach is None):
                scope[name] = BoundName(name, unreadable, node.lineno)


def _names_read_by(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield part.id
        elif isinstance(part, ast.Global):
            yield from _REACHES_EVERYTHING


def _names_set_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that ``node`` or any part of it may set, except the variables of comprehensions."""
    inside = [part.target for part in ast.walk(node) if isinstance(part, ast.comprehension)]
    own = {id(part) for target in inside for part in ast.walk(target)}
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if id(part) not in own:
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.split(".")[0]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name


def _choose_section(scope: Scope, wanted: str | None, file: str) -> Section | None:
    """Return the section to read; None if the file has none."""
    sections = {name: binding.value for name, binding in scope.items() if isinstance(binding.value, Section)}
    name = wanted or (USUAL_SECTION if USUAL_SECTION in scope or len(sections) != 1 else next(iter(sections)))
    if name in sections:
        return sections[name]
    there = f"{'there is' if len(sections) == 1 else 'there are'} {', '.join(sections)}"
    if name in scope and isinstance(scope[name].value, Unreadable):
        value = scope[name].value
        raise SettingsError([Fault(file, f"line {value.line}, {name}", value.reason)])
    if wanted is None and not sections:
        return None
    if wanted is None:
        reason = f"name the section to read: {there}"
    else:
        reason = (
            f"the file has no section of this name: {there}"
            if sections
            else "the file has no sections: remove this option"
        )
    raise SettingsError([Fault(file, "--section", reason)])


def _keys(bindings: Iterable[BoundName], file: str) -> dict[str, BoundName]:
    keys: dict[str, BoundName] = {}
    faults = []
    for binding in bindings:
        name = binding.name
        if name.startswith("_"):
            continue
        if name.upper() in keys:
            faults.append(Fault(file, f"line {binding.line}, {name}", "is given twice, differing only in case (A, a)"))
        keys[name.upper()] = binding
    if faults:
        raise SettingsError(faults)
    return keys
