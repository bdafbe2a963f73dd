# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook names commands and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from omps_worker.cli import main

RUNBOOK = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
COMMANDS = sorted(set(re.findall(r"omps-worker ((?:failed |replay )[^`#\n]+)", RUNBOOK)))


def parsed(words: list[str]) -> None:
    """Let click look at the words as it does before it runs a command."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command.commands[name]
    parser = command.make_parser(click.Context(command))
    parser.parse_args(words)


@pytest.mark.parametrize("line", [line for line in COMMANDS if "|" not in line])
def test_every_command_of_the_runbook_is_one(line):
    parsed([word.strip("'") for word in line.split()])


def test_the_first_thing_that_the_runbook_tells_is_five_commands():
    section = RUNBOOK.split("## A build was not published")[1].split("```")[1]
    assert len(section.strip().splitlines()) == 5


def test_commands_that_do_not_exist_would_be_noticed():
    with pytest.raises(KeyError):
        parsed(["failed", "repeat", "ID"])
    with pytest.raises(click.NoSuchOption):
        parsed(["failed", "list", "--colour"])
