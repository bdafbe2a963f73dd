# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for failures: list, show, replay, discard, export, and replay from files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import fedora_messaging.message
import pytest
from click.testing import CliRunner, Result

from omps_worker.broker.dead_letters.failed_queue import MANY_DELIVERIES
from omps_worker.cli import main
from omps_worker.cli.interrupts import Interrupts
from omps_worker.common import logs
from omps_worker.messages.dead_letter import FailureSelection
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.bus import Bus, build_body
from tests.support.parked import TOPIC, failed_queue_of, fill, fill_with, parked
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

FAILED = f"{QUEUE}.failed"
OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"


@pytest.fixture
def bus(site) -> Bus:
    return Bus(site.amqp_url).set_up()


def ids(ran) -> list[str]:
    return [one["id"] for one in ran.json]


def test_a_failure_is_found_understood_mended_and_replayed_in_five_commands(site):
    """As docs/operations.md tells it."""
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    nvr = build["nvr"]
    site.registry.faults.add(Fault("POST /cnr/.*", status=422, times=None))
    message = site.koji.message(build)
    with site.watching() as watch, site.running():
        site.publish(message)
        results_of(watch, 1)
        wait_until(lambda: watch.depth(FAILED) == 1, what="the message to be parked")

        ran = site.command("failed", "list", "--nvr", nvr, "--json")
        (failure,) = ran.json
        assert set(failure) == {
            "id", "queue", "topic", "nvr", "error", "message", "attempts", "first_seen", "parked_at",
        }  # fmt: skip
        assert (failure["nvr"], failure["error"], failure["queue"]) == (nvr, "QuayCourierError", FAILED)
        assert (failure["id"], failure["topic"]) == (message.properties["message_id"], message.routing_key)
        shown = site.command("failed", "show", failure["id"])
        assert (shown.code, "QuayCourierError: " in shown.out) == (0, True)
        assert "targets    community" in shown.out
        assert site.command("explain", nvr).code == 0

        site.registry.faults.clear()
        assert site.command("failed", "replay", failure["id"]).code == 0
        _, published = results_of(watch, 2)
    assert (published["status"], published["nvr"], published["attempt"]) == ("published", nvr, 1)
    assert published["source"]["topic"] == message.routing_key
    assert site.command("failed", "list", "--json").json == []


def test_people_get_a_table_by_time(site, bus):
    fill(bus, [(parked(number), build_body(number)) for number in (5, 3, 4)])
    ran = site.command("failed", "list")
    heads, _, *rows = ran.out.splitlines()
    assert heads.split("  ")[0] == "parked at"
    assert [row.split()[2] for row in rows] == ["id-3", "id-4", "id-5"]
    assert ran.err == ""


def test_an_empty_queue_is_said_to_be_empty(site, bus):
    assert site.command("failed", "list").out == "parked: 0 messages\n"


def test_filters_choose(site, bus):
    fill_with(bus, 3)
    recent = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat()
    fill(bus, [(parked(7, error="KojiError", **{"omps-parked-at": recent}), build_body(7, "other"))])
    for options, expected in {
        ("--nvr", "build-1-1.0-1", "--nvr", "other*"): ["id-1", "id-7"],
        ("--error", "Koji*", "--newer-than", "10m"): ["id-7"],
        ("--error", "Koji*", "--older-than", "600"): [],
    }.items():
        assert sorted(ids(site.command("failed", "list", "--json", *options))) == expected
    assert site.command("failed", "list", "--older-than", "soon").code == 2


def test_an_id_that_names_nothing_is_told(site, bus):
    fill_with(bus, 1)
    for command in (["show"], ["replay", "--dry-run"], ["discard", "--yes", "--dry-run"]):
        ran = site.command("failed", *command, "id-0", "nobody")
        assert ran.code == 1
        assert "nobody" in ran.err
        assert "id-0" in ran.out


