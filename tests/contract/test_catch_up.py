# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding builds without a release, between our Koji and our registry."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from omps_worker.common.errors import KojiError
from omps_worker.common.http_client.client import HttpClient
from omps_worker.common.model import Attempt, OperatorKind
from omps_worker.messages.events import decode
from omps_worker.publishing.catch_up import CatchUp, CatchUpRound
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system import records
from omps_worker.sandbox.faults import Fault
from tests.support.parts import parts

MAPPING = """
version: 1
rules:
  - match: {component: "playground-*"}
    publish: []
  - match: {component: "archive-*"}
    superseded: publish
    publish: [{organization: community}]
  - match: {component: "*-container"}
    publish: [{organization: community}]
"""


class Place:
    """Parts, and what a catch-up makes of them. Builds are completed a minute after one another."""

    def __init__(self, site):
        self.site = site
        self.work = CatchUp(site.builds, site.mapping, site.processor)
        self.start = datetime.now(timezone.utc) - timedelta(hours=2)
        self.count = 0

    def build(self, package, *, component=None, version=None, **more):
        self.count += 1
        version = version or f"1.0.{self.count}"
        more = {"manifests": operators.zip_of(operators.flat_operator(package, version=version)), **more}
        return self.site.koji.add_build(
            component or f"{package}-container",
            "1.0",
            str(self.count),
            completed_at=self.start + timedelta(minutes=self.count),
            **more,
        )

    def look(self):
        return [
            (found.build.nvr, found.status, found.reason)
            for found in self.work.look_into(self.work.completed(self.start))
        ]

    def sent_by(self, send):
        """The NVRs of the messages that ``send``, given where to put them, sends."""
        messages = []
        send(messages.append)
        return [decode(message.body).nvr for message in messages]


@pytest.fixture
def place():
    with parts(MAPPING) as site:
        yield Place(site)


def test_builds_without_a_release_are_missing_and_the_others_are_not(place):
    otter, heron = place.build("otter"), place.build("heron", legacy=True)
    place.site.process(otter)
    assert place.look() == [(otter["nvr"], "released", None), (heron["nvr"], "missing", None)]


def test_builds_that_nobody_wants_are_ignored_and_others_are_not_even_listed(place):
    unwanted = place.build("fun", component="playground-container")
    unknown = place.build("fun", component="nothing")
    place.build("otter", kind=OperatorKind.BUNDLE)
    place.build("otter", manifests=None)
    assert place.look() == [(unwanted["nvr"], "ignored", "ignored_by_rule"), (unknown["nvr"], "ignored", "no_rule")]


def test_builds_that_a_newer_one_supersedes_are_skipped_without_a_look_at_them(place):
    older, newer = place.build("otter"), place.build("otter")
    assert place.look() == [(older["nvr"], "skipped", "superseded"), (newer["nvr"], "missing", None)]
    assert [entry.target for entry in place.site.koji.log if "/1/files/" in entry.target] == []


def test_builds_that_something_newer_than_the_period_supersedes_are_skipped(place):
    older, _ = place.build("otter"), place.build("otter")
    builds = place.work.completed(place.start, place.start + timedelta(minutes=2))
    (found,) = place.work.look_into(builds)
    assert (found.build.id, found.status, found.reason) == (older["id"], "skipped", "superseded")


def test_where_the_rule_wants_old_builds_too_all_are_missing(place):
    builds = [place.build("otter", component="archive-container") for _ in range(3)]
    assert place.look() == [(build["nvr"], "missing", None) for build in builds]


def test_a_bundle_that_only_its_content_gives_away_is_skipped(place):
    build = place.build("heron", manifests=operators.zip_of(operators.bundle_tree()), subtypes=False)
    assert place.look() == [(build["nvr"], "skipped", "bundle build")]


def test_a_build_that_can_never_be_released_is_missing_until_its_failure_is_recorded(place):
    build = place.build("otter", manifests=b"no zip")
    ((nvr, status, reason),) = place.look()
    assert (nvr, status) == (build["nvr"], "missing")
    assert reason.startswith("OMPSUploadedFileError: ")


def test_when_the_registry_does_not_answer_nothing_is_decided(place):
    build = place.build("otter")
    place.site.registry.faults.add(Fault("GET /cnr/.*", status=503))
    ((nvr, status, reason),) = place.look()
    assert (nvr, status) == (build["nvr"], "undecided")
    assert reason.startswith("QuayPackageError: ")
    assert place.look() == [(build["nvr"], "missing", None)]


def delete(site, organization, repository, version):
    url = f"{site.registry.url}/cnr/api/v1/packages/{organization}/{repository}/{version}/helm"
    token = site.organizations[organization].token
    assert HttpClient(timeout=10).request("DELETE", url, headers={"Authorization": token}).status == 200


def test_a_content_that_was_taken_out_of_the_registry_is_missing_again(place):
    build = place.build("otter")
    place.site.process(build)
    delete(place.site, "community", "otter", "1.0.0")
    assert place.look() == [(build["nvr"], "missing", None)]


def test_a_content_that_is_released_is_not_missing_wherever_it_lies(place):
    place.site.process(place.build("otter", version="1.0.0"))
    place.site.process(place.build("otter"))
    assert place.site.versions("community", "otter") == ["1.0.0", "2.0.0"]
    revert = place.build("otter", version="1.0.0")
    assert place.look()[-1] == (revert["nvr"], "released", None)


SOURCES: dict[str, list[dict[str, Any]]] = {
    "two targets of one component": [{"target": "otters-1"}, {"target": "otters-2"}],
    "two components with one packageName": [{"component": "otter-container"}, {"component": "sea-otter-container"}],
    "one with a task and one without": [{"target": "otters-1"}, {"task": False}],
}


