# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments may come from elsewhere, by a script: what repeats them moves no cursor, and begins no line."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from omps_worker.bootstrap import Site
from omps_worker.broker_site import BrokerSite
from omps_worker.cli import main
from omps_worker.destinations.catalog.catalog_contents import CatalogContents
from omps_worker.destinations.catalog.packages.package_file import PackageFile
from tests.support.configuration import MAPPING, MINIMAL
from tests.support.sources import modules, tree

CATALOGS = """
[consumer_config.catalogs.nightly]
image = "https://registry.example.com/nightly/catalog:latest"
[consumer_config.catalogs.stable]
image = "https://registry.example.com/stable/{package}-catalog:latest"
"""
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


def run(directory: Path, *words: str) -> Result:
    """What a command says where the configuration is in order."""
    (directory / "config.toml").write_text(MINIMAL + CATALOGS)
    (directory / "mapping.yaml").write_text(MAPPING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omps_worker.common.logs.set_up", lambda *_: None)
        return CliRunner().invoke(main, ["--config", str(directory / "config.toml"), *words], color=True)


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


def test_what_repeats_an_argument_in_its_answer_moves_no_cursor(tmp_path: Path) -> None:
    ran = run(tmp_path, "unbind", HOSTILE, HOSTILE, "--dry-run")
    assert ran.exit_code == 0
    assert ran.output.startswith("would be unbound")
    assert ran.output.rstrip("\n").isprintable()


def test_commands_print_by_those_functions_alone_that_let_no_cursor_be_moved() -> None:
    printing = {
        name
        for name, path in modules().items()
        if name.startswith("cli") and name not in ("cli.common", "cli.container")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print")
    }
    assert printing == {"cli.config"}, "which prints TOML, whose own rules are tested where it is written"


@pytest.mark.parametrize(
    "words",
    [
        ["push-zip", "PIPE"],
        ["explain", "PIPE"],
        ["replay", "PIPE"],
        ["--config", "PIPE", "check"],
        ["config-from-omps", "PIPE"],
        ["push-zip", __file__, "--organization", "community", "--token-file", "PIPE"],
    ],
    ids=lambda words: words[0],
)
def test_a_pipe_to_which_nobody_may_ever_write_is_no_file(words: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ran = run(tmp_path, *(word.replace("PIPE", str(tmp_path / "pipe")) for word in words))
    assert (ran.exit_code, "is not a regular file" in ran.output) == (2, True)


def test_what_is_read_more_than_once_is_no_pipe_at_all(tmp_path: Path) -> None:
    ran = run(tmp_path, "replay", "/dev/null")
    assert (ran.exit_code, "is not a regular file" in ran.output) == (2, True)


@pytest.mark.parametrize("words", [["x" * 256, "key"], ["amq.topic", "é" * 128]], ids=["exchange", "key"])
def test_what_amqp_cannot_carry_is_a_matter_of_usage(words: list[str], tmp_path: Path) -> None:
    ran = run(tmp_path, "unbind", *words)
    assert (ran.exit_code, "more than 255 bytes" in ran.output) == (2, True)


@pytest.mark.parametrize("words", [words for words in CASES if words[:1] not in KEEPS_RUNNING], ids=ascii)
def test_bytes_that_are_no_text_are_a_matter_of_usage(words: list[str], tmp_path: Path) -> None:
    ran = run(tmp_path, *(word.replace(HOSTILE, "x\udc9by") for word in words))

    assert ran.exit_code == 2
    assert "UTF-8" in ran.output
    assert ran.output.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words",
    [
        ["delete", HOSTILE, "lantern", "--yes"],
        ["delete", "community", HOSTILE, "--yes"],
        ["push", "a-1-1", "--organization", HOSTILE],
        ["push", "a-1-1", "--organization", "community", "--repository", HOSTILE],
        ["push-zip", __file__, "--organization", "a/b"],
        ["push-zip", __file__, "--repository", "x" * 256],
    ],
    ids=ascii,
)
def test_what_nothing_can_be_called_is_a_matter_of_usage(words: list[str], tmp_path: Path) -> None:
    ran = run(tmp_path, *words)

    assert ran.exit_code == 2
    assert "is not the name of" in ran.output


ZIP = __file__
PACKAGE_FAULT = "cannot be the name of a package in a catalog"
THERE = "(catalogs in the configuration: nightly, stable): add it, or correct the name"
ORGANIZATIONS = "(organizations in the configuration: community): add it, or correct the name"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["delete"], "Missing argument 'ORGANIZATION'. With --catalog NAME, the arguments are PACKAGE [VERSION]."),
        (["delete", "community"], "Missing argument 'REPOSITORY'."),
        (["delete", "--catalog", "stable"], "Missing argument 'PACKAGE': with --catalog, the arguments are"),
        (
            ["delete", "--catalog", "stable", "etcd", "1.0.0", "x"],
            "Too many arguments: with --catalog, the arguments are",
        ),
        (["delete", "--catalog", "stable", "Foo_bar"], f"Foo_bar {PACKAGE_FAULT}"),
        (["delete", "--catalog", "stable", "../etcd"], f"../etcd {PACKAGE_FAULT}"),
        (["delete", "--catalog", "stable", "etcd", " "], "The version must not be empty"),
        (["delete", "community", "etcd", ""], "The version must not be empty"),
        (["delete", "--catalog", "nowhere", "etcd"], f"consumer_config.catalogs.nowhere: is missing {THERE}"),
        (["delete", "nowhere", "etcd"], "consumer_config.organizations.nowhere: the organization has no credentials "),
        (["delete", "nowhere", "etcd"], ORGANIZATIONS),
        (["delete", "catalog:stable", "etcd"], "catalog:stable is not the name of an organization"),
        (["push", "a-1-1", "--catalog", "nowhere"], f"consumer_config.catalogs.nowhere: is missing {THERE}"),
        (["push", "a-1-1", "--catalog", "catalog:stable"], "catalog:stable is not the name of a catalog"),
        (["push", "a-1-1", "--catalog", "stable", "--repository", "Foo_bar"], f"Foo_bar {PACKAGE_FAULT}"),
        (["push", "a-1-1", "--organization", "nowhere"], ORGANIZATIONS),
        (["push", "a-1-1", "--catalog", "stable", "--organization", "community"], "exclude each other"),
        (["push", "a-1-1", "--catalog", "stable", "--version", "1.0.0"], "--version is for organizations"),
        (["push", "a-1-1", "--new-catalog"], "give --catalog as well"),
        (["push", "a-1-1", "--new-catalog", "--organization", "community"], "give --catalog as well"),
        (["push-zip", ZIP, "--new-catalog"], "give --catalog as well"),
        (["push-zip", ZIP, "--catalog", "nowhere"], THERE),
        (["watch", "--catalog", "catalog:stable"], "catalog:stable is not the name of a catalog"),
        (["watch", "--organization", "a/b"], "a/b is not the name of an organization"),
        (["catalog", "show"], "Missing argument 'NAME'."),
        (["catalog", "show", "nowhere"], THERE),
        (["catalog", "show", "a/b"], "Invalid value for 'NAME': a/b is not the name of a catalog"),
        (["catalog", "show", "stable"], "so name the package"),
        (["catalog", "show", "stable", "Foo_bar"], f"Invalid value for 'PACKAGE': Foo_bar {PACKAGE_FAULT}"),
    ],
    ids=ascii,
)
def test_what_makes_no_sense_is_refused_in_words_that_help(words: list[str], said: str, tmp_path: Path) -> None:
    ran = run(tmp_path, *words, *(["--yes"] if words[0] == "delete" else []))

    assert ran.exit_code == 2
    assert said in ran.output


