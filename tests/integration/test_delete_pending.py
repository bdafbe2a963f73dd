# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker delete`` says what may publish the package again."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from omps_worker import bootstrap
from omps_worker.cli import main
from omps_worker.common import logs
from omps_worker.publishing.retry import RetryDelay
from omps_worker.sandbox import operators
from tests.support.bus import Bus, build_body
from tests.support.parked import parked
from tests.support.site import edit
from tests.support.waiting import wait_until

LANTERN = "lantern-operator-container"
WAITING = "omps-worker.retry.1h"


def delete(site, *options: str, **environment: str) -> Result:
    arguments = ["--config", str(site.config), "delete", "community", "lantern", "--yes", *options]
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.fixture
def bus(site, monkeypatch) -> Bus:
    """A release of the package, and messages of all kinds."""
    monkeypatch.setattr(bootstrap, "ANNOUNCE_SECONDS", 0.2)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # its handlers would outlive the runner's streams
    archive = site.directory / "lantern.zip"
    archive.write_bytes(operators.zip_of(operators.flat_operator("lantern")))
    pushed = CliRunner().invoke(
        main, ["--config", str(site.config), "push-zip", str(archive), "--organization", "community"]
    )
    assert pushed.exit_code == 0, pushed.output
    bus = Bus(site.amqp_url).set_up(delays=tuple(RetryDelay(text, 3600) for text in ("10s", "1m", "10m", "1h")))

    def put(queue: str, number: int, name: str, targets: list[str] | None, body: bytes = b"") -> None:
        properties = parked(number, **({} if targets is None else {"omps-targets": targets}))
        with bus.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish("", queue, body or build_body(number, name), properties, mandatory=True)

    put(bus.failed_queue, 1, LANTERN, ["community/lantern"])
    put(bus.failed_queue, 2, "partner-lantern-container", None)
    put(bus.failed_queue, 3, "otter-operator-container", None)
    put(bus.failed_queue, 4, "unreadable", ["community"], b"no JSON")
    put(WAITING, 5, LANTERN, ["partners", "community/otter"])
    put(WAITING, 6, LANTERN, ["community"])
    wait_until(lambda: (bus.depth(bus.failed_queue), bus.depth(WAITING)) == (4, 2), what="the messages")
    return bus


def test_a_deletion_names_what_waits_or_is_parked_for_the_package_and_leaves_it_there(site, bus):
    ran = delete(site, "--dry-run", "--json")
    (body,) = json.loads(ran.stdout)
    assert (ran.exit_code, body["status"], body["pending_unknown"]) == (0, "deleted", None)
    assert [(one["id"], one["queue"], one["parked"], one["certain"]) for one in body["pending"]] == [
        ("id-6", WAITING, False, False),
        ("id-1", bus.failed_queue, True, True),
        ("id-3", bus.failed_queue, True, False),
    ]
    assert [one["nvr"] for one in body["pending"]] == [
        f"{name}-1.0-1" for name in (LANTERN, LANTERN, "otter-operator-container")
    ]
    ran = delete(site)
    assert ran.exit_code == 0
    assert f"{LANTERN}-1.0-1: parked in {bus.failed_queue}, ID id-1\n" in ran.stderr
    assert "failed discard" in ran.stderr
    assert "`hold`" in ran.stderr
    assert site.registry.releases("community", "lantern") == ()
    assert (bus.depth(bus.failed_queue), bus.depth(WAITING)) == (4, 2)
    (_, waiting) = bus.take_all(WAITING)
    assert waiting.headers["omps-targets"] == ["community"]


def test_what_is_held_is_no_concern(site, bus):
    edit(site.directory / "mapping.yaml", "version: 1\n", "version: 1\nhold: ['lantern-*', 'otter-*']\n")
    assert [body["pending"] for body in json.loads(delete(site, "--dry-run", "--json").stdout)] == [[]]


def test_without_the_broker_it_is_unknown_and_the_release_is_deleted_all_the_same(site, bus):
    ran = delete(site, OMPS_WORKER_AMQP_URL="amqp://127.0.0.1:1/")
    assert ran.exit_code == 0
    assert "Not all messages that may publish community/lantern again are known: The broker" in ran.stderr
    assert site.registry.releases("community", "lantern") == ()
