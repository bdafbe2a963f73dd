# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/runbooks.md says everything that is to be said of each situation, with commands that there are."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from omps_worker.cli import main
from tests.support.sources import ROOT

TEXT = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PAGES = ("runbooks", "errors", "operations")


def commands(page: str) -> list[str]:
    """What the page tells people to type."""
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:console)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(omps-worker [^`]+)`", prose)
    typed = [line for line in (*lines, *spans) if line.startswith("omps-worker ")]
    return sorted({re.split(r" [#|] |…", line.removeprefix("omps-worker "))[0].strip() for line in typed} - {""})


def parsed(line: str) -> None:
    """Let click look at the words as it does before it runs a command."""
    words, command = shlex.split(line), main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if isinstance(command, click.Group):
        assert not words or words in (["--version"], ["--help"]), line
        return
    options = {"help_option_names": ["-h", "--help"]}
    command.make_parser(click.Context(command, **options)).parse_args(words)


def names_a_command(line: str) -> bool:
    """Spans such as the name of a connection begin like a command, and are none."""
    return re.match(r"[<(]", line) is None


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in commands(page)])
def test_every_command_can_be_typed_as_it_stands(page, line):
    if names_a_command(line):
        parsed(line)


def test_commands_that_there_are_not_would_be_noticed():
    with pytest.raises(AssertionError):
        parsed("repeat ID")
    with pytest.raises(click.NoSuchOption):
        parsed("failed list --colour")


@pytest.mark.parametrize("title", SECTIONS)
def test_every_section_says_how_one_notices_what_it_means_what_to_do_and_when_it_is_over(title):
    said = re.findall(r"^\*(\w+)(?:, [^*]+)?:\*", SECTIONS[title], re.MULTILINE)
    kinds = list(dict.fromkeys(said))
    assert kinds in (["Alert", "Means", "Look", "Do", "Over"], ["When", "Means", "Do", "Over"])


def test_every_section_can_be_reached_by_its_alert_or_says_when_it_is_for():
    for title, text in SECTIONS.items():
        assert re.search(r"^\*Alert:\* `OmpsWorker\w+`|^\*When:\*", text, re.MULTILINE), title
