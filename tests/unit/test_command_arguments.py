# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments may come from elsewhere, by a script: what repeats them moves no cursor, and begins no line."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from omps_worker.cli import main

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\x9b1A\r\n\x08\u202eerror: none"
KEEPS_RUNNING = (["sandbox"], ["demo"])


def commands(command: click.Command, *words: str) -> Iterator[tuple[list[str], click.Command]]:
    yield list(words), command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *words, name)


def ways_to_say(command: click.Command) -> Iterator[list[str]]:
    """With something hostile in one place after the other, and in all."""
    yield [f"--{HOSTILE}"]
    yield [f"-{HOSTILE}"]
    yield [HOSTILE] * 5
    names = [parameter.opts[0] for parameter in command.params if isinstance(parameter, click.Option)]
    for name in names:
        yield [name, HOSTILE]
        yield [f"{name}={HOSTILE}"]


CASES = [[*words, *more] for words, command in commands(main) for more in ways_to_say(command)]


@pytest.mark.parametrize("place", ["", "--config"])
@pytest.mark.parametrize("words", [words for words in CASES if words[:1] not in KEEPS_RUNNING], ids=ascii)
def test_no_argument_reaches_the_terminal_as_it_is(words: list[str], place: str) -> None:
    arguments = [place, f"/nowhere/{HOSTILE}", *words] if place else words
    ran = CliRunner(env={"FEDORA_MESSAGING_CONF": f"/nowhere/{HOSTILE}"}).invoke(main, arguments, color=True)

    assert ran.exception is None or isinstance(ran.exception, SystemExit)
    for line in ran.output.split("\n"):
        assert line.isprintable(), line
        assert not line.startswith("error: none"), "it would speak for the program"


def test_the_help_of_a_group_keeps_its_lines() -> None:
    for words in ([], ["failed"]):
        assert len(CliRunner().invoke(main, words).output.splitlines()) > 5
