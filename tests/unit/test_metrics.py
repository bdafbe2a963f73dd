# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus reads: every number is documented, and nobody from outside makes new series."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from omps_worker.common import errors
from omps_worker.common.observer import STAGES, Observer, status_label
from omps_worker.messages import events
from omps_worker.monitoring.metrics import Gauge, Metrics, build_info, error_names, state_of_parts
from omps_worker.publishing import claims
from tests.support.sources import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text()


def families(metrics: Metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.page().decode())}


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in families(metrics).values():
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    return None


def documented(heading: str) -> dict[str, set[str]]:
    table = PAGE.partition(f"### {heading}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    rows = []
    for line in (line for line in table.splitlines() if line.startswith("| `")):
        names, _, rest = line.removeprefix("| ").partition(" |")
        rows += [(name, rest.partition("|")[0]) for name in re.findall(r"`(\w+)`", names)]
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def counts_of(metrics: Metrics) -> dict[str, set[str]]:
    counts = vars(metrics).values()
    return {
        each._name + ("_total" if each._type == "counter" else ""): set(each._labelnames)
        for each in counts
        if hasattr(each, "_labelnames")
    }


def test_every_count_is_documented_with_its_labels_and_no_other():
    assert documented("Counters and histograms") == {
        name.removeprefix("omps_worker_"): labels for name, labels in counts_of(Metrics()).items()
    }


def test_every_state_of_the_worker_is_documented_with_its_labels_and_no_other():
    source = "".join((ROOT / "omps_worker" / name).read_text() for name in ("running.py", "monitoring/metrics.py"))
    told = re.findall(r"Gauge\(\s*\"(\w+)\"", source)
    assert sorted(told) == sorted(documented("Gauges"))


def test_stages_and_reasons_are_documented():
    reasons = (*events.REASONS, claims.NO_LONGER_COMPLETE, "no_rule", "ignored_by_rule")
    for word in (*STAGES, *reasons):
        assert f"`{word}`" in PAGE, word


def test_what_the_parts_tell_is_counted():
    metrics = Metrics()
    metrics.received()
    metrics.ignored("no_rule")
    metrics.outcome("failed", "KojiError")
    metrics.retry("10s")
    metrics.parked("KojiError")
    metrics.request("koji", "503", 0.5)
    metrics.reconnected("consumer")
    metrics.mapping_read(good=False)
    metrics.round_ended(3)
    metrics.round_ended(None)
    metrics.catalog_updated("community", 0.25)
    metrics.catalog_conflict("community")
    metrics.bundle_image_pushed("community")
    metrics.http_request("GET", "/v2/about", 0, 0.1)
    with metrics.timing("push"):
        pass
    expected = (
        ("messages_received_total", {}, 1),
        ("messages_ignored_total", {"reason": "no_rule"}, 1),
        ("outcomes_total", {"status": "failed", "error": "KojiError"}, 1),
        ("retries_total", {"delay": "10s"}, 1),
        ("messages_parked_total", {"error": "KojiError"}, 1),
        ("requests_total", {"service": "koji", "result": "503"}, 1),
        ("request_seconds_sum", {"service": "koji"}, 0.5),
        ("broker_reconnects_total", {"connection": "consumer"}, 1),
        ("mapping_reloads_total", {"result": "broken"}, 1),
        ("catch_up_rounds_total", {"result": "done"}, 1),
        ("catch_up_rounds_total", {"result": "failed"}, 1),
        ("catch_up_sent_total", {}, 3),
        ("catalog_update_seconds_sum", {"catalog": "community"}, 0.25),
        ("catalog_conflicts_total", {"catalog": "community"}, 1),
        ("bundle_images_pushed_total", {"catalog": "community"}, 1),
        ("http_requests_total", {"method": "GET", "route": "/v2/about", "status": "none"}, 1),
        ("stage_seconds_count", {"stage": "push"}, 1),
    )
    for name, labels, value in expected:
        assert sample(metrics, f"omps_worker_{name}", **labels) == value, name


def test_what_can_go_wrong_is_there_before_it_does():
    """Prometheus sees no increase in a series that begins with 1."""
    metrics = Metrics(catalogs=("community", "partners"))
    there = [(each.name, each.labels) for family in families(metrics).values() for each in family.samples]
    for error in error_names():
        assert ("omps_worker_outcomes_total", {"status": "failed", "error": error}) in there
        assert ("omps_worker_messages_parked_total", {"error": error}) in there
    assert sample(metrics, "omps_worker_outcomes_total", status="published", error="") == 0
    for catalog in ("community", "partners"):
        for name in ("catalog_update_seconds_count", "catalog_conflicts_total", "bundle_images_pushed_total"):
            assert sample(metrics, f"omps_worker_{name}", catalog=catalog) == 0
    assert {"KojiError", "UnexpectedError", "QuayAuthorizationError", "SettingsError"} <= error_names()
    assert all(issubclass(getattr(errors, name), errors.WorkerError) for name in error_names())


def test_states_are_asked_for_when_the_page_is_read():
    depth = [7.0]
    metrics = Metrics(lambda: [Gauge("queue_messages", "Depth.", [(("q", "main"), depth[0])], ("queue", "kind"))])
    assert sample(metrics, "omps_worker_queue_messages", queue="q", kind="main") == 7
    depth[0] = 0
    assert sample(metrics, "omps_worker_queue_messages", queue="q", kind="main") == 0


def test_the_parts_and_the_build_are_told():
    states = [*state_of_parts({"koji": None, "registry": "is away"}, ready=False), build_info()]
    metrics = Metrics(lambda: states)
    assert sample(metrics, "omps_worker_part_up", part="koji") == 1
    assert sample(metrics, "omps_worker_part_up", part="registry") == 0
    assert sample(metrics, "omps_worker_ready") == 0
    assert families(metrics)["omps_worker_build_info"].samples[0].value == 1


@pytest.mark.parametrize(("status", "label"), [(200, "200"), (503, "503"), (777, "7xx"), (299, "2xx")])
def test_a_peer_cannot_make_series_with_odd_statuses(status, label):
    assert status_label(status) == label


def test_nobody_has_to_listen():
    silent = Observer()
    with silent.call("koji") as call, silent.timing("koji"):
        call.result = "200"
    silent.received()
    silent.round_ended(None)
