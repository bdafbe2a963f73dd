# SPDX-License-Identifier: GPL-3.0-or-later
"""No code of ours keeps an exception with its traceback: that keeps what its frames had in hand, too."""

from __future__ import annotations

import ast
import gc
import weakref

import pytest

from omps_worker.common.errors import KojiError, UnexpectedError
from omps_worker.common.tracebacks import drop_tracebacks, empty_frames
from tests.support.circles import no_collection
from tests.support.sources import modules, relative

ENDS_THE_PROCESS = {
    ("omps_worker/broker/consuming/consumer.py", "found"),
    ("omps_worker/broker/watch.py", "found"),
}
"""Errors that are raised from a variable: nothing comes after them."""

LET_GO_BY_WHO_WAITS = {("omps_worker/api/scheduling/worker_pool.py", "future.set_exception(error)")}
"""Errors that travel to another thread with their tracebacks, which are logged there."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Archive:
    """Something large that somebody has in hand."""


class InADepth:
    """Raises an exception that its own frame refers to, as libraries do, while an archive is in hand."""

    def __init__(self) -> None:
        self.archive: weakref.ref[Archive] | None = None

    def __call__(self) -> None:
        archive = Archive()
        self.archive = weakref.ref(archive)
        try:
            raise OSError("gone")
        except OSError as error:
            kept = error
            raise KojiError("Koji cannot be reached.") from kept


def test_an_exception_that_is_kept_keeps_what_was_in_hand():
    """What all this is about: without it there would be nothing to do."""
    work, kept = InADepth(), None
    with no_collection():
        try:
            work()
        except KojiError as error:
            kept = error
        assert kept is not None
        assert work.archive() is not None


def test_an_error_as_a_value_keeps_nothing():
    work, kept = InADepth(), None
    with no_collection():
        try:
            work()
        except KojiError as error:
            kept = error.as_value()
        assert work.archive() is None
    assert (kept.name, kept.message) == ("KojiError", "Koji cannot be reached.")
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def test_an_unexpected_error_keeps_nothing_of_the_exception_that_it_tells_of():
    work = InADepth()
    with no_collection():
        try:
            work()
        except KojiError as error:
            kept = UnexpectedError.wrap(error)
        assert work.archive() is None
    assert "KojiError" in kept.message


def test_frames_are_emptied_where_the_error_goes_on():
    work = InADepth()
    with no_collection():
        try:
            work()
        except KojiError as error:
            empty_frames(error)
            left, cause = work.archive(), error.__cause__
    assert left is None
    assert isinstance(cause, OSError)


def test_exceptions_that_refer_to_each_other_come_to_an_end():
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    drop_tracebacks(first)
    assert (first.__context__, second.__context__) == (None, None)


def test_the_frames_that_still_run_keep_their_variables():
    archive = Archive()
    try:
        InADepth()()
    except KojiError as error:
        drop_tracebacks(error)
    assert archive is not None
    assert gc.isenabled()


def faults_in(source: str) -> list[str]:
    """The statements of ``source`` that keep an exception with its traceback."""
    found: list[str] = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, FUNCTIONS):
            assigned = {name.id for name in walk(function) if isinstance(name, ast.Name) and is_stored(name)}
            deleted = {
                name.id for name in walk(function) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Del)
            }
            for node in walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name:
                    found += [ast.unparse(each) for each in walk(node) if keeps(each, node)]
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in assigned - deleted:
                    found.append(ast.unparse(node))
    return found


def walk(node: ast.AST):
    """What is below ``node``, but not what functions inside of it do."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, FUNCTIONS):
            yield child
            yield from walk(child)


def is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def is_deleted(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Del)


def keeps(node: ast.AST, handler: ast.ExceptHandler) -> bool:
    """Whether the exception of ``handler`` itself becomes the value of something, without having been let go."""

    def it(value: ast.AST | None) -> bool:
        return isinstance(value, ast.Name) and value.id == handler.name

    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return, ast.Yield, ast.keyword)):
        kept = it(node.value) and not (isinstance(node, ast.keyword) and node.arg == "exc_info")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        kept = node.func.attr in {"append", "put", "set_exception"} and any(map(it, node.args))
    else:
        kept = False
    let = f"drop_tracebacks({handler.name})"
    return kept and not any(let == ast.unparse(each) for each in handler.body)


@pytest.mark.parametrize(
    "body",
    [
        "fault = error",
        "self.fault = error",
        "return Outcome(error=error)",
        "return error",
        "errors.append(error)",
        "done.set_exception(error)",
    ],
)
def test_the_rule_sees(body):
    source = f"def f():\n try:\n  g()\n except ValueError as error:\n  {body}\n"
    assert faults_in(source) != []
    assert faults_in(source.replace(body, f"drop_tracebacks(error)\n  {body}")) == []


def test_the_rule_sees_an_error_that_is_raised_from_a_variable():
    assert faults_in("def f():\n error = made()\n raise error\n") == ["raise error"]
    assert faults_in("def f():\n error = made()\n try:\n  raise error\n finally:\n  del error\n") == []
    assert faults_in("def f(error):\n raise error\n") == []


@pytest.mark.parametrize("path", modules().values(), ids=relative)
def test_no_exception_outlives_its_handler_with_its_traceback(path):
    allowed = {f"raise {name}" for file, name in ENDS_THE_PROCESS if file == relative(path)}
    allowed |= {statement for file, statement in LET_GO_BY_WHO_WAITS if file == relative(path)}
    faults = {fault.removesuffix(" from None") for fault in faults_in(path.read_text())}
    assert faults - allowed == set()
