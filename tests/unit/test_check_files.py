# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker check --offline``: a row for everything that is wrong with the files, and nobody is asked."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omps_worker.cli import main, site_checks
from omps_worker.common import machine
from omps_worker.configuration import loading
from omps_worker.monitoring.checks import answer, answers
from tests.support.configuration import MAPPING, MINIMAL

KEY = "consumer_config.organizations.community"
TOKEN = 'token = "basic c2VjcmV0"'


@pytest.fixture(autouse=True)
def _logs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omps_worker.common.logs.set_up", lambda *_: None)


def offline(directory: Path, config: str = MINIMAL, mapping: str = MAPPING) -> tuple[int, list[tuple[str, str, str]]]:
    """How ``check --offline --json`` ended, and its rows."""
    ran = typed(directory, config, mapping, "--json")
    return ran.exit_code, [(row["part"], row["state"], row["detail"]) for row in json.loads(ran.stdout)]


def typed(directory: Path, config: str, mapping: str, *options: str) -> Result:
    path = directory / "config.toml"
    path.write_text(config)
    (directory / "mapping.yaml").write_text(mapping)
    return CliRunner().invoke(main, ["--config", str(path), "check", "--offline", *options], env={"NOT_SET": None})


def test_files_that_are_well_have_a_row_each(tmp_path: Path) -> None:
    code, rows = offline(tmp_path, MINIMAL + '[[bindings]]\nexchange = "amq.topic"\nrouting_keys = ["a"]\n')
    assert (code, rows) == (0, [("configuration", "ok", "valid"), ("mapping", "ok", "1 rule(s)")])


def test_each_fault_of_the_mapping_has_a_row_and_ends_with_2(tmp_path: Path) -> None:
    wrong = "version: 1\nrules:\n- match: {komponent: x}\n  publish: [{organization: nobody}]\n"
    code, rows = offline(tmp_path, mapping=wrong)
    failed = [detail for part, state, detail in rows if (part, state) == ("mapping", "failed")]
    assert code == 2
    assert [detail.split(": ")[1] for detail in failed] == [
        "rules[0].match.komponent", "rules[0].publish[0].organization",
    ]  # fmt: skip
    assert all(detail.startswith(str(tmp_path / "mapping.yaml")) for detail in failed)


def test_each_doubt_about_the_mapping_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    code, rows = offline(tmp_path, mapping=MAPPING.replace("rules", "hold: [otter-.*, '^lantern']\nrules"))
    assert code == 0
    assert [detail[:7] for part, state, detail in rows if (part, state) == ("mapping", "warning")] == [
        "hold[0]", "hold[1]",
    ]  # fmt: skip


def test_what_is_paused_has_a_row_that_names_it_and_its_line(tmp_path: Path) -> None:
    code, rows = offline(tmp_path, mapping=MAPPING.replace("rules", "pause: [community, '*']\nrules"))
    told = [detail.partition(":")[0] for part, state, detail in rows if (part, state) == ("mapping", "warning")]
    assert code == 0
    assert told == [
        "pause[0] 'community' (line 2) pauses community",
        "pause[1] '*' (line 2) pauses all organizations and catalogs",
    ]


