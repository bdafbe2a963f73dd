# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds that go to catalogs: what is done with them around the catalog itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest

from omps_worker.common.errors import OrganizationPaused
from omps_worker.common.model import Attempt, BuildEvent, Ignored, ManualRequest, OperatorKind, Outcome, Status
from omps_worker.configuration.mapping.file import parse
from omps_worker.messages.reporting import outcomes_table, result_body
from omps_worker.messages.result_schema import body_schema
from omps_worker.publishing.catch_up import CatchUp
from omps_worker.publishing.explain import Explanation, as_text, explain
from omps_worker.sandbox import operators
from tests.support.parts import Parts, parts
from tests.support.shelf import CatalogShelf, unreachable

MAPPING = """
version: 1
rules:
  - match: {component: "both-*"}
    publish: [{organization: community}, {catalog: community}]
  - match: {component: "every-*"}
    superseded: publish
    publish: [{catalog: community}]
  - match: {component: "*-bundle-container"}
    publish: [{catalog: community}]
  - match: {component: "*-container"}
    publish: [{organization: community}]
"""
OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
LATE = Attempt(late=True)


@dataclass
class Place:
    """A worker with an organization and a catalog, and builds that are completed minutes after one another."""

    site: Parts
    shelf: CatalogShelf
    moment: datetime = field(default_factory=lambda: datetime.now(timezone.utc) - timedelta(minutes=9))

    def bundle(self, name: str = "etcd-bundle-container", version: str = "1.0.0", **more: Any) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(f'{name} {version}'.encode()).hexdigest()}"
        self.moment += timedelta(minutes=1)
        return self.site.koji.add_build(
            name,
            version,
            "1",
            kind=OperatorKind.BUNDLE,
            **{"completed_at": self.moment, "pullspec": f"osbs.example.com/{name}@{digest}", **more},
        )

    def tree(self, name: str = "both-container", manifests: bytes = OTTER) -> dict[str, Any]:
        return self.site.koji.add_build(name, "1.0.0", "1", manifests=manifests)

    def outcomes(self, build: dict[str, Any], attempt: Attempt | None = None, **request: Any) -> list[Outcome]:
        found = self.site.process(build, attempt, **request)
        assert not isinstance(found, Ignored)
        return found

    def told(self, build: dict[str, Any], attempt: Attempt | None = None, **request: Any) -> list[tuple[str, ...]]:
        return [
            (str(each.place), each.status.value, each.reason or each.error_name or str(each.version))
            for each in self.outcomes(build, attempt, **request)
        ]

    def explained(self, nvr: str) -> Explanation:
        return explain(BuildEvent(nvr=nvr), self.site.mapping, self.site.builds, self.site.processor)

    def downloads(self) -> list[str]:
        return [entry.target for entry in self.site.koji.log if "/files/" in entry.target]


@pytest.fixture
def place() -> Iterator[Place]:
    shelf = CatalogShelf()
    with parts(MAPPING, catalogs={"community": shelf}) as site:
        yield Place(site, shelf)


def test_manifests_go_to_the_organization_and_to_the_catalog(place: Place) -> None:
    build = place.tree()
    assert place.told(build) == [("community", "published", "1.0.0"), ("catalog:community", "published", "1.1.0")]
    assert place.told(build) == [("community", "unchanged", "1.0.0"), ("catalog:community", "unchanged", "1.1.0")]
    assert len(place.downloads()) == 2


def test_a_bundle_goes_to_the_catalog_and_is_nothing_to_the_organization(place: Place) -> None:
    build = place.bundle("both-bundle-container")
    skipped = ("community", "skipped", "bundle build")
    assert place.told(build) == [skipped, ("catalog:community", "published", "1.0.0")]
    assert place.downloads() == []
    ((image, with_archive),) = place.shelf.prepared
    assert (str(image).startswith("osbs.example.com/both-bundle-container@sha256:"), with_archive) == (True, False)


def test_a_bundle_whose_rule_names_only_organizations_is_skipped_as_before(place: Place) -> None:
    build = place.bundle("etcd-container", manifest_list=False)
    assert place.told(build) == [("community", "skipped", "bundle build")]
    assert "listArchives" not in place.site.koji.calls


