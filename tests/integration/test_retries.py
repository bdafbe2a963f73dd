# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that fails for the time being is tried again by itself, and everybody can see when."""

from __future__ import annotations

from datetime import datetime

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"

TWO_TARGETS = """\
version: 1
rules:
  - match: {component: "*-operator-container"}
    publish: [{organization: community}, {organization: partners}]
"""


@pytest.fixture
def quick(site):
    """The site with delays that a test can wait for."""
    retry = '[consumer_config.retry]\ndelays = ["200ms", "500ms"]\ngive_up_after = "1m"\n'
    edit(site.config, "[consumer_config.koji]", retry + "[consumer_config.koji]")
    return site


@pytest.fixture
def build(site):
    return site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)


def test_a_koji_that_is_away_for_a_while_delays_a_release_and_loses_nothing(quick, build):
    quick.koji.fail_calls("offline", 2)
    message = quick.koji.message(build)
    with quick.watching() as watch, quick.running():
        quick.publish(message)
        first, second, last = results_of(watch, 3)
    assert [first["status"], second["status"], last["status"]] == ["retrying", "retrying", "published"]
    assert [first["attempt"], second["attempt"], last["attempt"]] == [1, 2, 3]
    assert first["reason"] == "KojiError"
    assert first["error"]["transient"] is True
    assert datetime.fromisoformat(first["next_attempt_at"]) < datetime.fromisoformat(second["next_attempt_at"])
    assert {result["source"]["message_id"] for result in (first, second, last)} == {message.properties["message_id"]}
    assert {result["source"]["topic"] for result in (first, second, last)} == {message.routing_key}
    assert quick.take(QUEUE) == quick.take(f"{QUEUE}.failed") == []


def test_what_stays_broken_for_too_long_is_parked_with_all_that_is_known(quick, build):
    edit(quick.config, 'give_up_after = "1m"', 'give_up_after = "4s"')
    quick.registry.faults.add(Fault("GET /cnr/.*", status=503, times=None))
    message = quick.koji.message(build)
    with quick.watching() as watch, quick.running():
        quick.publish(message)
        wait_until(lambda: watch.depth(f"{QUEUE}.failed") == 1, 30, "the message to be parked")
        watch.poll()
    statuses = [result["status"] for _, result in watch.results]
    assert len(statuses) > 2
    assert statuses == ["retrying"] * (len(statuses) - 1) + ["failed"]
    ((properties, body),) = quick.take(f"{QUEUE}.failed")
    assert body == message.body
    assert properties.message_id == message.properties["message_id"]
    assert properties.headers["omps-topic"] == message.routing_key
    assert properties.headers["omps-attempt"] == len(statuses)
    assert properties.headers["omps-targets"] == ["community"]
    assert properties.headers["omps-error"] == "QuayPackageError"


def test_a_registry_that_asks_for_time_gets_it(quick, build):
    quick.registry.faults.add(Fault("POST /cnr/.*", status=429, headers={"Retry-After": "1"}))
    with quick.watching() as watch, quick.running():
        quick.publish(quick.koji.message(build))
        wait_until(lambda: watch.depth(f"{QUEUE}.retry.500ms") == 1, 20, "the longest delay to be chosen")
        retrying, published = results_of(watch, 2)
    assert (retrying["status"], retrying["error"]["name"]) == ("retrying", "QuayCourierError")
    assert published["status"] == "published"


def test_only_the_targets_that_are_open_are_tried_again(quick, build):
    (quick.directory / "mapping.yaml").write_text(TWO_TARGETS)
    quick.registry.faults.add(Fault("POST /cnr/api/v1/packages/partners/.*", status=503))
    with quick.watching() as watch, quick.running():
        quick.publish(quick.koji.message(build))
        results = results_of(watch, 3)
    told = [(result["organization"], result["status"], result["attempt"]) for result in results]
    assert told == [("community", "published", 1), ("partners", "retrying", 1), ("partners", "published", 2)]
    assert len(quick.registry.releases("community", "otter-cache")) == 1
    assert len(quick.registry.releases("partners", "otter-cache")) == 1


def test_retry_queues_are_those_that_the_contract_names(quick):
    with quick.running(), quick.channel() as channel:
        for delay, milliseconds in (("200ms", 200), ("500ms", 500)):
            channel.queue_declare(
                f"{QUEUE}.retry.{delay}",
                durable=True,
                arguments={
                    "x-queue-type": "quorum",
                    "x-message-ttl": milliseconds,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": QUEUE,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            )


def test_a_worker_that_comes_later_takes_over_what_waits(quick, build):
    quick.koji.fail_calls("offline", 1)
    with quick.watching() as watch:
        with quick.running():
            quick.publish(quick.koji.message(build))
            results_of(watch, 1)
        with quick.running():
            retrying, published = results_of(watch, 2)
    assert (retrying["status"], published["status"]) == ("retrying", "published")
    assert len(quick.registry.releases("community", "otter-cache")) == 1