def test_a_mapping_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    (code, rows) = offline(tmp_path, MINIMAL + '[consumer_config]\nmapping = "elsewhere.yaml"\n')
    assert (code, rows[-1][:2], "no such file" in rows[-1][2]) == (2, ("mapping", "failed"), True)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (f"{KEY}.token_env", (TOKEN, 'token_env = "NOT_SET"')),
        (f"{KEY}.token_file", (TOKEN, 'token_file = "/nowhere/token"')),
        (f"{KEY}.oauth_token_env", (TOKEN, f'{TOKEN}\noauth_token_env = "NOT_SET"\npublic = true')),
        ("consumer_config.ca_bundle", ("[queues", '[consumer_config]\nca_bundle = "/nowhere/ca.pem"\n[queues')),
        ("tls.ca_cert", ("[queues", '[tls]\nca_cert = "/nowhere/ca.pem"\n[queues')),
        ("amqp_url", ('amqp_url = "amqp://localhost"', "")),
        (
            "consumer_config.broker.password_env",
            ('localhost"', 'me@localhost"\n[consumer_config.broker]\npassword_env = "NOT_SET"\n[x]')
        ),
    ],
)  # fmt: skip
def test_what_is_on_another_machine_is_named_and_no_failure(tmp_path: Path, key: str, change: tuple[str, str]) -> None:
    config = MINIMAL.replace(*change)
    if "[x]" in config:
        head, _, rest = config.partition("[consumer_config.broker]")
        broker, _, rest = rest.partition("[x]")
        config = f"{head}{rest}\n[consumer_config.broker]{broker}"
    code, rows = offline(tmp_path, config)
    assert code == 0
    named = [state for part, state, detail in rows if part == "configuration" and f"config.toml: {key}: " in detail]
    assert named == ["warning"]
    assert rows[-1] == ("mapping", "ok", "1 rule(s)")


def test_a_secret_that_is_there_and_cannot_be_one_is_a_failure_beside_those_that_are_absent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("basic a\nb\n")
    other = '\n[consumer_config.organizations.internal]\ntoken_env = "NOT_SET"\n'
    code, rows = offline(tmp_path, MINIMAL.replace(TOKEN, 'token_file = "token"') + other)
    assert code == 2
    states = {
        detail.split(": ")[1]: state for part, state, detail in rows if part == "configuration" and ": " in detail
    }
    assert states[f"{KEY}.token_file"] == "failed"
    assert states["consumer_config.organizations.internal.token_env"] == "warning"


def test_a_configuration_that_is_wrong_in_itself_is_told_with_the_mapping_as_by_every_command(tmp_path: Path) -> None:
    config = MINIMAL.replace(TOKEN, 'token_env = "NOT_SET"\ntokn = 1')
    ran = typed(tmp_path, config, MAPPING.replace("match", "mtach"))
    assert (ran.exit_code, ran.stdout) == (2, "")
    for key in (f"{KEY}.tokn", f"{KEY}.token_env", "rules[0].mtach"):
        assert f": {key}: " in ran.stderr


def parts_asked(directory: Path, config: str, environment: Mapping[str, str]) -> list[str]:
    (directory / "mapping.yaml").write_text("version: 2\n")
    (directory / "config.toml").write_text(config)
    examined = loading.examine(directory / "config.toml", environment=environment)
    found = {(finding.part, finding.state) for finding in answers(list(site_checks.file_checks(examined)))}
    assert {("configuration", "failed"), ("mapping", "failed")} <= found
    return [question.part for question in site_checks.service_checks(examined)]


def test_without_secrets_and_without_a_mapping_all_parts_would_be_asked(tmp_path: Path) -> None:
    config = MINIMAL.replace(TOKEN, 'token_env = "NOT_SET"')
    asked = [
        "machine",
        "broker",
        "queue",
        "failed queue",
        "Koji hub",
        "Koji files",
        "registry",
        "organization community",
    ]
    assert parts_asked(tmp_path, config, {}) == asked
    without = config.replace('amqp_url = "amqp://localhost"', "")
    assert parts_asked(tmp_path, without, {}) == [asked[0], *asked[4:]], "there is no broker to be asked"
    assert parts_asked(tmp_path, without, {"OMPS_WORKER_AMQP_URL": "amqp://localhost"}) == asked


def test_the_machine_has_a_row_which_names_the_place_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    typed(tmp_path, MINIMAL, MAPPING)
    question = next(site_checks.service_checks(loading.examine(tmp_path / "config.toml")))
    assert (question.part, answer(question).state) == ("machine", "ok")
    monkeypatch.setattr(machine.tempfile, "TemporaryFile", full)
    found = answer(question)
    assert (found.state, found.error and found.error.transient) == ("failed", True)
    assert f"No space left on device. ({machine.temporary_place()})" in found.detail
