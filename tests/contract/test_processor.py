# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of a build, from Koji to the registry, with nothing between that is not real."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.model import Attempt, BuildEvent, BuildState, Ignored, OperatorKind, Status
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import tar_gz
from tests.support.parts import files_below, parts

NESTED = operators.zip_of(operators.nested_operator("otter-cache"))
FLAT = operators.zip_of(operators.flat_operator("lantern"))

PUSH = "POST /cnr/api/v1/packages/.*"
LOOK = "GET /cnr/api/v1/packages/.*"


@pytest.fixture
def site():
    with parts() as made:
        yield made


def only(outcomes):
    assert isinstance(outcomes, list)
    assert len(outcomes) == 1
    return outcomes[0]


@pytest.mark.parametrize(("archive", "package"), [(NESTED, "otter-cache"), (FLAT, "lantern")])
def test_an_operator_becomes_a_release(site, archive, package):
    build = site.koji.add_build(f"{package}-container", "1.0", "1", manifests=archive)
    outcome = only(site.process(build))
    assert (outcome.status, outcome.organization, outcome.repo) == (Status.PUBLISHED, "community", package)
    (release,) = site.registry.releases("community", package)
    assert (outcome.version, outcome.digest) == (release.version, release.digest) == ("1.0.0", release.digest)
    assert outcome.nvr == build["nvr"]
    assert outcome.extracted_files
    assert outcome.error is None
    assert outcome.public is False


def test_the_next_build_becomes_the_next_release(site):
    newer = operators.zip_of(operators.nested_operator("otter-cache", versions=("2.0.0",)))
    for release, archive in enumerate([NESTED, newer]):
        build = site.koji.add_build("otter-container", "1.0", str(release), manifests=archive)
        only(site.process(build))
    assert site.versions("community", "otter-cache") == ["1.0.0", "2.0.0"]


def test_the_same_content_is_released_once(site):
    first = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    rebuilt = site.koji.add_build("otter-container", "1.0", "2", manifests=NESTED)
    only(site.process(first))
    outcome = only(site.process(rebuilt))
    assert (outcome.status, outcome.version) == (Status.UNCHANGED, "1.0.0")
    assert site.versions("community", "otter-cache") == ["1.0.0"]