def test_a_place_that_is_not_there_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "pending", lambda *_: pytest.fail("it searched for messages"))
        ran = run(tmp_path, "delete", "--catalog", "nowhere", "etcd", "--yes")
    assert THERE in ran.output


def test_a_token_is_for_organizations(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("basic c2VjcmV0\n")
    for words in (["delete", "etcd", "--yes"], ["push", "a-1-1"], ["push-zip", ZIP]):
        ran = run(tmp_path, *words, "--catalog", "stable", "--token-file", str(token))
        assert (ran.exit_code, "--token-file applies to" in ran.output) == (2, True)


@pytest.mark.parametrize(
    ("bound", "dry_run", "said"),
    [
        (True, True, "would be unbound: "),
        (None, True, "would be unbound, if it is bound: "),
        (False, True, "there is no such binding: "),
        (True, False, "unbound: "),
        (None, False, "not bound any more: "),
        (False, False, "there is no such binding: "),
    ],
)
def test_only_what_was_bound_is_said_to_be_unbound(
    bound: bool | None, dry_run: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BrokerSite, "is_bound", lambda *_: bound)
    monkeypatch.setattr(BrokerSite, "unbind", lambda *_: None)
    options = ["--dry-run"] if dry_run else []

    assert (
        run(tmp_path, "unbind", "amq.topic", "org.#", *options).output == f"{said}omps-worker from amq.topic 'org.#'\n"
    )
    told = json.loads(run(tmp_path, "unbind", "amq.topic", "org.#", "--json", *options).output)
    assert (told["was_bound"], told["dry_run"]) == (bound, dry_run)


def test_names_in_a_catalog_move_no_cursor_and_begin_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = [
        {"schema": "olm.package", "name": f"etcd{HOSTILE}", "defaultChannel": HOSTILE},
        {"schema": "olm.channel", "name": HOSTILE, "package": "etcd", "entries": [{"name": HOSTILE}]},
        {"schema": "olm.bundle", "name": HOSTILE, "package": "etcd", "image": HOSTILE, "properties": []},
    ]
    contents = CatalogContents("host/path:tag", "sha256:1", (PackageFile.of(blobs),))
    monkeypatch.setattr(Site, "catalog_contents", lambda *_: contents)
    for words in (["nightly"], ["nightly", "etcd"]):
        ran = run(tmp_path, "catalog", "show", *words)
        assert (ran.exit_code, len(ran.output.splitlines())) == (0, 7 if len(words) == 1 else 9)
        assert ran.output.replace("\n", "").isprintable()
