# SPDX-License-Identifier: GPL-3.0-or-later
"""Result messages: what monitors and programs read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import jsonschema
import pytest
from fedora_messaging import message

from omps_worker import results
from omps_worker.common.errors import OMPSUploadedFileError, PackageValidationError
from omps_worker.common.model import Attempt, Build, ManualRequest, Outcome, Source, Status, Target, UploadedArchive
from omps_worker.messages.reporting import Reporter, log_outcome, outcome_line, outcomes_table
from omps_worker.messages.result_schema import all_schemas

BUILD = Build(
    id=1, nvr="etcd-operator-container-0.9.2-1", name="etcd-operator-container", version="0.9.2", release="1", state=1,
    owner="jdoe",
)  # fmt: skip
SOURCE = Source("0fad8d25", "org.example.buildsys.build.state.change")
PUBLISHED = Outcome(
    status=Status.PUBLISHED, organization="community", repo="etcd", version="3.0.0", nvr=BUILD.nvr, build=BUILD,
    extracted_files=("etcd.package.yaml",), digest="ab" * 32, public=False, target=Target("community"),
)  # fmt: skip
FAILED = replace(
    PUBLISHED, status=Status.FAILED, version=None, digest=None,
    error=PackageValidationError("Failed to push manifest: bad", details={"validation_info": {"errors": ["no icon"]}}),
)  # fmt: skip
SKIPPED = replace(PUBLISHED, status=Status.SKIPPED, version=None, digest=None, reason="bundle build")
RETRYING = replace(FAILED, status=Status.RETRYING, next_attempt_at=datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc))
ODD = replace(PUBLISHED, warnings=("1/a.yaml: csv spec.icon not defined", "forged\nline"))
SUPERSEDED = replace(SKIPPED, reason="superseded", superseded_by="etcd-operator-container-0.9.3-1")
EVERY = [
    ODD,
    SUPERSEDED,
    PUBLISHED,
    replace(PUBLISHED, status=Status.UNCHANGED),
    SKIPPED,
    FAILED,
    RETRYING,
    replace(PUBLISHED, status=Status.DELETED, nvr=None, build=None, extracted_files=None),
    Outcome(Status.FAILED, error=PackageValidationError("nothing known")),
]

reporter = Reporter("org.example.prod", "https://quay.example.com")


def told(outcome, source=SOURCE, attempt=Attempt()):  # noqa: B008
    return reporter.message(outcome, source, attempt)


@pytest.mark.parametrize("outcome", EVERY, ids=lambda outcome: outcome.status)
def test_every_outcome_becomes_what_the_registered_schema_says(outcome):
    told_message = told(outcome)
    schema = message.get_class(told_message.headers["fedora_messaging_schema"])
    assert schema.__module__ == results.__name__
    received = schema(body=json.loads(told_message.payload), topic=told_message.topic)
    received.validate()
    jsonschema.validate(told_message.body, all_schemas())


@pytest.mark.parametrize("outcome", EVERY, ids=lambda outcome: outcome.status)
def test_the_headers_are_those_that_fedora_messaging_itself_would_write(outcome):
    told_message = told(outcome)
    schema = message.get_class(told_message.headers["fedora_messaging_schema"])
    theirs = dict(schema(body=told_message.body)._headers)
    ours = dict(told_message.headers)
    assert ours.pop(results.REGISTRY_HEADER) == "https://quay.example.com"
    assert theirs.pop("sent-at")[:4] == ours.pop("sent-at")[:4]
    assert ours == theirs


def test_topics_follow_the_status():
    assert told(PUBLISHED).topic == "org.example.prod.omps.release.published"
    assert (
        Reporter("org.example.prod.", "x")
        .message(SKIPPED, SOURCE, Attempt())
        .topic.endswith("prod.omps.release.skipped")
    )


def test_a_result_names_the_message_that_it_came_of_and_how_often_somebody_sent_it_again():
    assert told(PUBLISHED).body["source"] == {"message_id": "0fad8d25", "topic": SOURCE.topic, "replayed": 0}
    assert told(PUBLISHED, replace(SOURCE, replayed=2)).body["source"]["replayed"] == 2


def test_a_result_names_the_archive_that_somebody_brought_or_nothing():
    brought = ManualRequest(UploadedArchive("lantern.zip", "cd" * 32))
    assert told(PUBLISHED, brought).body["source"] == {"file": "lantern.zip", "sha256": "cd" * 32}
    assert told(PUBLISHED, ManualRequest()).body["source"] is None


def test_a_broken_archive_is_called_by_its_name_where_nothing_else_is_known():
    outcome = Outcome(Status.FAILED, error=OMPSUploadedFileError("File is not a zip file"))
    brought = ManualRequest(UploadedArchive("lantern.zip", "cd" * 32))
    received = results.ReleaseFailedV1(body=told(outcome, brought).body)
    received.validate()
    assert received.summary == "lantern.zip could not be published: OMPSUploadedFileError"
    assert "cd" * 32 in str(received)
    assert outcome_line(outcome, brought, Attempt()).startswith("failed lantern.zip OMPSUploadedFileError")


def test_times_are_in_utc():
    berlin = timezone(timedelta(hours=2))
    outcome = replace(RETRYING, next_attempt_at=datetime(2026, 1, 2, 5, 4, tzinfo=berlin))
    assert told(outcome).body["next_attempt_at"] == "2026-01-02T03:04:00+00:00"


def test_people_read_a_summary_a_link_and_whom_it_concerns():
    told_message = told(PUBLISHED)
    received = results.ReleasePublishedV1(body=told_message.body, headers=told_message.headers)
    assert received.summary == "etcd-operator-container-0.9.2-1 was published as community/etcd 3.0.0"
    assert received.url == "https://quay.example.com/application/community/etcd"
    assert received.packages == ["etcd-operator-container"]
    assert received.usernames == ["jdoe"]
    assert received.app_name == "omps-worker"


def test_a_failure_is_an_error_and_tells_its_cause_in_full():
    told_message = told(FAILED)
    received = results.ReleaseFailedV1(body=told_message.body, headers=told_message.headers)
    assert received.severity == message.ERROR
    assert "PackageValidationError" in received.summary
    assert "no icon" in str(received)
    assert "trying again cannot help" in str(received)


def test_the_log_has_one_line_for_one_outcome_whatever_is_in_it():
    error = PackageValidationError("first line\nsecond line\x1b[31m")
    line = outcome_line(replace(FAILED, error=error), SOURCE, Attempt(3))
    assert line.isprintable()
    assert line.startswith("failed etcd-operator-container-0.9.2-1 community/etcd PackageValidationError, permanent:")
    assert "attempt=3" in line
    assert "message=0fad8d25" in line


def test_what_is_odd_about_accepted_manifests_has_lines_of_its_own(caplog):
    log_outcome(ODD, SOURCE, Attempt())
    log_outcome(replace(ODD, status=Status.UNCHANGED), SOURCE, Attempt())
    warnings = [record for record in caplog.records if record.name == "omps_worker.warnings"]
    assert [(record.levelname, record.getMessage()) for record in warnings] == [
        ("WARNING", "etcd-operator-container-0.9.2-1: 1/a.yaml: csv spec.icon not defined"),
        ("WARNING", "etcd-operator-container-0.9.2-1: forged line"),
    ]
    body = told(ODD).body
    assert body["warnings"] == list(ODD.warnings)
    assert "warning: 1/a.yaml: csv spec.icon not defined" in str(results.ReleasePublishedV1(body=body))


def test_what_is_tried_again_has_its_cause_and_its_time():
    line = outcome_line(RETRYING, SOURCE, Attempt())
    assert "PackageValidationError, permanent: Failed to push manifest: bad" in line
    assert "Next attempt at 2026-01-02 03:04:00Z." in line
    received = results.ReleaseRetryingV1(body=told(RETRYING).body)
    assert received.summary.endswith(" will be retried at 2026-01-02T03:04:00+00:00: PackageValidationError")


def test_who_is_superseded_is_told_by_whom():
    assert "(superseded by etcd-operator-container-0.9.3-1)" in outcome_line(SUPERSEDED, SOURCE, Attempt())
    body = told(SUPERSEDED).body
    assert (body["reason"], body["superseded_by"]) == ("superseded", "etcd-operator-container-0.9.3-1")
    assert "superseded by: etcd-operator-container-0.9.3-1" in str(results.ReleaseSkippedV1(body=body))
    assert "superseded by etcd-operator-container-0.9.3-1" in outcomes_table([SUPERSEDED])


def test_a_bundle_that_no_channel_would_reach_is_told_what_helps():
    target = Target(None, catalog="community")
    unreached = replace(SUPERSEDED, superseded_by=None, organization=None, target=target)
    assert told(unreached).body["reason"] == "superseded"
    for text in (outcome_line(unreached, SOURCE, Attempt()), outcomes_table([unreached])):
        assert "no channel of the package would reach it; `graph: semver`" in text


def test_results_of_workers_that_knew_no_warnings_are_valid():
    body = {key: value for key, value in told(PUBLISHED).body.items() if key not in ("warnings", "superseded_by")}
    results.ReleasePublishedV1(body=body, topic=told(PUBLISHED).topic).validate()


def test_the_table_of_a_dry_run_says_what_would_be():
    rows = outcomes_table([PUBLISHED, replace(PUBLISHED, status=Status.UNCHANGED), FAILED], dry_run=True).splitlines()
    assert [row.split("  ")[0] for row in rows[2:]] == ["would be published", "would be unchanged", "failed"]


def test_a_table_stays_a_table_whatever_is_in_it():
    text = outcomes_table([PUBLISHED, replace(FAILED, error=PackageValidationError("a\nb"))])
    assert len(text.splitlines()) == 4
