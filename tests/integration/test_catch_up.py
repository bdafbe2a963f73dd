# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds whose messages never came are published all the same: by a command, or by the worker itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.broker import headers
from omps_worker.broker.catch_up import Leadership, PeriodicCatchUp
from omps_worker.broker.locks.connection import LockConnection
from omps_worker.common.errors import BrokerUnavailable, KojiError
from omps_worker.messages.events import decode
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.bus import where
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

HOUR = timedelta(hours=1)


def build_of(site, package, number=1, *, ago=HOUR, **more):
    files = operators.flat_operator(package, version=f"1.0.{number}")
    return site.koji.add_build(
        f"{package}-operator-container",
        "1.0",
        str(number),
        manifests=operators.zip_of(files),
        completed_at=datetime.now(timezone.utc) - ago,
        **more,
    )


def declare_queue(site):
    with site.running():
        pass


def test_what_the_bus_lost_is_published_through_the_queue(site):
    builds = [build_of(site, package, ago=ago * HOUR) for package, ago in (("otter", 3), ("heron", 2), ("lantern", 1))]
    legacy = build_of(site, "finch", ago=HOUR / 2, legacy=True)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(builds[1]))
        results_of(watch, 1)
        ran = site.command("catch-up", "--since", "24h", "--json")
        results = results_of(watch, 4)[1:]
    assert ran.code == 0, ran.err
    assert [(found["nvr"], found["status"]) for found in ran.json] == [
        (builds[0]["nvr"], "sent"),
        (builds[1]["nvr"], "released"),
        (builds[2]["nvr"], "sent"),
        (legacy["nvr"], "sent"),
    ]
    assert {result["nvr"] for result in results} == {builds[0]["nvr"], builds[2]["nvr"], legacy["nvr"]}
    assert {(result["status"], result["attempt"], result["source"]["topic"]) for result in results} == {
        ("published", 1, "omps.catch-up")
    }


def test_the_messages_are_those_of_the_build_system_marked_as_late(site):
    build = build_of(site, "otter", target="otters-1")
    declare_queue(site)
    ran = site.command("catch-up", "--since", "24h")
    assert ran.code == 0, ran.err
    assert "1 operator build(s): 1 sent" in ran.out
    ((properties, body),) = site.take(QUEUE)
    event = decode(body)
    assert (event.build_id, event.nvr, event.target) == (build["id"], build["nvr"], "otters-1")
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert properties.headers[headers.CATCH_UP]


def test_a_dry_run_says_what_is_missing_and_sends_nothing(site):
    old, new = build_of(site, "otter", 1, ago=2 * HOUR), build_of(site, "otter", 2)
    build_of(site, "heron", ago=30 * HOUR)
    declare_queue(site)
    ran = site.command("catch-up", "--since", "24h", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert [(found["nvr"], found["status"], found["reason"]) for found in ran.json] == [
        (old["nvr"], "skipped", "superseded"),
        (new["nvr"], "missing", None),
    ]
    assert ran.json[1]["targets"] == [
        {
            "organization": "community",
            "catalog": None,
            "repository": "otter",
            "version": "1.0.0",
            "status": "published",
        }
    ]
    assert site.take(QUEUE) == []
    text = site.command("catch-up", "--since", "24h", "--dry-run").out
    assert "2 operator build(s): 1 missing, 1 skipped" in text
    assert "  missing  not in community/otter\n" in text
    assert "dry run" in text


def test_a_period_ends_where_it_is_told_to(site):
    early = build_of(site, "otter", ago=5 * HOUR)
    build_of(site, "heron", ago=HOUR)
    until = (datetime.now(timezone.utc) - 3 * HOUR).isoformat()
    ran = site.command("catch-up", "--since", "1d", "--until", until, "--dry-run", "--json")
    assert [found["nvr"] for found in ran.json] == [early["nvr"]]


def test_late_builds_do_not_come_out_on_top_of_newer_ones(site):
    old, new = build_of(site, "otter", 1, ago=2 * HOUR), build_of(site, "otter", 2)
    with site.watching() as watch, site.running():
        for build in (new, old):
            site.publish(site.koji.message(build))
        results = results_of(watch, 2)
    outcomes = {result["nvr"]: (result["status"], result["reason"]) for result in results}
    assert outcomes == {new["nvr"]: ("published", None), old["nvr"]: ("skipped", "superseded")}


def test_catching_up_again_and_again_undoes_nothing_and_releases_nothing(site, tmp_path):
    old, new = build_of(site, "otter", 1, ago=3 * HOUR), build_of(site, "otter", 2, target="other", ago=2 * HOUR)
    fix = tmp_path / "fix.zip"
    fix.write_bytes(operators.zip_of(operators.flat_operator("otter", version="1.0.7")))
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(old))
        site.publish(site.koji.message(new))
        results_of(watch, 2)
        for command in (("push-zip", str(fix)), ("push", old["nvr"], "--new-release")):
            assert site.command(*command, "--organization", "community").code == 0
        results_of(watch, 4)
        held = site.registry.releases("community", "otter")
        assert [release.version for release in held] == ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
        for repeated in range(1, 4):
            ran = site.command("catch-up", "--since", "24h", "--json")
            assert [found["status"] for found in ran.json] == ["released", "released"], ran.err
            site.publish(site.koji.message(old))
            site.publish(site.koji.message(new))
            results = results_of(watch, 4 + 2 * repeated)[4:]
            assert {result["status"] for result in results} == {"unchanged"}
    assert site.registry.releases("community", "otter") == held


