# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/messages.md names every topic, every field, every header and every queue."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from omps_worker import results
from omps_worker.broker import headers
from omps_worker.broker.locks import lock_queues as lock_queues
from omps_worker.common.model import Status
from omps_worker.messages import events
from omps_worker.messages.result_schema import body_schema
from omps_worker.publishing import claims, processor, targets
from tests.support.sources import ROOT, modules

TEXT = (ROOT / "docs/messages.md").read_text(encoding="utf-8")
BODY = TEXT[TEXT.index("### The body") : TEXT.index("### Results about catalogs")]
OF_CATALOGS = TEXT[TEXT.index("### Results about catalogs") : TEXT.index("### The id")]
CONSTANTS = {name: value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}


def classes():
    return {status: getattr(results, f"Release{status.value.capitalize()}V1") for status in Status}


@pytest.mark.parametrize("status", Status)
def test_every_topic_is_there_with_its_schema_and_its_severity(status):
    (row,) = re.findall(rf"^\| `<topic_prefix>\.omps\.release\.{status}` \| `(.+?)` \| (\w+) \| .+ \|$", TEXT, re.M)
    kind = classes()[status]
    severity = {10: "debug", 20: "info", 30: "warning", 40: "error"}[kind.severity]
    assert row == (f"omps.{kind.__name__}", severity)


def test_the_table_of_the_body_has_every_field_and_no_other():
    rows = re.findall(r"^\| (`.+?`) \| .+ \| .+ \|$", BODY, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == set(body_schema(Status.PUBLISHED)["properties"])


@pytest.mark.parametrize("field", ["build", "source", "error"])
def test_what_is_inside_a_field_is_told_with_it(field):
    (row,) = re.findall(rf"^\| `{field}` \| .+ \| (.+) \|$", BODY, re.MULTILINE)
    inside = body_schema(Status.FAILED)["properties"][field]["properties"]
    assert set(re.findall(r"`(\w+)`", row)) == set(inside)


def test_the_table_about_catalogs_has_every_field_and_no_other():
    told = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", OF_CATALOGS, re.MULTILINE)
    assert set(told) == set(body_schema(Status.PUBLISHED)["properties"]["catalog"]["properties"])


@pytest.mark.parametrize("section", [BODY, OF_CATALOGS])
def test_the_example_of_a_body_is_one(section):
    (block,) = re.findall(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    jsonschema.validate(json.loads(block), body_schema(Status.PUBLISHED))


@pytest.mark.parametrize("header", sorted({value for value in CONSTANTS.values() if value.startswith("omps-")}))
def test_every_header_of_ours_is_explained(header):
    assert f"`{header}`" in TEXT


@pytest.mark.parametrize(
    "header", [results.REGISTRY_HEADER, *headers.SENDER_SELECTED, *headers.SENDER_SELECTED.values()]
)
def test_headers_with_an_effect_are_explained(header):
    assert f"`{header}`" in TEXT


def test_no_header_is_written_under_a_name_that_is_not_listed():
    listed = {*CONSTANTS.values(), *headers.SENDER_SELECTED.values(), results.REGISTRY_HEADER}
    for name in [name for name in modules() if name.split(".")[0] in ("broker", "reporting", "results", "parked")]:
        written = set(re.findall(r'"(omps-[a-z-]+)"', modules()[name].read_text(encoding="utf-8")))
        assert written - listed - {"omps-worker", "omps-worker-"} == set(), name


@pytest.mark.parametrize(
    "queue",
    ["<queue>", "<queue>.retry.<delay>", "<queue>.failed", f"{lock_queues.LOCK}<hash>", f"{lock_queues.MARK}<hash>"],
)
def test_every_queue_is_in_the_table_of_names(queue):
    assert re.search(rf"^\| `{re.escape(queue)}` \| .+ \|$", TEXT, re.MULTILINE)


def test_every_reason_to_ignore_a_message_is_told():
    told = set(re.findall(r"^\| `(\w+)` \| .+ \|$", TEXT[: TEXT.index("## What it tells")], re.MULTILINE))
    assert told == {
        *events.REASONS,
        processor.NOT_COMPLETE,
        processor.DRAFT_BUILD,
        claims.NO_LONGER_COMPLETE,
        targets.NO_RULE,
        targets.IGNORED_BY_RULE,
    }
