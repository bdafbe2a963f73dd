# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's source files, and the imports between its modules."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "omps_worker"
DIRECTORIES = (PACKAGE, "tests", "benchmarks", "scripts", "docs", "config", "deploy", ".ci")


def python_files() -> Iterator[Path]:
    """Yield every Python file of the project."""
    yield ROOT / "setup.py"
    for directory in DIRECTORIES:
        yield from sorted((ROOT / directory).rglob("*.py"))


def text_files() -> Iterator[Path]:
    """Yield every text file of the project, except recorded test data and the text of the licence."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and path.name not in {"LICENSE", ".git"}:
            yield path
    for directory in DIRECTORIES:
        for path in sorted((ROOT / directory).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and (ROOT / "tests/data") not in path.parents:
                yield path


def relative(path: Path) -> str:
    """Return the name of a file for the messages of failing tests."""
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=relative(path))


@cache
def modules() -> dict[str, Path]:
    """Return the modules of the package by dotted name, without ``omps_worker.`` ("" is the package itself)."""
    names = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the dotted names that the import statements among ``nodes`` import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def ours(name: str) -> str | None:
    """Return the project's module that an imported dotted name refers to, or None if it is a foreign module."""
    if name.split(".")[0] != PACKAGE:
        return None
    inside = name[len(PACKAGE) + 1 :]
    return inside if inside in modules() else inside.rpartition(".")[0]


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the project's modules that a module imports, including late imports and those for types only."""
    found = {ours(name) for name in imported_names(ast.walk(tree(modules()[module])))}
    return frozenset(name for name in found if name and name != module)


@cache
def foreign_imports_of(module: str) -> frozenset[str]:
    """Return the dotted names of foreign modules that a module imports."""
    names = imported_names(ast.walk(tree(modules()[module])))
    return frozenset(name for name in names if ours(name) is None)


@cache
def reachable_from(module: str) -> frozenset[str]:
    """Return all of the project's modules that a module imports, directly or indirectly."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports_of(waiting.pop()) - seen:
            seen.add(name)
            waiting.append(name)
    return frozenset(seen)


def imported_at_once(module: str) -> Iterator[str]:
    """Yield the dotted names that a module imports when it is imported: not in functions, not for types only."""
    waiting: list[ast.AST] = list(tree(modules()[module]).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        yield from imported_names([node])
        waiting.extend(ast.iter_child_nodes(node))
