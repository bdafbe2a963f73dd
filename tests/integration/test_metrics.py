# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker counts and logs while it works, held against what it did."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from omps_worker.common.model import BuildState
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.monitoring import Seen, free_port
from tests.support.proxy import Proxy
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"
RETRY = '[consumer_config.retry]\ndelays = ["300ms"]\ngive_up_after = "1h"\n'


@pytest.fixture
def seen(site):
    port = free_port()
    edit(site.config, "[consumer_config]", f'[monitoring]\nport = {port}\n[consumer_config]\nlog_format = "json"')
    edit(site.config, "[consumer_config.koji]", RETRY + "[consumer_config.koji]")
    return Seen(port)


def outcomes_in(log):
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["logger"] == "omps_worker.outcomes"]


def test_a_release_a_retry_and_a_failure_are_counted_and_logged_as_they_were(site, seen):
    good = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    bad = site.koji.add_build("heron-operator-container", "1.0", "1", manifests=operators.zip_of({"x.yaml": "a: 1\n"}))
    unfinished = site.koji.add_build(COMPONENT, "1.0", "2", state=BuildState.FAILED)
    # Not that of a package that nobody has: such looks are those of /ready.
    site.registry.faults.add(Fault("GET /cnr/api/v1/packages/.*/otter-cache", status=503))
    with site.watching() as watch, site.running():
        wait_until(seen.ready, what="the worker to be ready")
        message = site.koji.message(good)
        site.publish(message)
        results_of(watch, 2)
        site.publish(site.koji.message(unfinished), site.koji.message(bad))
        retried, published, failed = results_of(watch, 3)
        wait_until(lambda: seen.metric(f'omps_worker_queue_messages{{kind="failed",queue="{QUEUE}.failed"}}') == 1)
        page = seen.page()

        def value(sample):
            return seen.metric(f"omps_worker_{sample}")

        assert value("messages_received_total") == 4
        assert value('messages_ignored_total{reason="not_complete"}') == 1
        assert value('outcomes_total{error="",status="published"}') == 1
        assert value('outcomes_total{error="QuayPackageError",status="retrying"}') == 1
        assert value('outcomes_total{error="PackageValidationError",status="failed"}') == 1
        assert value('retries_total{delay="300ms"}') == 1
        assert value('messages_parked_total{error="PackageValidationError"}') == 1
        assert value('messages_in_hand{state="working"}') == value("oldest_in_hand_seconds") == 0
        assert value("concurrency") == 4
        assert value('stage_seconds_count{stage="push"}') == 1
        assert value('stage_seconds_count{stage="publish"}') == 1
        assert value('stage_seconds_count{stage="result"}') == 3
        assert value('stage_seconds_count{stage="koji"}') == 3
        assert value('requests_total{result="503",service="registry"}') == 1
        assert value('requests_total{result="200",service="koji_files"}') == 3
        assert value('requests_total{result="200",service="koji"}') >= 6
        assert value(f'queue_messages{{kind="main",queue="{QUEUE}"}}') == 0
        assert value(f'queue_messages{{kind="retry",queue="{QUEUE}.retry.300ms"}}') == 0
        assert value('broker_reconnects_total{connection="consumer"}') == 0

    assert [result["status"] for result in (retried, published, failed)] == ["retrying", "published", "failed"]
    first, second, third = outcomes_in(site.log)
    assert (first["level"], first["status"], first["error"], first["attempt"]) == (
        "WARNING",
        "retrying",
        "QuayPackageError",
        1,
    )
    assert (second["level"], second["nvr"], second["target"]) == ("INFO", good["nvr"], "community")
    assert (second["version"], second["digest"], second["attempt"]) == ("1.0.0", published["digest"], 2)
    assert second["message_id"] == message.properties["message_id"]
    assert second["seconds"] > 0
    assert {"koji", "download", "extract", "validate", "release", "publish"} == set(second["stages"])
    assert (third["level"], third["nvr"], third["transient"]) == ("ERROR", bad["nvr"], False)
    for secret in (site.directory / "secrets").iterdir():
        token = secret.read_text().strip().split()[-1]
        assert token not in page
        assert token not in site.log


def test_without_a_port_nothing_is_counted_and_everything_works(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        assert results_of(watch, 1)[0]["status"] == "published"


def test_lost_connections_that_came_back_are_counted(site, seen):
    port = urlsplit(site.amqp_url).port
    with Proxy(port) as proxy:
        edit(site.config, site.amqp_url, site.amqp_url.replace(f":{port}", f":{proxy.port}"))
        with site.running():
            wait_until(seen.ready, what="the worker to be ready")
            proxy.cut()
            for connection in ("consumer", "publisher"):
                name = f'omps_worker_broker_reconnects_total{{connection="{connection}"}}'
                wait_until(lambda name=name: seen.metric(name) == 1, what=name)
            wait_until(seen.ready, what="the worker to be ready again")