def test_all_copies_of_an_id_are_shown(site, bus):
    fill(bus, [(parked(number, message_id="same"), build_body(number)) for number in range(2)])
    ran = site.command("failed", "show", "same", "--json")
    assert [one["body"]["build_id"] for one in ran.json] == [0, 1]
    assert {"headers", "deaths", "targets", "exchange", "body_base64"} < set(ran.json[0])
    assert site.command("failed", "show", "same").out.count("\nbody\n") == 2


@pytest.mark.parametrize("command", [["replay"], ["discard", "--yes"]])
def test_what_changes_something_wants_to_be_told_what(site, bus, command):
    fill_with(bus, 2)
    for choice in ([], ["id-1", "--all"], ["--all", "--error", "*"]):
        ran = site.command("failed", *command, *choice)
        assert (ran.code, ran.out) == (2, "")
        assert "--all" in ran.err
    assert bus.depth(bus.failed_queue) == 2


def test_a_replay_sends_to_the_queue_alone_and_begins_anew(site, bus):
    fill_with(bus, 3)
    with bus.channel() as channel:
        channel.queue_declare("listener", durable=True)
        channel.queue_bind("listener", "amq.topic", "#")
    dry = site.command("failed", "replay", "--all", "--dry-run", "--json")
    assert (dry.code, len(dry.json), bus.depth()) == (0, 3, 0)
    ran = site.command("failed", "replay", "--nvr", "build-[02]-*", "--json")
    assert (ran.code, ids(ran)) == (0, ["id-0", "id-2"])
    first, _ = bus.take(bus.queue, 2)
    assert first.body == build_body(0, "build-0")
    assert (first.properties.message_id, first.properties.content_type) == ("id-0", "application/json")
    assert {name for name in first.headers if name.startswith("omps-")} == {
        "omps-topic", "omps-exchange", "omps-replayed-at", "omps-replayed",
    }  # fmt: skip
    assert first.headers["omps-topic"] == TOPIC
    assert bus.depth("listener") == 0
    assert ids(site.command("failed", "list", "--json")) == ["id-1"]


def test_nothing_is_destroyed_without_a_yes(site, bus):
    fill_with(bus, 3)
    ran = site.command("failed", "discard", "--all")
    assert (ran.code, "--yes" in ran.err) == (2, True)
    assert ids(site.command("failed", "discard", "--all", "--dry-run", "--json")) == ["id-0", "id-1", "id-2"]
    assert bus.depth(bus.failed_queue) == 3
    ran = site.command("failed", "discard", "id-1", "--yes", "--json")
    assert (ran.code, ids(ran)) == (0, ["id-1"])
    assert ids(site.command("failed", "list", "--json")) == ["id-0", "id-2"]
    assert site.command("failed", "discard", "--all", "--yes").out.endswith("discarded: 2 messages\n")
    assert bus.depth(bus.failed_queue) == 0


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, []), (b"n\n", 1, ["id-0", "id-1"])])
def test_on_a_terminal_it_is_shown_and_asked(site, bus, answer, code, left):
    fill_with(bus, 2)
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "--config", str(site.config), "failed", "discard", "--all"],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.write(ours, answer)
        out, err = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert "id-1" in err
    assert "Delete 2 messages permanently?" in err
    assert ("discarded: 2 messages" in out) == (code == 0)
    assert ids(site.command("failed", "list", "--json")) == left


