# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker push-zip`` and ``delete``, as somebody types them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from omps_worker.cli import main
from omps_worker.common import logs
from omps_worker.common.model import BuildState
from omps_worker.sandbox import operators
from omps_worker.sandbox.site import QUEUE
from tests.support import curl
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

FLAT = operators.flat_operator("lantern")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "lantern.zip"
    path.write_bytes(operators.zip_of(FLAT))
    return str(path)


def versions(site):
    return [release.version for release in site.registry.releases("community", "lantern")]


def test_an_archive_is_published_and_told_of_and_deleted_again(site, archive):
    with site.watching() as watch:
        ran = site.command("push-zip", archive, "--organization", "community", "--json")
        assert ran.code == 0, ran.err
        (body,) = ran.json
        assert (body["status"], body["repo"], body["version"], body["build"]) == (
            "published",
            "lantern",
            "1.0.0",
            None,
        )
        assert site.command("push-zip", archive, "--organization", "community").code == 0, "it is unchanged"
        assert site.command("push-zip", archive, "--organization", "community", "--new-release").code == 0
        assert versions(site) == ["1.0.0", "2.0.0"]

        dry = site.command("delete", "community", "lantern", "--dry-run")
        assert (dry.code, len(versions(site))) == (0, 2)
        assert "1.0.0" in dry.out
        assert "nothing was changed" in dry.out
        one = site.command("delete", "community", "lantern", "1.0.0", "--yes", "--json")
        assert (one.code, [(body["status"], body["version"]) for body in one.json]) == (0, [("deleted", "1.0.0")])
        assert site.command("delete", "community", "lantern", "--yes").code == 0
        assert versions(site) == []
        told = [body["status"] for body in results_of(watch, 5)]
    assert told == ["published", "unchanged", "published", "deleted", "deleted"]


def test_what_is_not_there_cannot_be_deleted(site):
    ran = site.command("delete", "community", "nothing", "--yes")
    assert ran.code == 1
    assert "QuayPackageNotFound" in ran.err
    assert site.command("delete", "nobody", "nothing", "--yes").code == 2


def test_to_delete_without_a_terminal_needs_a_yes_and_on_one_it_asks(site, archive):
    site.command("push-zip", archive, "--organization", "community")
    refused = site.command("delete", "community", "lantern")
    assert refused.code == 2
    assert "--yes" in refused.err
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard:
        asked = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "--config", str(site.config), "delete", "community", "lantern"],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(theirs)
        keyboard.write(b"n\n")
        _, said = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "Delete all releases of community/lantern?" in said
    assert versions(site) == ["1.0.0"]


def test_a_token_may_come_from_a_file(site, archive, tmp_path):
    site.registry.add_organization("strangers")
    token = site.registry.add_robot("strangers", role="admin")
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    to = ("--organization", "strangers", "--token-file", str(file))
    ran = site.command("push-zip", archive, *to, "--json")
    assert (ran.code, ran.json[0]["organization"]) == (0, "strangers")
    assert token.partition(" ")[2] not in ran.out + ran.err
    assert site.command("delete", "strangers", "lantern", "--yes", "--token-file", str(file)).code == 0
    missing = site.command("push-zip", archive, "--organization", "strangers", "--token-file", f"{file}-gone")
    assert missing.code == 2
    assert "--token-file" in missing.err
    assert site.command("push-zip", archive, "--token-file", str(file)).code == 2, "for which organization?"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(b"no zip", 1, "OMPSUploadedFileError"), (operators.zip_of({"a": b""}), 1, "PackageValidationError")],
)
def test_an_archive_that_is_none_says_so(site, archive, content, code, said):
    Path(archive).write_bytes(content)
    ran = site.command("push-zip", archive, "--organization", "community")
    assert (ran.code, said in ran.out) == (code, True)


def test_files_that_cannot_be_read_are_a_matter_of_usage(site, tmp_path):
    assert site.command("push-zip", str(tmp_path / "gone.zip")).code == 2
    assert site.command("push-zip", str(tmp_path)).code == 2


def test_what_an_organization_wants_changed_is_changed_on_every_way(site, archive):
    edit(
        site.config,
        "[consumer_config.organizations.community]",
        '[consumer_config.organizations.community]\npackage_name_suffix = "-community"\n'
        'replace_registry = [{old = "quay.io", new = "registry.example.com"}]\n'
        'csv_annotations = [{name = "published-as", value = "{package_name}"}]\n#',
    )
    build = site.koji.add_build("lantern-operator-container", "1.0", "1", manifests=operators.zip_of(FLAT))
    by_hand = site.command("push-zip", archive, "--organization", "community", "--json")
    assert by_hand.json[0]["repo"] == "lantern-community"
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        (result,) = results_of(watch, 1)
    assert (result["status"], result["repo"]) == ("unchanged", "lantern-community"), "both made the same content"
    assert site.take(f"{QUEUE}.failed") == []