def test_late_builds_wait_for_a_hub_whose_database_fails_for_a_while(site):
    old, new = build_of(site, "otter", 1, ago=2 * HOUR), build_of(site, "otter", 2)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(new))
        results_of(watch, 1)
        site.koji.break_call("listBuilds", "canceling statement due to statement timeout")
        site.publish(site.koji.message(old))
        waiting = results_of(watch, 2)[1]
        assert (waiting["status"], waiting["error"]["name"]) == ("retrying", "KojiError")
        site.koji.recover()
        wait_until(lambda: watch.poll() or watch.results[-1][1]["status"] != "retrying", 30, "the end of waiting")
        final = results_of(watch, 3)[-1]
    assert (final["status"], final["reason"]) == ("skipped", "superseded")
    assert [release.version for release in site.registry.releases("community", "otter")] == ["1.0.0"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "--since"),
        (("--since", "yesterday"), "must be a date or time"),
        (("--since", "2100-01-01"), "future"),
        (("--since", "1h", "--until", "2h"), "later than --since"),
    ],
)
def test_a_time_that_cannot_be_meant_is_a_fault_of_usage(site, options, text):
    ran = site.command("catch-up", *options)
    assert ran.code == 2
    assert text in ran.err


def test_a_koji_that_is_away_means_try_later(site):
    site.koji.fail_calls("offline")
    ran = site.command("catch-up", "--since", "1h")
    assert (ran.code, ran.out) == (75, "")
    assert "KojiError" in ran.err


def test_a_hub_that_refuses_the_question_has_failed_it(site):
    site.koji.remove_call("listBuilds")
    ran = site.command("catch-up", "--since", "1h")
    assert (ran.code, ran.out) == (1, "")
    assert "Koji's hub refuses listBuilds" in ran.err


def test_a_registry_that_is_away_means_try_later_and_nothing_is_sent(site):
    build_of(site, "otter")
    declare_queue(site)
    site.registry.faults.add(Fault("GET /cnr/.*", status=503, times=None))
    ran = site.command("catch-up", "--since", "24h", "--json")
    assert (ran.code, [found["status"] for found in ran.json]) == (75, ["undecided"])
    assert site.take(QUEUE) == []


def test_a_missing_queue_is_a_clear_fault(site):
    build_of(site, "otter")
    ran = site.command("catch-up", "--since", "24h")
    assert ran.code == 2
    assert f"No queue takes a message to '{QUEUE}'" in ran.err


def test_a_worker_catches_up_by_itself(site):
    edit(site.config, "[consumer_config.koji]", '[consumer_config.catch_up]\nperiod = "300ms"\n[consumer_config.koji]')
    build = build_of(site, "otter")
    with site.watching() as watch, site.running():
        (result,) = results_of(watch, 1)
        assert (result["status"], result["nvr"]) == ("published", build["nvr"])
        wait_until(lambda: site.log.count("1 released") >= 2, 30, "two more rounds")
        watch.poll()
    assert len(watch.results) == 1
    assert len(site.registry.releases("community", "otter")) == 1


def test_a_worker_whose_koji_is_away_catches_up_later(site):
    edit(site.config, "[consumer_config.koji]", '[consumer_config.catch_up]\nperiod = "300ms"\n[consumer_config.koji]')
    build = build_of(site, "otter")
    site.koji.fail_calls("offline")
    with site.watching() as watch, site.running():
        wait_until(lambda: "catch-up failed" in site.log, 30, "a round that fails")
        site.koji.recover()
        (result,) = results_of(watch, 1)
    assert (result["status"], result["nvr"]) == ("published", build["nvr"])


# One replica at a time


@pytest.fixture
def links(amqp_url):
    made = [LockConnection(where(amqp_url)) for _ in range(2)]
    yield made
    for link in made:
        link.close()


def test_the_turn_belongs_to_one_replica_and_passes_on_when_that_goes_away(links):
    first, second = (Leadership(link, QUEUE) for link in links)
    assert (first.acquire(), second.acquire(), first.acquire()) == (True, False, True)
    first.close()
    wait_until(second.acquire, 10, "the turn")


def test_replicas_of_different_queues_do_not_wait_for_each_other(links):
    assert [Leadership(link, queue).acquire() for link, queue in zip(links, ("one", "other"), strict=True)] == [
        True,
        True,
    ]


def test_only_the_replica_whose_turn_it_is_makes_rounds(links):
    gone = {"first": 0, "second": 0}

    def going(name):
        def go(_over):
            gone[name] += 1

        return go

    with PeriodicCatchUp(going("first"), 0.02, Leadership(links[0], QUEUE)):
        wait_until(lambda: gone["first"] > 2, 10, "rounds of the first")
        with PeriodicCatchUp(going("second"), 0.02, Leadership(links[1], QUEUE)):
            before = gone["first"]
            wait_until(lambda: gone["first"] > before + 5, 10, "more rounds of the first")
            assert gone["second"] == 0


@pytest.mark.parametrize("error", [KojiError("away"), BrokerUnavailable("away"), ZeroDivisionError("odd")])
def test_a_round_that_fails_does_not_end_the_rounds(error):
    rounds = []

    def go(_over):
        rounds.append(1)
        raise error

    with PeriodicCatchUp(go, 0.02):
        wait_until(lambda: len(rounds) > 2, 10, "more rounds")
