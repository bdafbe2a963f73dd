# SPDX-License-Identifier: GPL-3.0-or-later
"""Results about catalogs: their body, their id, and what people read."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import jsonschema
import pytest

from omps_worker import results
from omps_worker.cli.watch_view import ReceivedResult, ResultFilter, line
from omps_worker.common.errors import CatalogError
from omps_worker.common.model import (
    Attempt,
    Build,
    CatalogBundle,
    CatalogUpdate,
    ManualRequest,
    Outcome,
    Source,
    Status,
    Target,
)
from omps_worker.messages.catalog_texts import channel_lines, plan_text
from omps_worker.messages.reporting import Reporter, log_outcome, outcome_line, outcomes_table, result_body
from omps_worker.messages.result_schema import body_schema

DIGEST = "sha256:" + "1" * 64
BUNDLE = "registry.example.com/community/etcd-bundle@sha256:" + "2" * 64
UPDATE = CatalogUpdate(
    name="community",
    image="registry.example.com/community/catalog:latest",
    digest=DIGEST,
    previous=None,
    package="etcd",
    channels={"alpha": "etcd.v0.9.4", "beta": "etcd.v0.9.2", "stable": "etcd.v0.9.4"},
    default_channel="stable",
    bundles=(
        CatalogBundle("etcd.v0.9.0", "0.9.0", BUNDLE),
        CatalogBundle("etcd.v0.9.2", "0.9.2", BUNDLE),
        CatalogBundle("etcd.v0.9.4", "0.9.4", BUNDLE, created=True),
    ),
    dropped=("etcd.v0.8.0",),
    unpublished=("etcd.v0.9.1",),
    channels_before={"alpha": "etcd.v0.9.2", "beta": "etcd.v0.9.2"},
)
BUILD = Build(7, "etcd-container-0.9.4-1", "etcd-container", "0.9.4", "1", 1, "jdoe")
TARGET = Target(None, catalog="community")
PUBLISHED = Outcome(
    Status.PUBLISHED,
    repo="etcd",
    version="0.9.4",
    nvr=BUILD.nvr,
    build=BUILD,
    digest="3" * 64,
    public=False,
    target=TARGET,
    catalog=UPDATE,
)
FAILED = replace(PUBLISHED, status=Status.FAILED, catalog=None, version=None, error=CatalogError("No answer."))
SOURCE = Source("an-id", "a.topic")


def body(outcome: Outcome) -> dict[str, Any]:
    found = result_body(outcome, SOURCE, Attempt())
    jsonschema.validate(found, body_schema(outcome.status))
    return found


def message_id(outcome: Outcome) -> str:
    return Reporter("org.example", "https://quay.example.com").message(outcome, SOURCE, Attempt()).id


def as_message(outcome: Outcome) -> Any:
    made = Reporter("org.example", "https://quay.example.com").message(outcome, SOURCE, Attempt())
    return getattr(results, made.headers["fedora_messaging_schema"].removeprefix("omps."))(
        topic=made.topic, headers=made.headers, body=made.body
    )


def test_the_body_has_the_package_after_the_update() -> None:
    found = body(PUBLISHED)
    assert (found["organization"], found["repo"], found["version"]) == (None, "etcd", "0.9.4")
    assert set(found["catalog"]) == set(body_schema(Status.PUBLISHED)["properties"]["catalog"]["properties"])
    assert found["catalog"]["channels"] == {"alpha": "etcd.v0.9.4", "beta": "etcd.v0.9.2", "stable": "etcd.v0.9.4"}
    assert [each["created"] for each in found["catalog"]["bundles"]] == [False, False, True]
    assert json.loads(json.dumps(found)) == found


def test_of_what_failed_only_the_catalog_and_the_package_are_known() -> None:
    found = body(FAILED)["catalog"]
    assert (found["name"], found["package"]) == ("community", "etcd")
    assert [value for key, value in found.items() if key not in ("name", "package") and value] == []


def test_organizations_have_no_catalog() -> None:
    there = Outcome(Status.PUBLISHED, "community", "etcd", "1.0.0", target=Target("community"))
    assert body(there)["catalog"] is None
    assert body(Outcome(Status.FAILED, error=CatalogError("No answer.")))["catalog"] is None


def test_earlier_bodies_still_fit_the_schema() -> None:
    found = body(PUBLISHED)
    del found["catalog"]
    jsonschema.validate(found, body_schema(Status.PUBLISHED))


def test_the_same_fact_about_a_catalog_has_the_same_id_and_other_facts_have_others() -> None:
    elsewhere = replace(UPDATE, image="registry.example.com/community/catalog:next")
    facts = [
        PUBLISHED,
        FAILED,
        replace(FAILED, target=Target(None, catalog="internal")),
        replace(FAILED, target=Target("community"), organization="community"),
        replace(PUBLISHED, catalog=replace(UPDATE, name="internal")),
        replace(PUBLISHED, catalog=elsewhere),
        replace(PUBLISHED, catalog=None, target=None),
    ]
    assert len({message_id(fact) for fact in facts}) == len(facts)
    # Other packages may have changed the catalog before a redelivery.
    later = replace(UPDATE, digest="sha256:" + "4" * 64, previous=DIGEST, bundles=UPDATE.bundles[:1])
    assert message_id(replace(PUBLISHED, catalog=later)) == message_id(PUBLISHED)


def test_a_bundle_that_was_added_is_one_fact_whatever_other_bundles_came_to_its_package() -> None:
    added = replace(PUBLISHED, catalog=replace(UPDATE, added=f"registry.example.com/osbs/etcd-bundle@{DIGEST}"))
    later = replace(added, version="9.9.9", digest="c" * 64)
    assert message_id(later) == message_id(added)
    another = replace(UPDATE, added=f"registry.example.com/osbs/etcd-bundle@{DIGEST[:-1]}0")
    assert message_id(replace(added, catalog=another)) != message_id(added)
    assert message_id(replace(PUBLISHED, version="9.9.9", digest="c" * 64)) != message_id(PUBLISHED)
    assert "added" not in body(added)["catalog"]


def test_ids_of_results_about_organizations_stay_what_they_were() -> None:
    there = Outcome(Status.PUBLISHED, "community", "etcd", "1.0.0", nvr="etcd-1-1", digest="3" * 64)
    assert message_id(there) == "b887491d-1c33-5171-832b-b55e0f27945e"


def test_people_read_which_catalog_and_what_is_in_it() -> None:
    told = as_message(PUBLISHED)
    assert told.summary == "etcd-container-0.9.4-1 was published as catalog:community/etcd 0.9.4"
    assert told.url == "https://registry.example.com/repository/community/catalog"
    lines = str(told).splitlines()
    assert f"image: registry.example.com/community/catalog:latest ({DIGEST})" in lines
    assert "channel alpha: etcd.v0.9.4" in lines
    assert "dropped: etcd.v0.8.0" in lines
    assert "in no channel: etcd.v0.9.1" in lines


def test_people_read_which_catalog_could_not_be_updated() -> None:
    told = as_message(FAILED)
    assert told.summary == "etcd-container-0.9.4-1 could not be published to catalog:community/etcd: CatalogError"
    assert told.url is None
    assert "catalog: community" in str(told).splitlines()


def test_a_bundle_that_was_deleted_is_named_with_its_catalog() -> None:
    gone = Outcome(Status.DELETED, repo="etcd", version="0.9.4", target=TARGET)
    assert as_message(gone).summary == "catalog:community/etcd 0.9.4 was deleted"
    assert outcome_line(gone, ManualRequest(), Attempt()).startswith("deleted catalog:community/etcd 0.9.4 ")


def test_the_log_names_the_catalog_as_the_mapping_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_outcome(PUBLISHED, SOURCE, Attempt())
    (record,) = caplog.records
    begins = "published etcd-container-0.9.4-1 catalog:community/etcd 0.9.4 (dropped etcd.v0.8.0) ["
    assert record.getMessage().startswith(begins)
    fields = vars(record)
    assert (fields["catalog"], fields["target"], fields["repository"]) == ("community", "catalog:community", "etcd")
    assert fields["catalog_digest"] == DIGEST
    assert "organization" not in fields


def test_tables_show_the_catalog_where_they_show_organizations() -> None:
    unchanged = replace(PUBLISHED, status=Status.UNCHANGED)
    rows = outcomes_table([PUBLISHED, unchanged, FAILED]).splitlines()
    assert [row.split()[1:3] for row in rows[2:]] == [["catalog:community", "etcd"]] * 3
    assert rows[2].endswith("dropped etcd.v0.8.0; no channel reaches etcd.v0.9.1")
    assert "the catalog has this content already" in rows[3]


def test_a_table_shows_what_an_update_replaced_and_does_not_list_hundreds_of_names() -> None:
    many = tuple(f"etcd.v0.1.{number}" for number in range(500))
    update = replace(UPDATE, previous=DIGEST, foreign="it is a list of manifests", dropped=many, unpublished=())
    told = outcomes_table([replace(PUBLISHED, catalog=update)])
    assert f"replaced an image that omps-worker did not write ({DIGEST}); dropped etcd.v0.1.0, " in told
    assert told.endswith("etcd.v0.1.19 and 480 more")
    planned = outcomes_table([replace(PUBLISHED, catalog=update)], dry_run=True)
    assert (
        "would replace the image, which omps-worker did not write (it is a list of manifests), with a new catalog; "
        "would add " in planned
    )


def test_an_update_with_nothing_to_remark_has_no_detail() -> None:
    plain = replace(PUBLISHED, catalog=replace(UPDATE, dropped=(), unpublished=()))
    assert outcomes_table([plain]).endswith("  etcd        0.9.4")


def test_a_watcher_sees_the_catalog_and_may_choose_it() -> None:
    seen = ReceivedResult("a.topic", "an-id", datetime.now(timezone.utc), body(PUBLISHED))
    assert "catalog:community/etcd" in line(seen)
    assert ResultFilter(frozenset({"catalog:community"})).wants(seen)
    assert not ResultFilter(frozenset({"community"})).wants(seen)


def test_what_clusters_no_longer_find_is_in_the_log_and_in_tables_of_updates_that_were_made() -> None:
    lossy = replace(PUBLISHED, catalog=replace(UPDATE, replaced=("etcd.v0.9.2",), unpublished=()))
    said = "replaced the content of etcd.v0.9.2"
    assert f" 0.9.4 ({said}) (dropped etcd.v0.8.0) [" in outcome_line(lossy, SOURCE, Attempt())
    assert outcomes_table([lossy]).endswith(f"{said}; dropped etcd.v0.8.0")
    for status in (Status.UNCHANGED, Status.DELETED):
        assert "dropped" not in outcome_line(replace(PUBLISHED, status=status), SOURCE, Attempt())
    assert "replaced" not in body(lossy)["catalog"]


def test_a_watcher_sees_what_an_update_dropped() -> None:
    def watched(outcome: Outcome, **catalog: Any) -> str:
        found = body(outcome)
        return line(ReceivedResult("a.topic", None, None, {**found, "catalog": {**found["catalog"], **catalog}}))

    assert watched(PUBLISHED).endswith("  dropped etcd.v0.8.0")
    assert watched(PUBLISHED, dropped=["a\nb", 5, {}]).endswith("  dropped a b")
    for odd in ([], None, "etcd", {"a": 1}, [5]):
        assert watched(PUBLISHED, dropped=odd).endswith("etcd-container-0.9.4-1")
    assert "dropped" not in watched(replace(PUBLISHED, status=Status.DELETED))


# What would change


def test_a_plan_names_new_heads_and_the_images_that_are_there() -> None:
    assert plan_text(PUBLISHED) == (
        "would add etcd.v0.9.4 (0.9.4) as head of alpha, stable; 2 of 3 bundle images are there; would drop "
        "etcd.v0.8.0; no channel reaches etcd.v0.9.1"
    )
    assert list(channel_lines(UPDATE)) == [
        "alpha: etcd.v0.9.2 -> etcd.v0.9.4",
        "beta: etcd.v0.9.2",
        "stable: new -> etcd.v0.9.4",
    ]


@pytest.mark.parametrize(
    ("update", "text"),
    [
        ({"channels": {"alpha": "a.v2", "beta": "b.v3"}}, "would add a.v2 as head of alpha, b.v3 as head of beta"),
        ({"channels": {"alpha": "etcd.v0.9.2", "beta": "etcd.v0.9.2"}}, "would change the package, and no head"),
        (
            {"channels": {"alpha": "etcd.v0.9.2", "beta": "etcd.v0.9.2"}, "replaced": ("etcd.v0.9.0", "etcd.v0.9.2")},
            "would replace the content of etcd.v0.9.0, etcd.v0.9.2; 2 of 3",
        ),
        ({"replaced": ("etcd.v0.9.2",)}, "of alpha, stable; would replace the content of etcd.v0.9.2; 2 of 3"),
        ({"channels_before": None}, "would add etcd.v0.9.4 (0.9.4) as head of alpha, stable, etcd.v0.9.2 (0.9.2) as"),
        ({"bundles": UPDATE.bundles[1:]}, "as head of alpha, stable; 1 of 2 bundle images is there"),
        ({"bundles": UPDATE.bundles[:1]}, "; 1 of 1 bundle image is there;"),
        ({"bundles": UPDATE.bundles[2:]}, "; 0 of 1 bundle image is there;"),
        ({"bundles": ()}, "as head of alpha, stable; would drop etcd.v0.8.0"),
    ],
)
def test_a_plan_says_only_what_is_known(update: dict[str, Any], text: str) -> None:
    told = plan_text(replace(PUBLISHED, catalog=replace(UPDATE, **update)))
    assert told is not None
    assert text in told


def test_channels_that_go_are_shown() -> None:
    gone = replace(UPDATE, channels={}, channels_before={"alpha": "etcd.v0.9.2"})
    assert list(channel_lines(gone)) == ["alpha: etcd.v0.9.2 -> gone"]
    assert list(channel_lines(replace(gone, channels_before=None))) == []


def test_only_catalogs_have_a_plan() -> None:
    assert plan_text(replace(PUBLISHED, catalog=None)) is None
    assert plan_text(replace(PUBLISHED, status=Status.UNCHANGED)) == "unchanged; no channel reaches etcd.v0.9.1"
    everything = replace(UPDATE, unpublished=())
    assert plan_text(replace(PUBLISHED, status=Status.UNCHANGED, catalog=everything)) == "unchanged"
