# SPDX-License-Identifier: GPL-3.0-or-later
"""A name of ours that a docstring quotes, like ``publishing.processor.Processor`` or ``dispatcher.py``, exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.sources import modules, tree

QUOTED = re.compile(r"``([A-Za-z_]\w*(?:[./][A-Za-z_]\w*)+)``")
OTHERS = {"bundle.yaml", "consumer_config.koji.timeout", "fedora.messages", "worker.log"}
"""Files, keys and entry points that begin like one of our modules."""


@cache
def names_in(module: str) -> frozenset[str]:
    """Return the names that a module, and its classes, define or assign."""
    nodes = list(ast.walk(tree(modules()[module])))
    defined = {node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return frozenset(defined | assigned | attributes)


@cache
def classes() -> frozenset[str]:
    return frozenset(
        node.name for path in modules().values() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
    )


def modules_named(name: str) -> list[str]:
    """Return the modules whose dotted name is ``name``, or ends with it."""
    return [module for module in modules() if f".{module}".endswith(f".{name}")]


def is_ours(name: str) -> bool:
    """Return whether the first part of a dotted name is a room, a module or a class of ours."""
    first = name.split(".")[0]
    return first in classes() or any(first in module.split(".") for module in modules())


def exists(name: str) -> bool:
    if name.endswith(".py"):
        return any(f"/{path}".endswith(f"/{name}") for path in modules().values())
    parts = name.split(".")
    if parts[0] in classes():
        return any(set(parts) <= names_in(module) for module in modules())
    return any(
        set(parts[length:]) <= names_in(module)
        for length in range(1, len(parts) + 1)
        for module in modules_named(".".join(parts[:length]))
    )


def wrong_names(text: str) -> list[str]:
    """Return the quoted names in ``text`` that look like ours and do not exist."""
    quoted = (name for name in QUOTED.findall(text) if name not in OTHERS)
    return [name for name in quoted if (name.endswith(".py") or is_ours(name)) and not exists(name)]


def docstrings(module: str) -> list[str]:
    """Return all docstrings of a module, including those of constants and attributes."""
    return [
        node.value.value
        for node in ast.walk(tree(modules()[module]))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("module", modules())
def test_every_name_of_ours_in_a_docstring_exists(module):
    assert [name for text in docstrings(module) for name in wrong_names(text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("See ``publishing.processor.Processor`` and ``Processor.process``, in ``processor.py``.", []),
        ("See ``broker.lock``.", ["broker.lock"]),
        ("See ``common.locks.PackageLock``.", ["common.locks.PackageLock"]),
        ("See ``publishing/processing.py``.", ["publishing/processing.py"]),
        ("See ``json.loads`` and ``basic.get``.", []),
    ],
)
def test_a_name_that_does_not_exist_is_noticed(text, wrong):
    assert wrong_names(text) == wrong