def test_the_image_of_a_bundle_without_a_list_of_manifests_is_found(place: Place) -> None:
    assert place.told(place.bundle(manifest_list=False)) == [("catalog:community", "published", "1.0.0")]


def test_a_bundle_whose_image_koji_does_not_name_is_at_fault(place: Place) -> None:
    build = place.bundle("both-bundle-container", pullspec=None, manifest_list=False)
    (skipped, failed) = place.outcomes(build)
    assert skipped.reason == "bundle build"
    assert failed.error is not None
    assert (failed.error_name, failed.error.transient) == ("KojiManifestsArchiveNotFound", False)
    assert "extra.image.index.pull" in failed.error.message


def test_what_fails_at_the_catalog_does_not_keep_the_organization_waiting(place: Place) -> None:
    place.shelf.error = unreachable()
    told = place.told(place.tree())
    assert told == [("community", "published", "1.0.0"), ("catalog:community", "failed", "CatalogError")]


def test_only_the_open_target_is_tried_again(place: Place) -> None:
    attempt = Attempt(2, interrupted=True, targets=("catalog:community",))
    assert place.told(place.tree(), attempt) == [("catalog:community", "published", "1.1.0")]


# What the mapping keeps back


def test_a_paused_catalog_waits_and_the_organization_does_not(place: Place) -> None:
    paused = MAPPING.replace("rules:", "pause: ['catalog:community']\nrules:", 1)
    place.site.mapping.current = parse(paused, "mapping.yaml", ["community"], ["community"])
    published, waits = place.outcomes(place.tree())
    assert (published.status, published.organization) == (Status.PUBLISHED, "community")
    assert isinstance(waits.error, OrganizationPaused)
    assert "Publishing to catalog:community is paused by pause[0] 'catalog:community' (line 3)" in waits.error.message
    found = explain(
        BuildEvent(nvr="both-container-1.0.0-1"), place.site.mapping, place.site.builds, place.site.processor
    )
    assert [each["paused_by"] for each in found.as_json()["targets"]] == [None, "pause[0] 'catalog:community' (line 3)"]
    assert (
        "target    catalog:community/otter-cache: would wait; without the pause: would add otter-cache.v1.1.0 (1.1.0) "
        "as head of stable; 0 of 1 bundle image is there\n"
        "channels  stable: new -> otter-cache.v1.1.0\n" in as_text(found)
    )


def test_a_held_bundle_is_not_published(place: Place) -> None:
    held = MAPPING.replace("rules:", "hold: ['etcd-*']\nrules:", 1)
    place.site.mapping.current = parse(held, "mapping.yaml", ["community"], ["community"])
    build = place.bundle()
    assert place.told(build) == [("catalog:community", "skipped", "held")]
    assert place.told(build, held=True) == [("catalog:community", "published", "1.0.0")]


# Old never on top


def test_a_late_bundle_is_superseded_by_a_newer_one_where_the_catalog_asks_for_the_order(place: Place) -> None:
    older, newer = place.bundle(version="1.0.0"), place.bundle(version="1.1.0")
    (skipped,) = place.outcomes(older, LATE)
    assert (skipped.reason, skipped.superseded_by) == ("superseded", newer["nvr"])
    assert place.told(newer, LATE) == [("catalog:community", "published", "1.1.0")]


def test_a_bundle_in_time_is_superseded_only_by_what_is_published(place: Place) -> None:
    older, newer = place.bundle(version="1.0.0"), place.bundle(version="1.1.0", manifest_list=False)
    assert place.told(older) == [("catalog:community", "published", "1.0.0")]
    oldest = place.bundle(version="0.9.0", completed_at=place.moment - timedelta(minutes=3))
    assert place.told(newer) == [("catalog:community", "published", "1.1.0")]
    (skipped,) = place.outcomes(oldest)
    assert (skipped.reason, skipped.superseded_by) == ("superseded", newer["nvr"])
    assert place.downloads() == []


