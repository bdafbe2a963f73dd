# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mapping keeps back: builds that are held, and organizations that are paused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.model import Attempt, BuildEvent, ManualRequest, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping.file import parse
from omps_worker.messages.reporting import outcomes_table, result_body
from omps_worker.publishing import retry
from omps_worker.publishing.catch_up import CatchUp
from omps_worker.publishing.explain import as_text, explain
from omps_worker.publishing.holds import with_pauses
from omps_worker.sandbox import operators
from tests.support.parts import parts

RULES = """
rules:
  - match: {component: "*-container"}
    publish: [{organization: community}, {organization: partners}]
"""
HOLD = f"version: 1\nhold: ['lantern-container-1.*-3', 'other-*']\n{RULES}"
PAUSE = f"version: 1\npause: [community]\n{RULES}"
PAUSE_ALL = f"version: 1\npause: ['*']\n{RULES}"


def build_of(site, release):
    manifests = operators.zip_of(operators.flat_operator("lantern", version=f"1.0.{release}"))
    return site.koji.add_build("lantern-container", "1.0", str(release), manifests=manifests)


def by_hand(site, build, **wishes):
    return site.processor.process(BuildEvent(nvr=build["nvr"]), Attempt(), PushRequest(**wishes))


def test_a_held_build_is_published_by_nothing_but_who_says_so():
    with parts(HOLD) as site:
        held = build_of(site, 3)
        for told in (
            site.process(held),
            site.process(held, Attempt(late=True)),
            by_hand(site, held),
            by_hand(site, held, organization="community", new_release=True),
        ):
            assert {(outcome.status, outcome.reason) for outcome in told} == {(Status.SKIPPED, "held")}
        assert site.registry.packages() == ()
        assert {outcome.status for outcome in by_hand(site, held, held=True)} == {Status.PUBLISHED}
        assert {outcome.status for outcome in site.process(build_of(site, 4))} == {Status.PUBLISHED}


def explained(site, build):
    told = explain(BuildEvent(nvr=build["nvr"]), site.mapping, site.builds, site.processor)
    return told.as_json(), as_text(told)


def test_who_asks_why_a_build_is_held_learns_the_entry_and_what_publishes_it_all_the_same():
    entry = "hold[0] 'lantern-container-1.*-3' (line 2)"
    with parts(HOLD) as site:
        held = build_of(site, 3)
        outcomes = by_hand(site, held)
        document, text = explained(site, held)
    (told, _) = [result_body(outcome, ManualRequest(), Attempt()) for outcome in outcomes]
    assert (told["reason"], told["held_by"]) == ("held", entry)
    assert (document["decision"], document["reason"], document["targets"][0]["held_by"]) == ("skip", "held", entry)
    assert f"held by {entry} of the mapping; `omps-worker push {held['nvr']} --held` publishes it" in text
    assert f"held by {entry} of the mapping; --held publishes it" in outcomes_table(outcomes)


def test_an_explanation_says_what_would_wait_and_what_it_would_become():
    with parts(PAUSE) as site:
        document, text = explained(site, build_of(site, 1))
    assert (document["decision"], document["reason"]) == ("publish", "paused")
    assert [(one["status"], one["reason"], one["paused_by"], one["version"]) for one in document["targets"]] == [
        ("retrying", "paused", "pause[0] 'community' (line 2)", "1.0.0"),
        ("published", None, None, "1.0.0"),
    ]
    assert "decision  publish: it would wait (paused)\n" in text
    assert "community/lantern: would wait; without the pause: would become release 1.0.0\n" in text
    assert "paused    community, by pause[0] 'community' (line 2) of the mapping\n" in text


def test_an_explanation_of_what_waits_knows_what_is_released_already():
    with parts(PAUSE.replace("pause: ", "#pause: ")) as site:
        build = build_of(site, 1)
        by_hand(site, build)
        site.mapping.current = parse(PAUSE, "mapping.yaml")
        _, text = explained(site, build)
    assert "community/lantern: would wait; without the pause: this content is already release 1.0.0\n" in text


def test_an_explanation_of_a_build_that_fails_names_the_pause_all_the_same():
    with parts(PAUSE) as site:
        document, text = explained(site, site.koji.add_build("lantern-container", "1.0", "1", manifests=b"no zip"))
    assert document["decision"] == "fail"
    assert document["targets"][0]["paused_by"] == "pause[0] 'community' (line 2)"
    assert "paused    community, by pause[0]" in text


def test_a_dry_run_by_hand_foresees_that_nothing_would_be_done():
    with parts(PAUSE) as site:
        build = build_of(site, 1)
        foreseeing = with_pauses(site.mapping.current, by_hand(site, build, dry_run=True), waits=False)
        real = by_hand(site, build)
    assert [outcome.status for outcome in foreseeing] == [outcome.status for outcome in real]
    assert foreseeing[0].error.message == real[0].error.message
    assert real[0].error.message.endswith("Nothing was done: try again when the entry is removed.")


def test_a_held_build_is_not_missing():
    with parts(HOLD) as site:
        build_of(site, 3)
        catch_up = CatchUp(site.builds, site.mapping, site.processor)
        (found,) = catch_up.look_into(catch_up.completed(datetime.now(timezone.utc) - timedelta(days=1)))
        assert (found.status, found.reason) == ("skipped", "held")


def test_what_is_for_a_paused_organization_waits_and_the_rest_is_published():
    with parts(PAUSE) as site:
        waiting, done = site.process(build_of(site, 1))
        assert (waiting.organization, waiting.status, waiting.error.name) == (
            "community",
            Status.FAILED,
            "OrganizationPaused",
        )
        assert waiting.error.transient
        assert "paused by pause[0] 'community' (line 2) of the mapping" in waiting.error.message
        assert (done.organization, done.status) == ("partners", Status.PUBLISHED)
        assert site.versions("community", "lantern") == []


def test_where_all_is_paused_nothing_is_even_downloaded():
    with parts(PAUSE_ALL) as site:
        build = build_of(site, 1)
        outcomes = site.process(build)
        assert {outcome.error.name for outcome in outcomes} == {"OrganizationPaused"}
        assert not [line for line in site.koji.log if "operator_manifests" in str(line)]
        (outcome,) = by_hand(site, build, organization="anybody")
        assert outcome.error.name == "OrganizationPaused"
        assert {outcome.status for outcome in by_hand(site, build, dry_run=True)} == {Status.PUBLISHED}


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=400)])
def test_what_is_paused_is_never_given_up_and_is_no_attempt(age):
    with parts(PAUSE) as site:
        outcomes = site.process(build_of(site, 1))
    now = datetime.now(timezone.utc)
    delays = tuple(retry.RetryDelay(text, seconds) for text, seconds in (("10s", 10.0), ("10m", 600.0), ("1h", 3600.0)))
    decided = retry.decide(
        outcomes, attempt=1, first_seen=now - age, now=now, schedule=retry.RetrySchedule(delays, 86400.0)
    )
    assert decided.parked is None
    assert (decided.again.counts, decided.again.delay.text, decided.again.targets) == (False, "10m", ("community",))
    assert [(outcome.status, outcome.reason) for outcome in decided.outcomes] == [
        (Status.RETRYING, "paused"),
        (Status.PUBLISHED, None),
    ]