def test_interrupted_work_that_turns_out_to_be_done_is_published(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    first = only(site.process(build))
    again = only(site.process(build, Attempt(2, interrupted=True)))
    assert (again.status, again.version, again.digest) == (Status.PUBLISHED, first.version, first.digest)
    assert site.versions("community", "otter-cache") == ["1.0.0"]


@pytest.mark.parametrize("by_message", [False, True])
def test_a_push_that_could_not_be_checked_counts_for_people_and_is_checked_again_for_messages(site, by_message):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    attempt = Attempt(first_seen=datetime.now(timezone.utc)) if by_message else Attempt()
    site.registry.faults.add(Fault(LOOK, status=503, after=1, times=None))
    outcome = only(site.process(build, attempt))
    if by_message:
        assert outcome.status is Status.FAILED
        assert outcome.error.transient
        assert "was accepted, but the package could not be checked afterwards" in outcome.error.message
    else:
        assert (outcome.status, outcome.version, outcome.error) == (Status.PUBLISHED, "1.0.0", None)
    assert site.versions("community", "otter-cache") == ["1.0.0"]


def test_a_bundle_build_is_skipped(site):
    build = site.koji.add_build(
        "heron-container", "1", "1", manifests=operators.zip_of(operators.bundle_tree()), kind=OperatorKind.BUNDLE
    )
    outcome = only(site.process(build))
    assert (outcome.status, outcome.reason, outcome.organization) == (Status.SKIPPED, "bundle build", "community")


def test_an_old_bundle_build_that_does_not_say_what_it_is_is_known_by_its_content(site):
    build = site.koji.add_build(
        "heron-container", "1", "1", manifests=operators.zip_of(operators.bundle_tree()), subtypes=False
    )
    outcome = only(site.process(build))
    assert (outcome.status, outcome.reason) == (Status.SKIPPED, "bundle build")


def test_an_old_operator_is_published_from_the_logs_of_its_build(site):
    build = site.koji.add_build("lantern-container", "1", "1", manifests=FLAT, legacy=True)
    assert only(site.process(build)).status is Status.PUBLISHED


def test_a_plain_image_is_skipped(site):
    outcome = only(site.process(site.koji.add_build("nginx-container", "1", "1")))
    assert (outcome.status, outcome.reason) == (Status.SKIPPED, "not an operator image")


@pytest.mark.parametrize("state", [BuildState.BUILDING, BuildState.DELETED, BuildState.FAILED, BuildState.CANCELED])
def test_what_koji_no_longer_calls_complete_is_ignored(site, state):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.koji.set_state(build["id"], state)
    ignored = site.process(build)
    assert isinstance(ignored, Ignored)
    assert ignored.reason == "not_complete"


@pytest.mark.parametrize(("component", "reason"), [("finch", "no_rule"), ("ignored-container", "ignored_by_rule")])
def test_what_the_mapping_does_not_want_is_ignored(site, component, reason):
    ignored = site.process(site.koji.add_build(component, "1", "1", manifests=NESTED))
    assert isinstance(ignored, Ignored)
    assert ignored.reason == reason


def test_an_unknown_build_fails_before_any_target_is_known(site):
    outcome = only(site.processor.process(BuildEvent(nvr="no-such-build-1-1")))
    assert (outcome.status, outcome.organization, outcome.repo) == (Status.FAILED, None, None)
    assert outcome.error.name == "KojiNVRBuildNotFound"
    assert not outcome.error.transient


def test_a_koji_that_is_away_is_a_transient_failure(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.koji.fail_calls("offline")
    outcome = only(site.process(build))
    assert (outcome.status, outcome.error.name, outcome.error.transient) == (Status.FAILED, "KojiError", True)
    site.koji.recover()
    assert only(site.process(build)).status is Status.PUBLISHED


def test_a_broken_archive_fails_for_every_target_and_names_them(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED[:100])
    outcome = only(site.process(build))
    assert (outcome.status, outcome.organization) == (Status.FAILED, "community")
    assert outcome.error.name == "OMPSUploadedFileError"


def test_couriers_verdict_travels_in_full(site):
    files = operators.flat_operator("lantern")
    csv = next(name for name in files if "clusterserviceversion" in name)
    files[csv] = "\n".join(line for line in files[csv].splitlines() if "installModes" not in line)
    build = site.koji.add_build("lantern-container", "1", "1", manifests=operators.zip_of(files))
    outcome = only(site.process(build))
    assert outcome.error.name == "PackageValidationError"
    assert outcome.error.details["validation_info"]["errors"] == ["csv spec.installModes not defined"]
    assert outcome.extracted_files == tuple(sorted(files))


TWO_TARGETS = """
version: 1
rules:
  - match: {component: "*-container"}
    publish:
      - {organization: community, repository: something-else}
      - {organization: partners, version: csv}
"""


def test_targets_do_not_depend_on_each_other():
    with parts(TWO_TARGETS) as site:
        build = site.koji.add_build("lantern-container", "1", "1", manifests=FLAT)
        refused, published = site.process(build)
        assert (refused.status, refused.repo) == (Status.FAILED, "something-else")
        assert refused.error.name == "PackageValidationError"
        assert "something-else" in refused.error.message
        assert (published.status, published.organization, published.version) == (Status.PUBLISHED, "partners", "1.4.2")
        assert site.registry.packages() == (("partners", "lantern"),)


def test_a_version_that_exists_with_other_content_is_never_overwritten():
    with parts(TWO_TARGETS) as site:
        site.registry.add_release("partners", "lantern", "1.4.2", tar_gz("other"))
        build = site.koji.add_build("lantern-container", "1", "1", manifests=FLAT)
        outcome = site.process(build)[1]
        assert (outcome.status, outcome.error.name) == (Status.FAILED, "QuayCourierError")
        assert not outcome.error.transient
        assert len(site.registry.releases("partners", "lantern")) == 1


def test_an_answer_lost_after_the_push_does_not_lead_to_a_second_release(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.registry.faults.add(Fault(PUSH, drop_answer=True))
    outcome = only(site.process(build))
    assert (outcome.status, outcome.version) == (Status.PUBLISHED, "1.0.0")
    assert site.versions("community", "otter-cache") == ["1.0.0"]


def test_a_push_that_never_arrived_is_a_transient_failure(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.registry.faults.add(Fault(PUSH, drop=True))
    outcome = only(site.process(build))
    assert (outcome.status, outcome.error.name, outcome.error.transient) == (Status.FAILED, "QuayCourierError", True)
    assert site.versions("community", "otter-cache") == []


def test_a_version_that_somebody_else_took_meanwhile_leads_to_the_next(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.registry.faults.add(Fault(LOOK, status=404, body={"error": {"code": "package-not-found"}}))
    site.registry.add_release("community", "otter-cache", "1.0.0", tar_gz("other"))
    outcome = only(site.process(build))
    assert (outcome.status, outcome.version) == (Status.PUBLISHED, "2.0.0")


def test_wrong_credentials_may_be_right_ones_later_and_the_organization_is_named(site):
    site.organizations["community"].token = "basic d3Jvbmc6d3Jvbmc="
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    outcome = only(site.process(build))
    assert (outcome.error.name, outcome.error.transient) == ("QuayAuthorizationError", True)
    assert "community/otter-cache" in outcome.error.message


def test_packages_of_a_public_organization_are_made_public(site):
    site.organizations["community"].oauth_token = site.registry.add_oauth_token("community")
    site.organizations["community"].public = True
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    assert only(site.process(build)).public is True
    assert site.registry.is_public("community", "otter-cache")


def test_when_only_publishing_failed_the_release_is_named_and_the_next_try_only_publishes(site):
    organization = site.organizations["community"]
    organization.oauth_token, organization.public = site.registry.add_oauth_token("community"), True
    site.registry.faults.add(Fault("POST .*/changevisibility", status=503))
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    failed = only(site.process(build))
    assert (failed.status, failed.version, failed.error.name) == (Status.FAILED, "1.0.0", "QuayPackageError")
    assert failed.error.transient
    assert "exists" in failed.error.message
    finished = only(site.process(build, Attempt(2, interrupted=True)))
    assert (finished.status, finished.version, finished.public) == (Status.PUBLISHED, "1.0.0", True)
    assert site.versions("community", "otter-cache") == ["1.0.0"]


IN_ANY_ORDER = """
version: 1
rules:
  - match: {component: "*-container"}
    superseded: publish
    publish: [{organization: community}]
"""


def test_eight_builds_at_once_become_eight_consecutive_releases():
    with parts(IN_ANY_ORDER) as site:
        publish_eight_at_once(site)


def publish_eight_at_once(site):
    builds = [
        site.koji.add_build(
            "otter-container", "1.0", str(number),
            manifests=operators.zip_of(operators.nested_operator("otter-cache", versions=(f"1.0.{number}",))),
        )
        for number in range(8)
    ]  # fmt: skip
    with ThreadPoolExecutor(8) as threads:
        outcomes = [only(outcomes) for outcomes in threads.map(site.process, builds)]
    assert {outcome.status for outcome in outcomes} == {Status.PUBLISHED}
    assert sorted(outcome.version for outcome in outcomes) == [f"{number}.0.0" for number in range(1, 9)]
    assert site.versions("community", "otter-cache") == [f"{number}.0.0" for number in range(1, 9)]


def test_a_dry_run_says_what_would_happen_and_changes_nothing(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    outcome = only(site.process(build, dry_run=True))
    assert (outcome.status, outcome.version) == (Status.PUBLISHED, "1.0.0")
    assert site.registry.packages() == ()
    assert all(entry.method == "GET" for entry in site.registry.log)


def test_a_request_beats_the_mapping(site):
    build = site.koji.add_build("finch", "1", "1", manifests=NESTED)
    outcome = only(site.process(build, organization="partners", version="7.0.0"))
    assert (outcome.status, outcome.organization, outcome.version) == (Status.PUBLISHED, "partners", "7.0.0")


def test_a_new_release_of_the_same_content_is_made_only_when_asked_for(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    only(site.process(build))
    assert only(site.process(build, new_release=True)).version == "2.0.0"
    assert site.versions("community", "otter-cache") == ["1.0.0", "2.0.0"]


def test_nothing_stays_on_the_disk(site, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    only(site.process(site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)))
    only(site.process(site.koji.add_build("otter-container", "1.0", "2", manifests=NESTED[:200])))
    assert files_below(tmp_path) == []


def test_a_disk_that_cannot_be_written_is_a_transient_failure_without_a_path(site, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    outcome = only(site.process(site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)))
    assert (outcome.error.name, outcome.error.transient) == ("StorageError", True)
    assert "where TMPDIR points" in outcome.error.message
    assert str(tmp_path) not in outcome.error.message
    (line,) = [record for record in caplog.records if "local storage" in record.message]
    assert str(tmp_path) in line.message
    assert line.exc_info is None


def from_the_bus():
    return Attempt(first_seen=datetime.now(timezone.utc))


def test_a_message_that_calls_its_build_by_another_name_is_refused_for_good_and_publishes_nothing(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    for event in (
        BuildEvent(build_id=build["id"], nvr="magpie-container-1-1"),
        BuildEvent(build_id=build["id"] + 1000, nvr=build["nvr"]),
    ):
        outcome = only(site.processor.process(event, from_the_bus()))
        assert (outcome.status, outcome.error_name) == (Status.FAILED, "KojiBuildMismatch")
        assert not outcome.error.transient
    assert site.versions("community", "otter-cache") == []


@pytest.mark.parametrize("state", [BuildState.BUILDING, BuildState.FAILED, BuildState.CANCELED])
def test_a_hub_that_lags_behind_the_message_is_asked_again_later(site, state):
    # A build that failed is built again under its old id: whatever the hub says, the message is newer.
    earlier = datetime.now(timezone.utc) - timedelta(hours=1)
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED, state=state, completed_at=earlier)
    event = BuildEvent(build_id=build["id"], nvr=build["nvr"], completed_at=datetime.now(timezone.utc))
    outcome = only(site.processor.process(event, from_the_bus()))
    assert (outcome.status, outcome.error_name, outcome.error.transient) == (Status.FAILED, "KojiError", True)
    by_hand = site.processor.process(BuildEvent(nvr=build["nvr"]))
    assert (by_hand.reason, by_hand.detail) == ("not_complete", f"{build['nvr']} is in state {state.name}")
    site.koji.set_state(build["id"], BuildState.COMPLETE)
    assert only(site.processor.process(event, from_the_bus())).status is Status.PUBLISHED


def test_a_build_that_the_hub_does_not_know_yet_is_asked_for_again_later(site):
    event = BuildEvent(build_id=1, nvr="otter-container-1.0-1", name="otter-container", version="1.0", release="1")
    outcome = only(site.processor.process(event, from_the_bus()))
    assert (outcome.error_name, outcome.error.transient) == ("KojiNVRBuildNotFound", True)
    by_hand = only(site.processor.process(BuildEvent(nvr="otter-container-1.0-1")))
    assert (by_hand.error_name, by_hand.error.transient) == ("KojiNVRBuildNotFound", False)
    site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    assert only(site.processor.process(event, from_the_bus())).status is Status.PUBLISHED


def test_a_build_that_was_deleted_since_its_message_is_ignored_with_a_reason_of_its_own(site):
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    site.koji.set_state(build["id"], BuildState.DELETED)
    ignored = site.processor.process(BuildEvent(build_id=build["id"]), from_the_bus())
    assert ignored == Ignored("no_longer_complete", f"{build['nvr']} was complete and is now in state DELETED")
    assert site.processor.process(BuildEvent(nvr=build["nvr"])).reason == "not_complete"


def test_a_draft_is_ignored_until_it_is_promoted(site):
    draft = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED, draft=True)
    for event, attempt in ((BuildEvent(build_id=draft["id"]), from_the_bus()), (BuildEvent(nvr=draft["nvr"]), None)):
        ignored = site.processor.process(event, attempt)
        assert (ignored.reason, draft["nvr"] in ignored.detail) == ("draft_build", True)
    promoted = site.koji.promote(draft)
    outcome = only(site.processor.process(BuildEvent(build_id=draft["id"], nvr=promoted["nvr"]), from_the_bus()))
    assert (outcome.status, outcome.nvr) == (Status.PUBLISHED, "otter-container-1.0-1")


def test_a_hub_that_does_not_know_of_a_promotion_yet_is_asked_again_later(site):
    draft = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED, draft=True)
    event = BuildEvent(build_id=draft["id"], nvr="otter-container-1.0-1")
    outcome = only(site.processor.process(event, from_the_bus()))
    assert (outcome.error_name, outcome.error.transient) == ("KojiError", True)
    site.koji.promote(draft)
    assert only(site.processor.process(event, from_the_bus())).status is Status.PUBLISHED


def test_a_draft_stands_in_nobodys_way(site):
    newer = operators.zip_of(operators.nested_operator("otter-cache", versions=("2.0.0",)))
    build = site.koji.add_build("otter-container", "1.0", "1", manifests=NESTED)
    draft = site.koji.add_build("otter-container", "1.0", "2", manifests=newer, draft=True)
    late = Attempt(2, late=True, first_seen=datetime.now(timezone.utc))
    assert only(site.process(build, late)).status is Status.PUBLISHED
    site.koji.promote(draft)
    assert only(site.process(build, late, new_release=False)).status is not Status.PUBLISHED