def test_what_is_exported_can_be_replayed_and_is_the_same_message(site, bus, tmp_path):
    odd = b"\x00\xffnoise"
    fill(bus, [(parked(1, when=datetime(2026, 1, 1, tzinfo=timezone.utc), raw=b"\xff"), b'{"compact":"json"}')])
    fill(bus, [(parked(2, message_id="../../escape"), odd), (parked(3, message_id="same"), build_body(3)),
               (parked(4, message_id="same"), build_body(4))])  # fmt: skip
    before = bus.take_all(bus.failed_queue)
    fill(bus, [(got.properties, got.body) for got in before])
    place = tmp_path / "kept" / "here"
    ran = site.command("failed", "export", str(place), "--json")
    assert (ran.code, len(ran.json)) == (0, 4)
    files = sorted(str(path) for path in place.iterdir())
    assert sorted(one["file"] for one in ran.json) == files
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["here"]
    again = site.command("failed", "export", str(place))
    assert (again.code, again.err.count("already exists, with the same content")) == (0, 4)
    assert bus.depth(bus.failed_queue) == 4

    assert site.command("failed", "discard", "--all", "--yes").code == 0
    dry = site.command("replay", *files, "--dry-run", "--json")
    assert (dry.code, bus.depth()) == (0, 0)
    assert [one["file"] for one in dry.json] == files
    ran = site.command("replay", *files)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "sent: 4 messages")
    sent = bus.take(bus.queue, 4)
    assert sorted((got.properties.message_id, got.body) for got in sent) == sorted(
        (got.properties.message_id, got.body) for got in before
    )
    (first,) = [got for got in sent if got.properties.message_id == "id-1"]
    assert first.headers["raw"] == b"\xff"
    assert first.headers["when"] == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert {"omps-error", "omps-attempt", "omps-parked-at"} & set(first.headers) == set()


def test_what_was_exported_twice_is_sent_once(site, bus, tmp_path):
    fill_with(bus, 1)
    place = tmp_path / "kept"
    for _ in range(2):
        assert site.command("failed", "export", str(place)).code == 0
    (file,) = place.iterdir()
    (place / "again.json").write_text(file.read_text().replace("00:00+00:00", "00:07+00:00"))
    ran = site.command("replay", *map(str, place.iterdir()))
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "sent: 1 message")
    assert "note: each message is sent once: 1 copy of these messages is left out (" in ran.err
    assert bus.depth() == 1


def test_an_export_never_replaces_what_is_not_its_own(site, bus, tmp_path):
    fill_with(bus, 1)
    assert site.command("failed", "export", str(tmp_path / "out"), "--dry-run").code == 0
    assert not (tmp_path / "out").exists()
    (file,) = [one["file"] for one in site.command("failed", "export", str(tmp_path / "out"), "--json").json]
    edit(tmp_path / "out" / file.rsplit("/", 1)[1], '"id-0"', '"edited"')
    ran = site.command("failed", "export", str(tmp_path / "out"))
    assert (ran.code, file in ran.err) == (1, True)
    assert "edited" in (tmp_path / "out" / file.rsplit("/", 1)[1]).read_text()


def test_messages_that_fedora_messaging_recorded_become_releases(site, bus, tmp_path):
    builds = [site.koji.add_build(COMPONENT, version, "1", manifests=OTTER) for version in ("1.0", "2.0")]
    lines = []
    for build in builds:
        sent = site.koji.message(build)
        message = fedora_messaging.message.Message(
            topic=sent.routing_key, headers=sent.properties["headers"], body=json.loads(sent.body)
        )
        lines.append(fedora_messaging.message.dumps(message))
    (tmp_path / "recorded.jsonl").write_text("".join(lines))
    ran = site.command("replay", str(tmp_path / "recorded.jsonl"), "--json")
    assert [one["nvr"] for one in ran.json] == [build["nvr"] for build in builds]
    with site.watching() as watch, site.running():
        results = results_of(watch, 2)
    assert {result["status"] for result in results} <= {"published", "unchanged", "skipped"}
    assert len(site.registry.releases("community", "otter-cache")) == 1


def test_files_are_read_before_anything_is_sent(site, bus, tmp_path):
    (tmp_path / "good.json").write_bytes(build_body(1))
    for text in ("this is no message", "[]"):
        (tmp_path / "bad.json").write_text(text)
        ran = site.command("replay", str(tmp_path / "good.json"), str(tmp_path / "bad.json"))
        assert (ran.code, "bad.json" in ran.err) == (1, True)
        assert "Traceback" not in ran.err
    assert bus.depth() == 0
    assert site.command("replay", str(tmp_path / "missing.json")).code == 2
    assert site.command("replay").code == 2


def test_a_broker_that_is_away_means_try_later(site, tmp_path):
    (tmp_path / "good.json").write_bytes(build_body(1))
    away = {"OMPS_WORKER_AMQP_URL": "amqp://127.0.0.1:9"}
    for command in (["failed", "list"], ["failed", "replay", "--all"], ["replay", str(tmp_path / "good.json")]):
        ran = site.command(*command, environment=away)
        assert ran.code == 75
        assert "cannot be reached" in ran.err
        assert "Traceback" not in ran.err


