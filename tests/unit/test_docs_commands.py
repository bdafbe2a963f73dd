# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/commands.md has every command and every option, in the words of ``--help``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from omps_worker.cli import main
from tests.support.commands_page import TEXT, examples, fits, options, sections


def tree(command: click.Command = main, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command, by the words that are typed for it."""
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from tree(inner, f"{words} {name}".strip())


COMMANDS = dict(tree())


def test_the_page_has_the_commands_that_there_are():
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_is_explained_as_help_explains_it(words):
    known = {
        parameter.opts[0]: parameter.help
        for parameter in COMMANDS[words].params
        if isinstance(parameter, click.Option) and not parameter.hidden
    }
    assert options(sections()[words]) == known


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_line_that_shows_how_it_is_typed(words):
    (usage,) = re.findall(r"^```\nomps-worker ?(.*)\n```$", sections()[words], re.MULTILINE)
    if not words:
        return
    assert usage.startswith(words)
    said = usage.removeprefix(words)
    for parameter in COMMANDS[words].params:
        if isinstance(parameter, click.Argument):
            name = parameter.make_metavar(click.Context(COMMANDS[words])).strip("[]{}.")
            assert name.replace("]", "") in said
        elif parameter.required:
            assert parameter.opts[0] in said


@pytest.mark.parametrize("words", [words for words in COMMANDS if words])
def test_every_command_tells_its_exit_codes(words):
    (line,) = re.findall(r"^Exit codes: (.*)$", sections()[words], re.MULTILINE)
    if isinstance(COMMANDS[words], click.Group):
        return
    codes = [re.match(r"\d+", part.strip())[0] for part in line.split("; ")]
    assert codes == sorted(set(codes), key=int)
    assert {"0"} <= set(codes) <= {"0", "1", "2", "75"}
    assert ("2" in codes) or not COMMANDS[words].params or words in ("sandbox", "demo")


@pytest.mark.parametrize("words", [words for words in COMMANDS if not isinstance(COMMANDS[words], click.Group)])
def test_every_command_has_an_example(words):
    line, output = examples()[words]
    assert line.startswith(words)
    assert output.strip()


def test_every_command_can_be_found_from_the_top_of_the_page():
    top = TEXT[: TEXT.index("\n## ")]
    for words in COMMANDS:
        if words and not words.startswith(("failed ", "catalog ")):
            assert f"[`{words}`](#omps-worker-{words})" in top


@pytest.mark.parametrize(
    ("said", "real", "expected"),
    [
        ("a\n", "a\n", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("at 2026-01-01 10:00:00Z\n", "at 2026-11-25 06:04:56Z\n", True),
        ("x  y\n---  ---\n", "x     y\n------  -----\n", True),
        ("on 127.0.0.1:1 is 1\n", "on 127.0.0.1:2 is 2\n", False),
    ],
)
def test_an_example_fits_when_only_what_varies_differs(said, real, expected):
    assert fits(said, real) is expected