def test_where_the_rule_wants_every_bundle_order_does_not_matter(place: Place) -> None:
    older, newer = (place.bundle("every-bundle-container", version) for version in ("1.0.0", "1.1.0"))
    assert place.told(newer, LATE) == [("catalog:community", "published", "1.1.0")]
    assert place.told(older, LATE) == [("catalog:community", "published", "1.0.0")]


def test_a_newer_bundle_does_not_supersede_a_release_of_the_organization(place: Place) -> None:
    tree = place.site.koji.add_build(
        "both-container", "1.0.0", "1", manifests=OTTER, completed_at=place.moment + timedelta(seconds=1)
    )
    newer = place.bundle("both-container", "1.1.0")
    (published, skipped) = place.outcomes(tree, LATE)
    assert (published.place, published.status) == ("community", Status.PUBLISHED)
    assert (skipped.place, skipped.superseded_by) == ("catalog:community", newer["nvr"])


# By hand


def test_a_user_may_name_the_catalog(place: Place) -> None:
    build = place.tree("otter-container")
    assert place.told(build, catalog="community") == [("catalog:community", "published", "1.1.0")]
    assert place.site.versions("community", "otter-cache") == []


def test_a_catalog_by_hand_is_written_as_the_rule_says(place: Place) -> None:
    rule = "{catalog: community, repository: otter, overwrite: heads, graph: semver}"
    text = f"version: 1\nrules:\n- match: {{}}\n  superseded: publish\n  publish: [{rule}]\n"
    place.site.mapping.current = parse(text, "mapping.yaml", [], ["community", "other"])
    (outcome,) = place.outcomes(place.tree(), catalog="community")
    assert outcome.target is not None
    assert (outcome.target.label, outcome.target.overwrite, outcome.target.graph, outcome.target.superseded) == (
        "catalog:community/otter",
        "heads",
        "semver",
        "publish",
    )
    (other,) = place.outcomes(place.tree("more-container"), catalog="other")
    assert other.target is not None
    assert (other.target.label, other.target.overwrite) == ("catalog:other", "never")


def test_deleting_and_checking_go_to_the_destination_that_is_named(place: Place) -> None:
    place.outcomes(place.tree())
    destination = place.site.destination
    assert list(destination.would_delete("community", "otter-cache")) == ["1.0.0"]
    assert list(destination.would_delete("catalog:community", "otter-cache")) == ["1.1.0"]
    (deleted,) = destination.delete("catalog:community", "otter-cache")
    assert (deleted.place, deleted.repo, deleted.version) == ("catalog:community", "otter-cache", "1.1.0")
    assert place.site.versions("community", "otter-cache") == ["1.0.0"]
    assert [name for name, _ in destination.checks()][-1] == "catalog community"


# What is told


def test_every_result_about_a_catalog_fits_its_schema_and_names_the_catalog(place: Place) -> None:
    build = place.bundle()
    found = [*place.outcomes(build), *place.outcomes(build)]
    found += place.outcomes(place.bundle(version="0.1.0", completed_at=place.moment - timedelta(days=1)), LATE)
    place.shelf.error = unreachable()
    found += place.outcomes(place.bundle(version="2.0.0"))
    statuses = [Status.PUBLISHED, Status.UNCHANGED, Status.SKIPPED, Status.FAILED]
    assert [outcome.status for outcome in found] == statuses
    for outcome in found:
        body = result_body(outcome, ManualRequest(), Attempt())
        jsonschema.validate(body, body_schema(outcome.status))
        assert (body["organization"], body["repo"], body["catalog"]["name"]) == (None, "etcd", "community")


def test_explain_says_what_would_change(place: Place) -> None:
    place.outcomes(place.bundle())
    build = place.bundle(version="1.1.0")
    found = place.explained(build["nvr"])
    assert as_text(found).splitlines()[-3:] == [
        "target    catalog:community/etcd: would add etcd.v1.1.0 (1.1.0) as head of stable; 0 of 1 bundle image is "
        "there; would drop etcd.v1.0.0",
        "channels  stable: etcd.v1.0.0 -> etcd.v1.1.0",
        f"digest    {found.outcomes[0].digest}",
    ]
    (target,) = found.as_json()["targets"]
    assert (target["organization"], target["catalog"]["channels"]) == (None, {"stable": "etcd.v1.1.0"})