@pytest.mark.parametrize("document", ["README.md", "docs/operations.md"])
def test_a_token_is_got_as_the_documents_say(site, document):
    text = (Path(__file__).parents[2] / document).read_text()
    (command,) = re.findall(r"curl -s -H .*?/cnr/api/v1/users/login", text, re.DOTALL)
    site.registry.accounts.add_robot("community", "fresh", "secret", "creator")
    for said, meant in (
        ("community+push", "community+fresh"),
        ("…", "secret"),
        ("https://quay.example.com", site.registry.url),
        ("\\\n", ""),
    ):
        command = command.replace(said, meant)
    assert curl.run(command, {}, site.directory).json()["token"].startswith("basic ")


def test_a_bad_release_is_taken_back_as_the_runbook_says(site):
    page = (Path(__file__).parents[2] / "docs/runbooks.md").read_text(encoding="utf-8")
    section = page.partition("## Take back a bad release\n")[2].partition("\n## ")[0]
    typed = [line for block in re.findall(r"^```\n(.*?)^```$", section, re.M | re.S) for line in block.splitlines()]
    good, bad = (
        site.koji.add_build(
            "lantern-operator-container",
            "1.0",
            str(number),
            manifests=operators.zip_of(operators.flat_operator("lantern", version=f"1.0.{number}")),
        )
        for number in (1, 2)
    )
    names = {"GOOD": good["nvr"], "BAD": bad["nvr"], "ORG": "community", "REPO": "lantern", "VERSION": "2.0.0"}
    with site.running():
        for build in (good, bad):
            site.publish(site.koji.message(build))
            wait_until(lambda: len(versions(site)) == int(build["release"]), 30, "the release")  # noqa: B023
        first, _ = site.registry.releases("community", "lantern")
        edit(site.directory / "mapping.yaml", "version: 1\n", f"version: 1\nhold: [{bad['nvr']}]\n")
        wait_until(lambda: "the mapping was read" in site.log, 20, "the worker to notice the hold")
        ran = {}
        for line in typed:
            words = [names.get(word, word) for word in line.split()[1:]]
            ran[line] = site.command(*words)
            assert ran[line].code == 0, (line, ran[line].out, ran[line].err)
        assert [
            (one.version, one.digest == first.digest) for one in site.registry.releases("community", "lantern")
        ] == [
            ("1.0.0", True),
            ("3.0.0", True),
        ]
        assert "held by hold[0] " in ran["omps-worker explain BAD"].out
        assert "missing" not in ran["omps-worker catch-up --since 2d --dry-run"].out
        with site.watching() as watch:
            site.publish(site.koji.message(bad))
            (told,) = results_of(watch, 1)
            assert (told["status"], told["reason"]) == ("skipped", "held")
    assert versions(site) == ["1.0.0", "3.0.0"]


def test_what_is_paused_is_not_begun_and_no_result_calls_it_a_failure(site, archive, monkeypatch, caplog):
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # its handlers would outlive the runner's streams

    def push(*options):
        command = ["--config", str(site.config), "push-zip", archive, "--organization", "community", "--json", *options]
        ran = CliRunner().invoke(main, command)
        (body,) = json.loads(ran.stdout)
        return ran.exit_code, body["status"], (body["error"] or {}).get("name"), body["version"]

    with site.watching() as watch:
        edit(site.directory / "mapping.yaml", "version: 1\n", "version: 1\npause: ['*']\n")
        assert push("--dry-run") == (75, "failed", "OrganizationPaused", "1.0.0")
        assert push() == (75, "failed", "OrganizationPaused", None)
        edit(site.directory / "mapping.yaml", "pause: ['*']\n", "")
        assert push() == (0, "published", None, "1.0.0")
        assert [body["status"] for body in results_of(watch, 1)] == ["published"]
    assert "ERROR" not in [record.levelname for record in caplog.records]


@pytest.mark.parametrize(
    ("component", "more", "reason"),
    [
        ("lantern-operator-container", {"state": BuildState.BUILDING}, "not_complete"),
        ("lantern-operator-container", {"draft": True}, "draft_build"),
        ("playground-operator-container", {}, "ignored_by_rule"),
        ("stranger", {}, "no_rule"),
    ],
)
def test_a_build_that_is_not_to_be_published_is_described_all_the_same(site, monkeypatch, component, more, reason):
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # its handlers would outlive the runner's streams
    build = site.koji.add_build(component, "1.0", "1", manifests=operators.zip_of(FLAT), **more)
    ran = CliRunner().invoke(main, ["--config", str(site.config), "push", build["nvr"], "--json"])
    (body,) = json.loads(ran.stdout)
    assert (ran.exit_code, body["status"], body["reason"].partition(":")[0]) == (1, "skipped", reason)
    assert (body["nvr"], body["build"]["id"], body["build"]["name"]) == (build["nvr"], build["build_id"], component)
