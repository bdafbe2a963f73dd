# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that people type: check, explain, push, schema."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import pytest

from omps_worker.common.model import OperatorKind
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"
NVR = f"{COMPONENT}-1.0-1"


@pytest.fixture
def build(site):
    return site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)


def states(ran):
    return {finding["part"]: finding["state"] for finding in ran.json}


def test_check_finds_everything_well_and_changes_nothing(site):
    ran = site.command("check", "--json")
    assert ran.code == 0, ran.out
    assert states(ran) == {
        "configuration": "ok",
        "mapping": "ok",
        "machine": "ok",
        "broker": "ok",
        "queue": "ok",
        "failed queue": "ok",
        "Koji hub": "ok",
        "Koji files": "ok",
        "registry": "ok",
        "organization community": "ok",
        "organization partners": "ok",
    }
    assert "not there yet" in ran.out
    assert site.consumers() == 0


def test_check_prints_a_table_for_people(site):
    ran = site.command("check")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["part", "state", "detail"]


def test_check_asks_all_at_once_and_shows_each_answer_when_it_is_there(site):
    gate = threading.Event()
    hub, look = Fault("POST /kojihub", hold=gate, times=None), Fault("GET /kojiroot", hold=gate, times=None)
    site.koji.faults.add(hub)
    site.koji.faults.add(look)
    registry = site.registry.faults.add(Fault(".*", hold=gate, times=None))
    command = [sys.executable, "-m", "omps_worker", "--config", str(site.config), "check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(8)]
        assert [line.split()[0] for line in lines[2:]] == [
            "configuration", "mapping", "machine", "broker", "queue", "failed",
        ]  # fmt: skip
        wait_until(lambda: site.registry.faults.fired(registry) == 3, 20, "registry and both organizations to be asked")
        wait_until(lambda: site.koji.faults.fired(hub) == site.koji.faults.fired(look) == 1, 20, "Koji to be asked")
        gate.set()
        rest = process.stdout.read().splitlines()
        assert process.wait(30) == 0
    assert [line.split("  ")[0] for line in rest] == [
        "Koji hub",
        "Koji files",
        "registry",
        "organization community",
        "organization partners",
    ]


def test_check_tells_a_wrong_password_from_a_right_one(site):
    (site.directory / "secrets" / "partners").write_text("basic d3Jvbmc6d3Jvbmc=\n")
    ran = site.command("check", "--json")
    assert ran.code == 1
    assert states(ran)["organization partners"] == "failed"
    assert states(ran)["organization community"] == "ok"


def test_check_looks_at_each_organization_as_a_push_does(site):
    look = site.registry.faults.add(Fault("GET /cnr/api/v1/packages/community/", status=500, times=None))
    refused = site.registry.faults.add(Fault("GET /cnr/api/v1/packages/partners/", status=401, times=None))
    ran = site.command("check", "--json")
    assert (site.registry.faults.fired(look), site.registry.faults.fired(refused)) == (1, 1)
    # A refused token does not pass by waiting, unlike the other failure.
    assert (ran.code, states(ran)["registry"]) == (1, "ok")
    errors = {finding["part"]: (finding["state"], finding["error"]) for finding in ran.json}
    assert errors["organization community"] == ("failed", "QuayPackageError")
    assert errors["organization partners"] == ("failed", "QuayAuthorizationError")


def test_check_goes_on_past_a_broken_mapping_and_a_secret_that_is_not_there(site):
    (site.directory / "secrets" / "partners").unlink()
    edit(site.directory / "mapping.yaml", "version: csv", "versoin: csv")
    ran = site.command("check", "--json")
    assert ran.code == 2
    assert {part for part, state in states(ran).items() if state == "failed"} == {
        "configuration", "mapping", "organization partners",
    }  # fmt: skip
    assert {part for part, state in states(ran).items() if state == "ok"} == {
        "machine", "broker", "queue", "failed queue", "Koji hub", "Koji files", "registry", "organization community",
    }  # fmt: skip
    key = "consumer_config.organizations.partners.token_file"
    assert f"{key}: there is no such file: {site.directory / 'secrets' / 'partners'}" in ran.out


def test_check_doubts_a_place_for_files_where_there_are_none(site):
    edit(site.config, "/kojiroot", "/elsewhere")
    ran = site.command("check", "--json")
    assert (ran.code, states(ran)["Koji files"]) == (0, "warning")
    assert "is root_url right?" in ran.out


def test_check_says_try_later_when_a_part_is_away(site):
    site.koji.fail_calls("offline")
    ran = site.command("check", "--json")
    assert ran.code == 75
    assert states(ran)["Koji hub"] == "failed"


def test_check_names_the_difference_when_the_queue_is_another(site):
    with site.channel() as channel:
        channel.queue_declare("omps-worker", durable=True)
    ran = site.command("check", "--json")
    assert ran.code == 2
    (finding,) = [finding for finding in ran.json if finding["part"] == "queue"]
    assert finding["state"] == "failed"
    assert "inequivalent arg" in finding["detail"]


def test_explain_says_what_would_be_released(site, build):
    ran = site.command("explain", NVR, "--json")
    assert ran.code == 0
    assert ran.json["decision"] == "publish"
    assert ran.json["rule"] == 1
    assert ran.json["build"]["id"] == build["id"]
    (target,) = ran.json["targets"]
    assert (target["organization"], target["repository"], target["version"], target["status"]) == (
        "community", "otter-cache", "1.0.0", "published",
    )  # fmt: skip
    assert site.registry.packages() == ()


def test_explain_speaks_to_people(site, build):
    ran = site.command("explain", NVR)
    assert "community/otter-cache: would become release 1.0.0" in ran.out
    assert "rules[1]" in ran.out


def test_explain_tells_people_what_koji_does_not_know(site):
    made = site.koji.add_build(COMPONENT, "1.0", "2", manifests=OTTER, task=False)
    assert "owner jdoe, target unknown" in site.command("explain", made["nvr"]).out


def test_explain_knows_what_is_released_already(site, build):
    assert site.command("push", NVR).code == 0
    ran = site.command("explain", NVR, "--json")
    assert ran.json["decision"] == "publish"
    assert ran.json["targets"][0]["status"] == "unchanged"


@pytest.mark.parametrize(
    ("component", "kind", "decision", "reason"),
    [
        ("playground-x", None, "ignore", "ignored_by_rule"),
        ("some-library", None, "ignore", "no_rule"),
        ("heron-operator-bundle-container", OperatorKind.BUNDLE, "skip", "bundle build"),
        ("kestrel-operator-container", OperatorKind.NONE, "skip", "not an operator image"),
    ],
)
def test_explain_gives_the_reason(site, component, kind, decision, reason):
    manifests = None if kind is OperatorKind.NONE else OTTER
    made = site.koji.add_build(component, "1", "1", manifests=manifests, kind=kind)
    ran = site.command("explain", made["nvr"], "--json")
    assert ran.code == 0
    assert ran.json["decision"] == decision
    assert reason in ran.json["reason"]


def test_explain_takes_a_message_from_a_file(site, build, tmp_path):
    site.save(site.koji.message(build), tmp_path / "message.json")
    ran = site.command("explain", str(tmp_path / "message.json"), "--json")
    assert ran.json["decision"] == "publish"
    (tmp_path / "tag.json").write_bytes(site.koji.tag_message(build).body)
    assert site.command("explain", str(tmp_path / "tag.json"), "--json").json["decision"] == "ignore"


def test_explain_of_a_file_that_holds_no_message_says_so(site, tmp_path):
    (tmp_path / "noise").write_bytes(b"\x00\x01\x02")
    ran = site.command("explain", str(tmp_path / "noise"))
    assert (ran.code, ran.out) == (1, "")
    assert "noise" in ran.err
    assert "Traceback" not in ran.err


def test_explain_of_an_unknown_build_fails(site):
    ran = site.command("explain", "no-such-build-1-1", "--json")
    assert ran.code == 1
    assert ran.json["decision"] == "fail"
    assert "KojiNVRBuildNotFound" in ran.json["reason"]


def test_push_publishes_where_the_mapping_says_and_tells_the_bus(site, build):
    with site.watching() as watch:
        ran = site.command("push", NVR, "--json")
        (announced,) = results_of(watch, 1)
    assert ran.code == 0
    assert ran.json == [announced]
    assert (announced["status"], announced["version"], announced["source"]) == ("published", "1.0.0", None)
    assert [release.version for release in site.registry.releases("community", "otter-cache")] == ["1.0.0"]


def test_pushing_again_changes_nothing_unless_a_new_release_is_asked_for(site, build):
    assert site.command("push", NVR).code == 0
    again = site.command("push", NVR, "--json")
    assert (again.code, again.json[0]["status"]) == (0, "unchanged")
    fresh = site.command("push", NVR, "--new-release", "--json")
    assert (fresh.code, fresh.json[0]["status"], fresh.json[0]["version"]) == (0, "published", "2.0.0")


def test_push_goes_where_it_is_told(site, build):
    ran = site.command("push", NVR, "--organization", "partners", "--version", "3.1.4", "--json")
    assert ran.code == 0
    assert [release.version for release in site.registry.releases("partners", "otter-cache")] == ["3.1.4"]


def test_a_dry_run_changes_nothing(site, build):
    with site.watching() as watch:
        ran = site.command("push", NVR, "--dry-run")
        watch.poll()
    assert ran.code == 0
    assert "would be published" in ran.out
    assert "nothing was changed" in ran.out
    assert site.registry.packages() == ()
    assert watch.results == []


def test_the_exit_code_tells_a_script_what_happened(site, build):
    site.koji.add_build("kestrel-operator-container", "1", "1")
    assert site.command("push", "kestrel-operator-container-1-1").code == 1
    assert site.command("push", "no-such-build-1-1").code == 1
    assert site.command("push", NVR, "--repository", "another").code == 1
    assert site.command("push", NVR, "--organization", "strangers").code == 2
    assert site.command("push", NVR, "--version", "1.0").code == 2
    assert site.command("push").code == 2
    site.registry.faults.add(Fault("GET /cnr/.*", status=503, times=None))
    assert site.command("push", NVR).code == 75


def test_push_needs_no_broker_to_publish(site, build):
    ran = site.command("push", NVR, "--json", environment={"OMPS_WORKER_AMQP_URL": "amqp://127.0.0.1:9"})
    assert (ran.code, ran.json[0]["status"]) == (0, "published")
    assert "not published on the bus" in ran.err


def test_every_fault_of_both_files_is_reported_at_once(site):
    edit(site.config, "[consumer_config.koji]", "unknown = 1\n[consumer_config.koji]\ntimeout = 'soon'")
    edit(site.directory / "mapping.yaml", "version: csv", "versoin: csv")
    ran = site.command("check")
    assert (ran.code, ran.out) == (2, "")
    for key in ("consumer_config.unknown", "consumer_config.koji.timeout", "versoin"):
        assert key in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_configuration_is_named(site):
    site.config.unlink()
    ran = site.command("run")
    assert ran.code == 2
    assert str(site.config) in ran.err


@pytest.mark.parametrize(
    ("what", "sample"), [("mapping", "rules"), ("config", "consumer_config"), ("results", "oneOf")]
)
def test_schemas_are_printed_for_editors(site, what, sample):
    ran = site.command("schema", what)
    assert ran.code == 0
    jsonschema.validators.validator_for(ran.json).check_schema(ran.json)
    assert sample in json.dumps(ran.json)


@pytest.mark.parametrize("command", ["explain", "push"])
def test_no_build_is_a_fault_of_usage(site, command):
    ran = site.command(command, " ")
    assert (ran.code, ran.out) == (2, "")
    assert "must not be empty" in ran.err


def test_an_organization_that_is_not_configured_is_named_with_the_file(site):
    ran = site.command("push", NVR, "--organization", "nobody")
    assert (ran.code, ran.out) == (2, "")
    assert f"{site.config}: consumer_config.organizations.nobody: " in ran.err


def test_an_answer_that_cannot_be_written_is_one_line(site):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "omps_worker", "--config", str(site.config), "check"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: No space left on device"
    assert "Traceback" not in ended.stderr


def test_nothing_needs_a_working_directory_that_exists(site, tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    program = Path(sys.executable).with_name("omps-worker")
    command = f'rmdir "{place}" && exec "{program}" --config "{site.config}" check'
    ended = subprocess.run(["sh", "-c", command], cwd=place, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
