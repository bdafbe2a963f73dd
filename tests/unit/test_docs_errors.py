# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/errors.md, held against the tree of errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from omps_worker.broker.dead_letters.message import DEAD_LETTERED
from omps_worker.common import errors
from tests.support.sources import ROOT, modules, tree

TEXT = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (yes|no|either) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
EITHER = {
    "BrokerRefused",
    "CatalogAuthorizationError",
    "CatalogError",
    "GreenwaveError",
    "GreenwaveUnsatisfiedError",
    "KojiNVRBuildNotFound",
    "QuayAuthorizationError",
    "QuayCourierError",
    "QuayPackageError",
    "SettingsError",
    "StorageError",
}
"""Those of which one may be transient and the next not."""


def kinds(kind: type[errors.WorkerError] = errors.WorkerError) -> Iterator[type[errors.WorkerError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from kinds(each)


# SettingsError is raised too, though MappingError is one.
GROUPS = {kind.__name__ for kind in kinds() if kind.__subclasses__()} - {"SettingsError"}
LEAVES = {kind.__name__: kind for kind in kinds() if kind.__name__ not in GROUPS}


def calls() -> Iterator[ast.Call]:
    for path in modules().values():
        yield from (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def made() -> set[str]:
    """The names of all that the program calls itself, or by a method of the class, like ``UnexpectedError.wrap``."""
    called = [call.func for call in calls()]
    owners = [each.value for each in called if isinstance(each, ast.Attribute)]
    return {each.id for each in [*called, *owners] if isinstance(each, ast.Name)}


def replies_without_a_class() -> set[str]:
    """The errors of replies that are written down as a name."""
    return {
        call.args[1].value
        for call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "error_reply" and isinstance(call.args[1], ast.Constant)
    }


def test_every_error_has_its_row_and_there_is_no_other():
    assert len(replies_without_a_class()) > 1
    assert sorted(name for name, *_ in ROWS) == sorted([DEAD_LETTERED, *replies_without_a_class(), *LEAVES])


def test_groups_are_told_apart_and_nothing_carries_them():
    last = TEXT.rstrip().rpartition("\n\n")[2]
    assert set(re.findall(r"`(\w+)`", last)) == GROUPS
    assert GROUPS & made() == set()


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_whether_it_passes_by_itself_is_what_the_code_says(name):
    (told,) = (transient for row, transient, *_ in ROWS if row == name)
    assert told == ("either" if name in EITHER else "yes" if LEAVES[name].transient else "no")


def test_an_error_that_is_told_whether_it_is_transient_may_be_either():
    told = {
        call.func.id
        for call in calls()
        if isinstance(call.func, ast.Name) and any(keyword.arg == "transient" for keyword in call.keywords)
    }
    assert told & set(LEAVES) <= EITHER


@pytest.mark.parametrize("name", sorted(EITHER))
def test_an_error_that_may_be_either_says_when_it_is_which(name):
    (cause,) = (cause for row, _, cause, _ in ROWS if row == name)
    assert re.search(r"\b(Not t|T)ransient (when|where|for|in)\b", cause)
