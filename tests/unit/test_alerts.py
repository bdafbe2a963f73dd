# SPDX-License-Identifier: GPL-3.0-or-later
"""Alert rules and the dashboard: about metrics that there are, with a test and a page for each alert.

What the rules mean is tried by promtool: ``make check-alerts``.
"""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest
import yaml

from tests.support.sources import ROOT

RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
TESTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts_test.yml").read_text())
DASHBOARD = json.loads((ROOT / "deploy/grafana/omps-worker.json").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
METRICS = (ROOT / "docs/metrics.md").read_text()
HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def metrics_in(expression: str) -> set[str]:
    return {HISTOGRAM.sub("", name) for name in re.findall(r"\bomps_worker_(\w+)", expression)}


def documented(name: str) -> bool:
    return f"`{name}`" in METRICS


def asked(alert: str) -> list[bool]:
    """Whether the tests expect it to fire, each time that they ask."""
    return [
        bool(each["exp_samples"])
        for test in TESTS["tests"]
        for each in test["promql_expr_test"]
        if f'alertname="{alert}"' in each["expr"]
    ]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_about_metrics_that_there_are(alert):
    expression = ALERTS[alert]["expr"]
    assert [name for name in metrics_in(expression) if not documented(name)] == []
    assert metrics_in(expression) or "job=~" in expression


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_when_it_should_fire_and_when_it_should_not(alert):
    assert asked(alert) == [False, True]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert alert in (ROOT / page).read_text(), "its runbook names it"


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_dashboard_shows_metrics_that_there_are():
    assert panels()
    for panel in panels():
        for target in panel["targets"]:
            used = metrics_in(target["expr"])
            assert used, panel["title"]
            assert [name for name in used if not documented(name)] == [], panel["title"]


def test_the_dashboard_shows_every_metric_but_those_of_no_interest_over_time():
    shown = {name for panel in panels() for target in panel["targets"] for name in metrics_in(target["expr"])}
    rows = re.findall(r"^\| `(\w+)` \|", METRICS.partition("### Counters")[2].partition("## Logs")[0], re.MULTILINE)
    assert set(rows) - shown <= {"stuck_after_seconds", "queues_seen_timestamp_seconds"}


def test_panels_have_ids_of_their_own_a_datasource_to_choose_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
        assert one["x"] + one["w"] <= 24
