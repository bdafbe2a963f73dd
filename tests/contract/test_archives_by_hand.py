# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that somebody brings, and what that person may ask for."""

from __future__ import annotations

import os

import pytest
from pydantic import SecretStr

from omps_worker.common.model import Ignored, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.parts import files_below, parts

FLAT = operators.zip_of(operators.flat_operator("lantern"))

EVERYTHING = "version: 1\nrules: [{match: {}, publish: [{organization: partners, version: csv}]}]\n"


@pytest.fixture
def site():
    with parts() as made:
        yield made


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "in" / "lantern.zip"
    path.parent.mkdir()
    path.write_bytes(FLAT)
    return path


def only(outcomes):
    (outcome,) = outcomes
    return outcome


def test_an_archive_becomes_a_release_and_stays_where_it_is(site, file):
    outcome = only(site.processor.process_archive(file, PushRequest("community")))
    assert (outcome.status, outcome.repo, outcome.version) == (Status.PUBLISHED, "lantern", "1.0.0")
    assert (outcome.nvr, outcome.build) == (None, None)
    assert outcome.extracted_files == tuple(sorted(operators.flat_operator("lantern")))
    assert files_below(file.parent) == ["lantern.zip"]


def test_without_an_organization_only_a_rule_that_matches_everything_can_decide(file):
    with parts() as site:
        assert isinstance(site.processor.process_archive(file, PushRequest()), Ignored)
    with parts(EVERYTHING) as site:
        outcome = only(site.processor.process_archive(file, PushRequest()))
        assert (outcome.organization, outcome.version) == ("partners", "1.4.2")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PushRequest("community", version="1.0"), "OMPSInvalidVersionFormat"),
        (PushRequest("community", version="1.0.0\n"), "OMPSInvalidVersionFormat"),
        (PushRequest("community", version="{name}.0.0"), "OMPSInvalidVersionFormat"),
        (PushRequest("community", "another"), "PackageValidationError"),
        (PushRequest("nobody"), "SettingsError"),
    ],
    ids=str,
)
def test_what_cannot_be_done_has_a_name(site, file, request_, error):
    outcome = only(site.processor.process_archive(file, request_))
    assert (outcome.status, outcome.error.name) == (Status.FAILED, error)
    assert site.registry.packages() == ()


def test_a_version_that_is_none_is_told_before_the_manifests_are_found_fault_with(site, file):
    file.write_bytes(operators.zip_of({"a.yaml": b"no: package\n"}))
    outcome = only(site.processor.process_archive(file, PushRequest("community", version="v1")))
    assert outcome.error.name == "OMPSInvalidVersionFormat"


@pytest.mark.parametrize("content", [b"", b"no zip", FLAT[:-30]])
def test_what_is_no_zip_is_refused(site, file, content):
    file.write_bytes(content)
    outcome = only(site.processor.process_archive(file, PushRequest("community")))
    assert outcome.error.name == "OMPSUploadedFileError"


def test_who_brings_a_token_may_push_where_the_configuration_knows_nobody(site, file):
    site.registry.add_organization("strangers")
    token = SecretStr(site.registry.add_robot("strangers"))
    outcome = only(site.processor.process_archive(file, PushRequest("strangers", authorization=token)))
    assert (outcome.status, outcome.public) == (Status.PUBLISHED, False)


def test_the_token_that_somebody_brings_is_used_instead_of_the_configured_one(site, file):
    wrong = SecretStr("basic d3Jvbmc6d3Jvbmc=")
    outcome = only(site.processor.process_archive(file, PushRequest("community", authorization=wrong)))
    assert outcome.error.name == "QuayAuthorizationError"
    assert "d3Jvbmc6d3Jvbmc" not in f"{outcome.error.message} {outcome.error.details}"


def test_a_new_release_whose_publishing_failed_is_only_published_by_the_next_try(site, file):
    organization = site.organizations["community"]
    organization.public, organization.oauth_token = True, site.registry.add_oauth_token("community")
    site.registry.faults.add(Fault("POST /api/v1/repository/.*", status=500))
    wish = PushRequest("community", new_release=True)
    failed = only(site.processor.process_archive(file, wish))
    assert (failed.status, failed.error.name, failed.version) == (Status.FAILED, "QuayPackageError", "1.0.0")
    assert "1.0.0 of community/lantern exists" in failed.error.message
    again = only(site.processor.process_archive(file, wish))
    assert (again.version, again.public) == ("1.0.0", True)
    assert only(site.processor.process_archive(file, wish)).version == "2.0.0", "it was finished: this is a new wish"
    assert site.versions("community", "lantern") == ["1.0.0", "2.0.0"]


def test_a_dry_run_changes_nothing(site, file):
    outcome = only(site.processor.process_archive(file, PushRequest("community", dry_run=True)))
    assert (outcome.status, outcome.version) == (Status.PUBLISHED, "1.0.0")
    assert site.registry.packages() == ()


def test_a_dry_run_foresees_that_the_registry_does_not_take_so_many_bytes(site, tmp_path):
    file = tmp_path / "large.zip"
    file.write_bytes(operators.zip_of({**operators.nested_operator("lantern"), "1.4.2/icon.png": os.urandom(900_000)}))

    foreseen = only(site.processor.process_archive(file, PushRequest("community", dry_run=True)))
    assert (foreseen.status, foreseen.error.name) == (Status.FAILED, "QuayCourierError")
    assert not foreseen.error.transient
    assert "are more than the registry, or a proxy, takes" in foreseen.error.message
    assert all(asked.method == "GET" for asked in site.registry.log)

    pushed = only(site.processor.process_archive(file, PushRequest("community")))
    assert (pushed.status, pushed.error.name) == (foreseen.status, foreseen.error.name)
