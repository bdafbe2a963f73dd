# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of builds: the other builds of a component, and what a period brought."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Build, BuildState, OperatorKind
from omps_worker.configuration.settings.models import KojiSettings, Limits
from omps_worker.koji_client import listing as koji_listing
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault

ZIP = b"PK\x03\x04 not looked into here"
START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DIGEST = "sha256:" + "5" * 64


class Hub:
    """A Koji with builds that are completed an hour after one another."""

    def __init__(self, koji: SandboxKoji) -> None:
        self.koji = koji
        settings = KojiSettings(hub_url=koji.hub_url, root_url=koji.root_url, timeout=10)
        self.builds = KojiBuilds(settings, Limits())
        self.count = 0

    def build(self, name: str = "otter-container", *, hours: float | None = None, **more: Any) -> Build:
        self.count += 1
        completed_at = START + (self.count if hours is None else hours) * HOUR
        made = self.koji.add_build(
            name, "1.0", str(self.count), completed_at=completed_at, **{"manifests": ZIP, **more}
        )
        return self.builds.find(build_id=made["id"])

    def newer(self, build: Build) -> list[Build]:
        return [other for other in self.siblings(build, build.completed_at) if other.order > build.order]

    def siblings(self, build: Build, since: datetime | None) -> list[Build]:
        assert since is not None
        return list(self.builds.siblings(build, since))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with SandboxKoji() as koji:
        yield Hub(koji)


# What is newer


def test_newer_builds_come_the_newest_first(hub: Hub) -> None:
    first, second, third = hub.build(), hub.build(), hub.build()
    assert hub.newer(first) == [third, second]
    assert hub.newer(second) == [third]
    assert hub.newer(third) == []


def test_a_build_that_was_completed_earlier_is_not_newer_whatever_its_id(hub: Hub) -> None:
    late, early = hub.build(hours=2), hub.build(hours=1)
    assert hub.newer(late) == []
    assert hub.newer(early) == [late]


def test_of_builds_that_were_completed_at_once_the_greater_id_is_the_newer(hub: Hub) -> None:
    first, second = hub.build(hours=1), hub.build(hours=1)
    assert hub.newer(first) == [second]
    assert hub.newer(second) == []


def test_microseconds_count(hub: Hub) -> None:
    first, second = hub.build(hours=1), hub.build(hours=1 + 1e-6 / 3600)
    assert hub.newer(first) == [second]
    assert hub.newer(second) == []


def test_only_operator_builds_of_the_same_component_and_target_that_are_complete_count(hub: Hub) -> None:
    build = hub.build()
    hub.build("otter-container-2")
    hub.build("OTTER-container")
    hub.build(target="otters-2-candidate")
    hub.build(task=False)
    hub.build(manifests=None)
    hub.build(extra=None)
    for state in (BuildState.BUILDING, BuildState.FAILED, BuildState.CANCELED, BuildState.DELETED):
        hub.build(state=state)
    assert hub.newer(build) == []


def test_bundles_count_as_what_they_are(hub: Hub) -> None:
    build, bundle = hub.build(), hub.build(kind=OperatorKind.BUNDLE, pullspec=f"registry.example.com/otter@{DIGEST}")
    assert hub.newer(build) == [bundle]
    assert (bundle.kind, bundle.bundle_image) == (OperatorKind.BUNDLE, f"registry.example.com/otter@{DIGEST}")


def test_a_draft_counts_once_it_is_promoted(hub: Hub) -> None:
    build, draft = hub.build(), hub.build(draft=True)
    assert hub.newer(build) == []
    hub.koji.promote(draft.id)
    assert [newer.id for newer in hub.newer(build)] == [draft.id]


def test_a_build_that_does_not_say_what_it_carries_counts(hub: Hub) -> None:
    build, untold, legacy = hub.build(), hub.build(subtypes=False), hub.build(legacy=True)
    assert hub.newer(build) == [legacy, untold]
    assert hub.newer(untold) == [legacy]


def test_an_unknown_target_is_the_same_as_another_unknown_one_only(hub: Hub) -> None:
    unknown, _known, other = hub.build(task=False), hub.build(), hub.build(task=False)
    assert hub.newer(unknown) == [other]


def test_a_component_that_was_built_very_often_is_listed_in_pieces(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koji_listing, "PAGE", 3)
    oldest = hub.build()
    others = [hub.build(target=f"otters-{number % 2}") for number in range(10)]
    same = hub.build()
    assert hub.newer(oldest) == [same]
    assert hub.newer(others[0]) == [others[number] for number in (8, 6, 4, 2)]


