# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong or odd in manifests reaches whoever reads: in the outcome, in the result, by hand and in the queue."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from omps_worker.common.model import Attempt, BuildEvent, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.publishing.explain import as_text, explain
from omps_worker.sandbox import operators
from tests.support.parts import parts

ARCHIVES = Path(__file__).parents[1] / "data" / "archives"


@pytest.fixture
def site():
    with parts() as made:
        yield made


def brought(site, name: str):
    (outcome,) = site.processor.process_archive(ARCHIVES / f"{name}.zip", PushRequest("community"))
    return outcome


def test_an_error_names_the_file_that_it_is_about(site):
    outcome = brought(site, "which")
    assert outcome.status is Status.FAILED
    assert outcome.error.message.startswith(
        "Failed to push manifest: Resulting bundle is invalid, input yaml is improperly defined. "
        "2/c.yaml: metadata.annotations.alm-examples contains "
    )
    (finding,) = outcome.error.details["findings"]
    assert finding.startswith("2/c.yaml: ")


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        (
            "ignored",
            [
                "Ignoring folder 2: it contains no ClusterServiceVersion",
                "p.yaml: channel s: its currentCSV a.v2 is in no manifest",
            ],
        ),
        ("gone", ["p.yaml: channel s: its currentCSV a.v9 is in no manifest"]),
        ("ok", []),
    ],
)
def test_what_is_accepted_and_odd_is_published_with_a_warning(site, name, warnings):
    outcome = brought(site, name)
    assert outcome.status is Status.PUBLISHED
    assert [one for one in outcome.warnings if " not defined" not in one] == warnings


def test_a_build_that_is_superseded_names_the_one_that_supersedes_it(site):
    now = datetime.now(timezone.utc)
    older, newer = (
        site.koji.add_build(
            "lantern-container",
            "1.0",
            str(number),
            completed_at=now - timedelta(minutes=3 - number),
            manifests=operators.zip_of(operators.flat_operator("lantern", version=f"1.0.{number}")),
        )
        for number in (1, 2)
    )
    (late,) = site.process(older, Attempt(late=True))
    assert (late.reason, late.superseded_by) == ("superseded", newer["nvr"])
    site.process(newer)
    (overtaken,) = site.process(older)
    assert (overtaken.reason, overtaken.superseded_by) == ("superseded", newer["nvr"])

    told = explain(BuildEvent(build_id=older["id"], nvr=None), site.mapping, site.builds, site.processor)
    assert (told.decision, told.reason) == ("skip", f"superseded by {newer['nvr']}")
    assert told.as_json()["targets"][0]["superseded_by"] == newer["nvr"]


def test_a_package_name_that_stands_twice_is_a_warning(site, tmp_path):
    files = dict(operators.flat_operator("lantern"))
    files["lantern.package.yaml"] = "packageName: otter\n" + files["lantern.package.yaml"]
    archive = tmp_path / "lantern.zip"
    archive.write_bytes(operators.zip_of(files))
    (outcome,) = site.processor.process_archive(archive, PushRequest("community"))
    assert (outcome.status, outcome.repo) == (Status.PUBLISHED, "lantern")
    assert any(one.startswith("lantern.package.yaml: packageName occurs more than once") for one in outcome.warnings)


def test_an_archive_of_koji_that_is_refused_is_named_with_its_url(site):
    build = site.koji.add_build("lantern-container", "1.0", "1", manifests=b"no zip")
    (outcome,) = site.process(build)
    words, _, where = outcome.error.message.partition(" (")
    assert (outcome.error.name, words) == ("OMPSUploadedFileError", "File is not a zip file")
    assert where.startswith(f"the archive of manifests of {build['nvr']}, {site.koji.root_url}")
    assert where.endswith("/operator_manifests.zip)")


def test_an_explanation_has_the_warnings(site):
    manifests = (ARCHIVES / "ignored.zip").read_bytes()
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=manifests)
    told = explain(BuildEvent(build_id=build["id"], nvr=None), site.mapping, site.builds, site.processor)
    assert "\nwarnings  Ignoring folder 2: it contains no ClusterServiceVersion\n" in as_text(told)
    assert told.as_json()["targets"][0]["warnings"]