@pytest.mark.parametrize("sources", SOURCES.values(), ids=SOURCES)
def test_twenty_catch_ups_over_several_sources_of_one_package_release_nothing(place, sources):
    builds = [place.build("otter", **source) for _ in range(2) for source in sources]
    for build in builds:
        place.site.process(build)
    before = place.site.versions("community", "otter")
    newest = [build["nvr"] for build in builds[-len(sources) :]]
    for _ in range(20):
        found = place.look()
        assert {status for nvr, status, _ in found if nvr in newest} == {"released"}
        assert not {status for _, status, _ in found} & {"missing", "undecided"}
        assert place.sent_by(lambda send: list(place.work.send(place.work.completed(place.start), send))) == []
        for build in builds:
            place.site.process(build, Attempt(late=True))
    assert place.site.versions("community", "otter") == before


def test_what_is_released_costs_a_catch_up_one_download_each(place):
    for source in SOURCES["two targets of one component"]:
        for _ in range(3):
            place.site.process(place.build("otter", **source))
    downloads = [entry.target for entry in place.site.koji.log if "/files/" in entry.target]
    place.look()
    more = [entry.target for entry in place.site.koji.log if "/files/" in entry.target][len(downloads) :]
    assert len(more) == len(set(more)) == 2


def test_what_is_missing_is_sent_in_the_order_of_completion(place):
    builds = [place.build(package) for package in ("otter", "heron", "lantern")]
    place.site.process(builds[1])
    completed = place.work.completed(place.start)
    found = []
    sent = place.sent_by(lambda send: found.extend(place.work.send(completed, send)))
    assert sent == [builds[0]["nvr"], builds[2]["nvr"]]
    assert [each.status for each in found] == ["sent", "released", "sent"]


def test_looking_changes_nothing(place):
    place.build("otter")
    place.look()
    assert place.site.registry.packages() == ()
    assert {entry.method for entry in place.site.registry.log} == {"GET"}


# Time after time


def looking_back(place, send, *, every=60, window=7 * 3600):
    return CatchUpRound(place.work, every, window, send)


def never():
    return False


def test_a_worker_sends_no_build_twice(place):
    build = place.build("otter", manifests=b"no zip")
    messages = []
    work = looking_back(place, messages.append)
    work.once(never)
    work.once(never)
    assert [decode(message.body).nvr for message in messages] == [build["nvr"]]


def test_a_worker_finds_what_was_completed_since(place):
    messages = []
    work = looking_back(place, messages.append)
    place.build("otter")
    work.once(never)
    place.build("heron")
    work.once(never)
    assert [decode(message.body).name for message in messages] == ["otter-container", "heron-container"]


def test_a_worker_looks_back_for_its_window_only_and_leaves_time_to_the_messages_of_new_builds(place):
    now = datetime.now(timezone.utc)
    for package, minutes in (("otter", 61), ("heron", 30), ("lantern", 1)):
        place.site.koji.add_build(
            f"{package}-container",
            "1",
            "1",
            manifests=operators.zip_of(operators.flat_operator(package)),
            completed_at=now - timedelta(minutes=minutes),
        )
    work = place.sent_by(lambda send: looking_back(place, send, every=600, window=3600).once(never))
    assert work == ["heron-container-1-1"]


def test_a_worker_stops_in_the_middle_when_it_is_told_to(place):
    place.build("otter")
    place.build("heron")
    assert len(place.sent_by(lambda send: looking_back(place, send).once(lambda: True))) == 1


def test_a_message_that_could_not_be_sent_is_sent_the_next_time(place):
    build = place.build("otter")
    messages = []

    def sometimes(message):
        if not messages:
            messages.append(None)
            raise KojiError("not now")
        messages.append(message)

    work = looking_back(place, sometimes)
    with pytest.raises(KojiError):
        work.once(never)
    work.once(never)
    assert decode(messages[1].body).nvr == build["nvr"]


def test_drafts_are_ignored_and_supersede_nothing(place):
    build, draft = place.build("otter"), place.build("otter", draft=True)
    assert place.look() == [(build["nvr"], "missing", None), (draft["nvr"], "ignored", "draft_build")]


def test_a_draft_that_was_completed_before_the_period_and_promoted_within_is_missing(place):
    draft = place.build("otter", draft=True)
    later = place.start + timedelta(minutes=30)
    assert place.work.completed(later) == []
    place.site.koji.promote(draft, promoted_at=later)
    (found,) = place.work.look_into(place.work.completed(later))
    assert (found.build.nvr, found.status) == ("otter-container-1.0-1", "missing")
    assert place.work.completed(later, later) == []
    # As of a build that is complete now: its message is still under way.
    assert place.work.completed(place.start, later) == []


def test_a_hub_that_cannot_list_by_promotion_lists_the_rest(place, monkeypatch):
    draft, build = place.build("otter", draft=True), place.build("heron")
    place.site.koji.promote(draft, promoted_at=place.start + timedelta(minutes=30))
    monkeypatch.delitem(records.FILTERS, "promotedAfter")
    assert [each.id for each in place.work.completed(place.start)] == [draft["id"], build["id"]]


def test_looking_back_sends_a_draft_once_it_is_promoted(place):
    draft = place.build("otter", draft=True)
    sent = []
    looking_back = CatchUpRound(place.work, 60.0, 3600.0 * 3, sent.append)
    assert looking_back.once(lambda: False) == 0
    place.site.koji.promote(draft, promoted_at=place.start + timedelta(minutes=30))
    assert looking_back.once(lambda: False) == 1
    assert decode(sent[0].body).nvr == "otter-container-1.0-1"