def test_the_component_is_looked_up_once_and_the_newest_is_found_in_one_piece(hub: Hub) -> None:
    build = hub.build()
    hub.build()
    hub.koji.calls.clear()
    for _ in range(2):
        next(hub.builds.siblings(build, START))
    assert hub.koji.calls == ["getPackageID", "listBuilds", "getTaskInfo", "listBuilds", "getTaskInfo"]


def test_a_build_is_listed_among_its_siblings_and_what_is_older_than_asked_for_is_not(hub: Hub) -> None:
    _first, second, third = hub.build(), hub.build(), hub.build()
    assert hub.siblings(third, second.completed_at) == [third, second]
    assert hub.siblings(second, START + 2.5 * HOUR) == [third]


def test_a_component_that_koji_does_not_know_has_nothing_newer(hub: Hub) -> None:
    assert hub.newer(Build(1, "a-1-1", "a", "1", "1", state=1, completed_at=START)) == []


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_hub_that_does_not_answer_is_a_transient_fault(hub: Hub, after: int) -> None:
    build = hub.build()
    hub.build()
    hub.koji.faults.add(Fault("POST /kojihub", after=after, status=502))
    with pytest.raises(KojiError) as caught:
        hub.newer(build)
    assert caught.value.transient


# What a period brought


def test_a_period_has_its_operator_builds_in_the_order_of_their_completion(hub: Hub) -> None:
    third, first, second = hub.build(hours=3), hub.build(hours=1), hub.build("heron-container", hours=2)
    assert hub.builds.completed(START) == [first, second, third]


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(hub: Hub) -> None:
    builds = [hub.build() for _ in range(5)]
    assert hub.builds.completed(START + 2 * HOUR, START + 4 * HOUR) == builds[1:3]


def test_a_period_has_builds_with_and_without_a_type_and_their_targets(hub: Hub) -> None:
    modern = hub.build(target="otters-7")
    legacy = hub.build(legacy=True, target="otters-8")
    elsewhere = hub.build(task=False, content_generator="another")
    assert hub.builds.completed(START) == [modern, legacy, elsewhere]
    assert [build.target for build in (modern, legacy, elsewhere)] == ["otters-7", "otters-8", None]


def test_a_period_has_bundles_but_no_other_images_and_nothing_that_is_not_complete(hub: Hub) -> None:
    bundle = hub.build(kind=OperatorKind.BUNDLE)
    hub.build(manifests=None)
    hub.build(state=BuildState.DELETED)
    hub.build(state=BuildState.FAILED)
    assert hub.builds.completed(START) == [bundle]


def test_a_long_period_is_listed_in_pieces(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koji_listing, "PAGE", 4)
    builds = [hub.build(f"o{number % 3}-container", legacy=number % 2 == 0) for number in range(17)]
    assert hub.builds.completed(START) == builds


def test_a_hub_that_never_comes_to_an_end_is_a_fault(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koji_listing, "PAGE", 1)
    monkeypatch.setattr(koji_listing, "PAGES", 3)
    for _ in range(4):
        hub.build()
    with pytest.raises(KojiError, match="more than 3 builds"):
        hub.builds.completed(START)


ODD = {
    "null": "<nil/>",
    "text": "<string>none</string>",
    "a struct": "<struct></struct>",
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_a_list_that_is_none_is_a_transient_fault(hub: Hub, answer: str) -> None:
    hub.koji.faults.add(Fault("POST /kojihub", body=reply(answer)))
    with pytest.raises(KojiError, match="listBuilds is not a list"):
        hub.builds.completed(START)


def test_odd_rows_of_a_list_stand_in_nobodys_way(hub: Hub) -> None:
    row = "<struct><member><name>build_id</name><value><array><data></data></array></value></member></struct>"
    odd = f"<array><data><value><int>7</int></value><value>{row}</value></data></array>"
    hub.koji.faults.add(Fault("POST /kojihub", times=2, body=reply(odd)))
    assert hub.builds.completed(START) == []


def test_a_hub_that_describes_fewer_tasks_than_it_was_asked_for_gives_no_answer(hub: Hub) -> None:
    hub.build()
    hub.koji.faults.add(Fault("POST /kojihub", after=1, body=reply("<array><data></data></array>")))
    with pytest.raises(KojiError, match="tasks"):
        hub.builds.completed(START)


def reply(value: str) -> str:
    return (
        f'<?xml version="1.0"?><methodResponse><params><param><value>{value}</value></param></params></methodResponse>'
    )
