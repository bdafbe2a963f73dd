# SPDX-License-Identifier: GPL-3.0-or-later
"""Alert rules and the dashboard: about metrics that there are, with a test and a page for each alert.

What the rules mean is tried by promtool: ``make check-alerts``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
import yaml

from omps_worker.broker.queues import depths
from omps_worker.common.model import Status
from omps_worker.monitoring.metrics import error_names
from scripts.dashboard_rules import rules_of
from tests.support.sources import ROOT

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
TESTS = [yaml.safe_load(path.read_text()) for path in sorted(DEPLOY.glob("prometheus/*_test.yml"))]
DASHBOARD = json.loads((DEPLOY / "grafana/omps-worker.json").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
METRICS = (ROOT / "docs/metrics.md").read_text()
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()
HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
OF_EVERY_SERIES = {"job", "instance"}
OF_PROMETHEUS = {"up", "process_start_time_seconds"}


PLACE = "https://omps-worker.example.com"
"""Where runbooks are read; a site puts its own there."""
TAKES_LONGER = {
    "OmpsWorkerVersionsDiffer",
    "OmpsWorkerRetriesLast",
    "OmpsWorkerCatchUpFails",
    "OmpsWorkerNothingComes",
    "OmpsWorkerAllIgnored",
}
"""Alerts that something does not come to its end."""
ENDS_WITH_THE_NEXT_MESSAGE = {"OmpsWorkerNothingComes", "OmpsWorkerAllIgnored", "OmpsWorkerCatchUpFails"}
ASKS_WHAT_IS_NOW_TOO = {"OmpsWorkerRestarting", "OmpsWorkerBacklog"}


def seconds(duration: str) -> int:
    """What Prometheus means by it."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def metrics_in(expression: str) -> set[str]:
    return {HISTOGRAM.sub("", name) for name in re.findall(r"\bomps_worker_(\w+)", expression)}


