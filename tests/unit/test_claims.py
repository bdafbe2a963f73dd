# SPDX-License-Identifier: GPL-3.0-or-later
"""What a message claims about a build, held against what the hub says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.errors import KojiBuildMismatch, KojiError, KojiNVRBuildNotFound
from omps_worker.common.model import Build, BuildEvent, BuildState, Ignored
from omps_worker.publishing import claims

NOW = datetime(2026, 11, 21, 1, 22, 30, 632590, tzinfo=timezone.utc)
BUILD = Build(7, "otter-container-1.0-2", "otter-container", "1.0", "2", 1, completed_at=NOW)
EVENT = BuildEvent(7, "otter-container-1.0-2", "otter-container", "1.0", "2", completed_at=NOW)
DRAFT = replace(BUILD, nvr="otter-container-1.0-2,draft_7", release="2,draft_7", draft=True)


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        BuildEvent(7),
        BuildEvent(7, name="otter-container"),
        BuildEvent(7, name="otter-container", version="1.0"),
        BuildEvent(7, nvr="otter-container-1.0-2"),
        BuildEvent(nvr="otter-container-1.0-2"),
    ],
)
def test_what_a_message_does_not_say_contradicts_nothing(event: BuildEvent) -> None:
    claims.check_names(event, BUILD)


@pytest.mark.parametrize(
    "other",
    [
        {"build_id": 8},
        {"nvr": "otter-container-1.0-3", "release": "3"},
        {"nvr": "heron-container-1.0-2", "name": "heron-container"},
        {"nvr": None, "name": "heron-container"},
        {"nvr": None, "version": "1.1"},
        {"nvr": "otter-container-1.0-2,draft_8"},
        {"nvr": "otter-container-1.0-2,draft_77"},
        {"name": "heron-container"},
    ],
    ids=str,
)
def test_a_message_that_means_another_build_than_the_hub_is_refused_for_good(other: dict[str, object]) -> None:
    with pytest.raises(KojiBuildMismatch, match=r"otter-container-1\.0-2.* set instance") as caught:
        claims.check_names(replace(EVENT, **other), BUILD)  # type: ignore[arg-type]
    assert not caught.value.transient


def test_a_build_that_was_promoted_is_the_draft_that_it_was() -> None:
    claims.check_names(replace(EVENT, nvr=DRAFT.nvr, release=DRAFT.release), BUILD)


def test_a_hub_that_does_not_know_of_a_promotion_lags_behind() -> None:
    with pytest.raises(KojiError, match="lag") as caught:
        claims.check_names(EVENT, DRAFT)
    assert caught.value.transient
    claims.check_names(replace(EVENT, nvr=DRAFT.nvr, release=DRAFT.release), DRAFT)


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("state", "completed_at"),
    [
        (BuildState.BUILDING, None),
        (BuildState.BUILDING, NOW + HOUR),
        (BuildState.FAILED, NOW - HOUR),
        (BuildState.CANCELED, NOW - HOUR),
        (BuildState.FAILED, None),
        (BuildState.CANCELED, None),
        (99, None),
    ],
)
def test_a_hub_that_does_not_know_that_the_build_is_complete_lags_behind(
    state: int, completed_at: datetime | None
) -> None:
    with pytest.raises(KojiError, match="lag") as caught:
        claims.check_state(EVENT, replace(BUILD, state=state, completed_at=completed_at))
    assert caught.value.transient
    assert claims.state_name(state) in caught.value.message


@pytest.mark.parametrize(
    ("state", "completed_at"),
    [
        (BuildState.DELETED, NOW),
        (BuildState.DELETED, None),
        (BuildState.DELETED, NOW - HOUR),
        (BuildState.CANCELED, NOW),
        (BuildState.CANCELED, NOW - timedelta(microseconds=1)),
        (BuildState.FAILED, NOW + HOUR),
    ],
)
def test_a_build_that_was_deleted_or_reset_since_is_complete_no_longer(
    state: BuildState, completed_at: datetime | None
) -> None:
    found = claims.check_state(EVENT, replace(BUILD, state=state, completed_at=completed_at))
    assert isinstance(found, Ignored)
    assert found.reason == claims.NO_LONGER_COMPLETE
    assert state.name in found.detail


def test_without_a_time_in_the_message_only_a_deletion_is_known_to_be_later() -> None:
    event = replace(EVENT, completed_at=None)
    with pytest.raises(KojiError):
        claims.check_state(event, replace(BUILD, state=BuildState.CANCELED))
    assert claims.check_state(event, replace(BUILD, state=BuildState.DELETED))
    assert claims.check_state(event, BUILD) is None


def test_a_build_that_is_not_known_yet_may_be_known_later() -> None:
    error = claims.not_known_yet(KojiNVRBuildNotFound("Koji knows no build with the id 7."))
    assert error.transient
    assert error.message.startswith("Koji knows no build with the id 7. A message says")