def test_explain_says_which_target_has_which_digest(place: Place) -> None:
    found = place.explained(place.tree()["nvr"])
    there, in_catalog = found.outcomes
    assert (
        f"\ndigest    community/otter-cache: {there.digest}\n"
        f"          catalog:community/otter-cache: {in_catalog.digest}\nfiles "
    ) in as_text(found)


def test_explain_says_where_a_build_is_skipped_if_another_target_takes_it(place: Place) -> None:
    build = place.bundle("both-bundle-container")
    assert "decision  skip at community: bundle build\n" in as_text(place.explained(build["nvr"]))
    only = place.bundle("etcd-container", manifest_list=False)
    assert "decision  skip: bundle build\n" in as_text(place.explained(only["nvr"]))


def test_explain_says_that_nothing_would_change(place: Place) -> None:
    build = place.bundle()
    place.outcomes(build)
    assert "target    catalog:community/etcd: unchanged\n" in as_text(place.explained(build["nvr"]))


def test_a_dry_run_shows_the_catalog_and_what_would_change(place: Place) -> None:
    table = outcomes_table(place.outcomes(place.bundle(), dry_run=True), dry_run=True)
    assert "catalog:community  etcd        1.0.0    would add etcd.v1.0.0 (1.0.0) as head of stable; " in table
    assert table.endswith("; stable: new -> etcd.v1.0.0")
    assert place.shelf.kept["community", "etcd"] == []


# Catch-up


def test_bundles_that_are_in_no_catalog_they_belong_into_are_missing(place: Place) -> None:
    start = place.moment
    missing, done = place.bundle(), place.bundle("lantern-bundle-container")
    place.bundle("etcd-container")
    place.outcomes(done)
    work = CatchUp(place.site.builds, place.site.mapping, place.site.processor)
    found = [(each.build.nvr, each.status) for each in work.look_into(work.completed(start))]
    assert found == [(missing["nvr"], "missing"), (done["nvr"], "released")]
    (report, released) = work.look_into(work.completed(start))
    assert (report.detail, released.detail) == ("not in catalog:community/etcd", "")
    (target,) = report.as_json()["targets"]
    assert (target["organization"], target["catalog"]["name"], target["repository"]) == (None, "community", "etcd")


def test_every_bundle_of_a_lost_catalog_is_missing_not_only_the_newest_build_of_its_component(place: Place) -> None:
    place.shelf.stacks = True
    start = place.moment
    builds = [place.bundle(version=version) for version in ("1.0.0", "1.1.0", "1.2.0")]
    work = CatchUp(place.site.builds, place.site.mapping, place.site.processor)
    found = [(each.build.nvr, each.status) for each in work.look_into(work.completed(start))]
    assert found == [(build["nvr"], "missing") for build in builds]


def test_a_catch_up_names_the_target_that_lacks_a_build_and_the_one_that_cannot_be_asked(place: Place) -> None:
    start = place.moment
    place.tree()
    work = CatchUp(place.site.builds, place.site.mapping, place.site.processor)
    (both,) = work.look_into(work.completed(start))
    assert both.detail == "not in community/otter-cache, catalog:community/otter-cache"
    place.shelf.error = unreachable()
    (undecided,) = work.look_into(work.completed(start))
    assert undecided.status == "undecided"
    assert undecided.detail.startswith(
        "not in community/otter-cache; catalog:community/otter-cache: CatalogError: Failed to read "
    )


def test_a_bundle_overtakes_manifests_only_at_the_catalog(place: Place) -> None:
    start = place.moment
    tree = place.site.koji.add_build(
        "both-container", "1.0.0", "1", manifests=OTTER, completed_at=start + timedelta(seconds=1)
    )
    place.bundle("both-container", "1.1.0")
    work = CatchUp(place.site.builds, place.site.mapping, place.site.processor)
    first = next(iter(work.look_into(work.completed(start))))
    assert (first.build.nvr, first.status) == (tree["nvr"], "missing")