def test_a_missing_failed_queue_is_a_clear_message(site):
    ran = site.command("failed", "list", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert f"The queue {FAILED} does not exist" in ran.err


def test_a_site_that_may_not_declare_anything_has_the_same_tools(site, bus):
    edit(site.config, 'topic_prefix = "', 'passive_declares = true\ntopic_prefix = "')
    edit(site.config, "[consumer_config]\n", '[consumer_config]\nlock = "process"\n')
    fill_with(bus, 3)
    for _ in range(MANY_DELIVERIES):
        failed_queue_of(bus).records(FailureSelection())
    ran = site.command("failed", "list", "--json")
    assert ids(ran) == ["id-0", "id-1", "id-2"]
    assert "x-delivery-limit" in ran.err, "nobody knows that queue's delivery limit"
    assert site.command("failed", "replay", "--all").code == 0
    assert bus.depth() == 3


def test_failures_can_be_looked_after_while_the_mapping_and_the_secrets_are_broken(site, bus):
    fill_with(bus, 3)
    (site.directory / "mapping.yaml").write_text("rules: [")
    (site.directory / "secrets" / "community").unlink()
    assert len(ids(site.command("failed", "list", "--json"))) == 3
    assert site.command("failed", "replay", "id-0").code == 0
    assert site.command("check").code == 2, "everything else needs them"
    edit(site.config, "topic_prefix", "topic_prefixx")
    broken = site.command("failed", "list")
    assert (broken.code, "topic_prefixx" in broken.err) == (2, True)


def test_an_export_to_nowhere_is_refused(site, bus):
    fill_with(bus, 1)
    ran = site.command("failed", "export", "")
    assert (ran.code, "must not be empty" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "in_queue", "parked_still"),
    [(["replay", "--all"], 3, 2), (["discard", "--all", "--yes"], 0, 2), (["export", "kept"], 0, 5)],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_signal_ends_early_tells_what_is_done_and_what_is_left(
    site, bus, monkeypatch, tmp_path, arguments, in_queue, parked_still, number
):
    monkeypatch.chdir(tmp_path)
    fill_with(bus, 5)
    ran = in_the_middle_of_the_third(monkeypatch, number, site, "failed", *arguments)
    assert ran.exit_code == 1, "what Ctrl-C has"
    assert f"3 messages {arguments[0].removesuffix('e')}ed, 2 of 5 in the queue not reached" in ran.stderr
    assert ran.stdout.count("QuayCourierError") == 3
    wait_until(lambda: (bus.depth(), bus.depth(FAILED)) == (in_queue, parked_still), what="everything to be back")
    assert len(list(tmp_path.glob("kept/*.json"))) == 3 * (arguments[0] == "export")


def test_a_replay_of_files_that_a_signal_ends_tells_how_many_were_sent(site, bus, monkeypatch, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.json").write_bytes(build_body(number))
    files = [str(tmp_path / f"{number}.json") for number in range(5)]
    ran = in_the_middle_of_the_third(monkeypatch, signal.SIGTERM, site, "replay", *files)
    assert ran.exit_code == 1
    assert "sent 3 of 5" in ran.stderr
    assert bus.depth() == 3


def in_the_middle_of_the_third(monkeypatch, number: signal.Signals, site, *arguments: str) -> Result:
    """Run a command that gets a signal while it is at its third message."""
    begun = 0
    uninterrupted = Interrupts.uninterrupted

    @contextmanager
    def interrupted(interrupts: Interrupts):
        nonlocal begun
        begun += 1
        with uninterrupted(interrupts):
            if begun == 3:
                os.kill(os.getpid(), number)
            yield

    monkeypatch.setattr(Interrupts, "uninterrupted", interrupted)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # its handlers would outlive the runner's streams
    return CliRunner().invoke(main, ["--config", str(site.config), *arguments])