def labels_of() -> dict[str, set[str]]:
    """The labels of each metric, as the page about them has it."""
    table = METRICS[METRICS.index("### Counters") : METRICS.index("## Logs")]
    rows = re.findall(r"^\| `(\w+)` \| (.*?)\|", table, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def documented(name: str) -> bool:
    return name in labels_of()


def selectors(expression: str) -> Iterator[tuple[str, str, str]]:
    """Metric, label and value of everything that the expression picks out."""
    for name, inside in re.findall(r"\bomps_worker_(\w+)\{(.*?)\}(?=[\[\s)]|$)", expression):
        for label, values in re.findall(r"(\w+)(?:=~|!~|!=|=)\"(.*?)\"", inside):
            yield from ((HISTOGRAM.sub("", name), label, value) for value in values.split("|"))


def known_values() -> dict[str, set[str]]:
    return {
        "part": set(
            re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \| (?:always|every)", METRICS, re.MULTILINE)))
        ),
        "kind": {depths.MAIN, depths.RETRY, depths.FAILED},
        "status": {status.value for status in Status} | {"5.."},
        "error": error_names() | {""},
        "route": {".*/health/ping"},
        "result": {"done", "failed", "5..", "429"} | set(re.findall(r"`(\w+)`", METRICS)),
    }


def expectations() -> list[list[set[str]]]:
    """For each test of the rules, in the order of time, the alerts that are to fire."""
    return [
        [
            {re.search(r'alertname="(\w+)"', sample["labels"])[1] for sample in point["exp_samples"]}
            for point in test["promql_expr_test"]
        ]
        for file in TESTS
        for test in file["tests"]
    ]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_about_metrics_that_there_are(alert):
    expression = ALERTS[alert]["expr"]
    assert [name for name in metrics_in(expression) if not documented(name)] == []
    assert metrics_in(expression) or any(name in expression for name in OF_PROMETHEUS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_picks_out_labels_and_values_that_there_are(alert):
    for name, label, value in selectors(ALERTS[alert]["expr"]):
        assert label in labels_of()[name], (name, label)
        assert value in known_values()[label], (name, label, value)


@pytest.mark.parametrize("alert", ALERTS)
def test_the_words_of_an_alert_use_labels_that_it_has(alert):
    rule = ALERTS[alert]
    grouped = re.search(r"\bby \(([\w, ]+)\)", rule["expr"])
    there = set(re.findall(r"\w+", grouped[1])) - {"le"} if grouped else OF_EVERY_SERIES
    words = rule["annotations"]["summary"] + rule["annotations"]["description"]
    used = set(re.findall(r"\$labels\.(\w+)", words))
    assert used <= there
    assert used or rule["expr"].startswith("absent("), "it says where"


@pytest.mark.parametrize("alert", ALERTS)
def test_no_alert_adds_up_or_compares_what_belongs_to_different_sites(alert):
    for labels in re.findall(r"\b(?:by|on) \(([\w, ]*)\)", ALERTS[alert]["expr"]):
        assert "job" in re.findall(r"\w+", labels)


@pytest.mark.parametrize("alert", ALERTS)
def test_the_depth_of_a_queue_is_never_added_up_over_replicas(alert):
    """Each of them tells the same."""
    expression = ALERTS[alert]["expr"]
    for found in re.finditer(r"omps_worker_queue_messages", expression):
        assert re.search(r"(max|min) by \([\w, ]+\) \(((min|max)_over_time\()?$", expression[: found.start()])


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_before_it_should_fire_and_when_it_should(alert):
    assert any(alert in now and alert not in before for test in expectations() for before, now in pairwise(test))


def test_a_site_in_order_is_tried_and_has_no_alerts():
    quiet = [test for test in expectations() if not any(test)]
    assert len(quiet) > 15, "situations that look like trouble, and are none"


def test_every_part_is_watched():
    watched = {value for rule in ALERTS.values() for _, label, value in selectors(rule["expr"]) if label == "part"}
    # That the broker is asked is what OmpsWorkerQueuesUnseen is about.
    assert watched | {"broker"} == known_values()["part"]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == f"{PLACE}/docs/runbooks.md"
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL))
    named = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-"): text for title, text in sections.items()}
    assert f"`{alert}`" in named[anchor], "its runbook names it"


def test_who_deploys_the_alerts_is_told_to_put_in_the_place_of_the_runbooks():
    assert PLACE in (DEPLOY / "prometheus/alerts.yml").read_text().partition("groups:")[0]
    assert PLACE in METRICS


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_fires_within_minutes(alert):
    assert seconds(ALERTS[alert].get("for", "0s")) <= 10 * 60 or alert in TAKES_LONGER


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_looks_at_what_is_now_or_was_a_quarter_of_an_hour_ago(alert):
    """What only happened an hour ago is no reason to wake somebody now."""
    windows = [seconds(window) for window in re.findall(r"\[(\w+)(?::\w+)?\]", ALERTS[alert]["expr"])]
    assert min(windows, default=0) <= 15 * 60 or alert in ENDS_WITH_THE_NEXT_MESSAGE | ASKS_WHAT_IS_NOW_TOO


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_after_it_should_end(alert):
    assert any(alert in before and alert not in now for test in expectations() for before, now in pairwise(test))


def test_runbooks_name_no_alert_that_there_is_not():
    assert set(re.findall(r"`(OmpsWorker\w+)`", RUNBOOKS)) == set(ALERTS)


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_dashboard_shows_metrics_that_there_are():
    assert panels()
    for panel in panels():
        for target in panel["targets"]:
            used = metrics_in(target["expr"])
            assert used, panel["title"]
            assert [name for name in used if not documented(name)] == [], panel["title"]


def test_every_query_of_the_dashboard_is_handed_to_promtool_without_variables():
    (group,) = rules_of(DASHBOARD)["groups"]
    assert len(group["rules"]) == sum(len(panel["targets"]) for panel in panels())
    assert [rule["expr"] for rule in group["rules"] if "$" in rule["expr"]] == []


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
