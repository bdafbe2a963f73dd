# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the hub's words about a build, whatever they are."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Build, OperatorKind
from omps_worker.koji_client.answers import build_of

DATA = Path(__file__).parent.parent / "data" / "koji"


def recorded(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())["result"]


def modern(**changes: Any) -> dict[str, Any]:
    return {**recorded("getBuild.appregistry_modern"), **changes}


def of_extra(extra: Any) -> Build:
    return build_of(modern(extra=extra), None)


def test_every_build_of_a_listing_can_be_read() -> None:
    builds = [build_of(row, None) for row in recorded("listBuilds.type_operator-manifests")]
    assert len(builds) > 5
    assert all(build.archive == "operator_manifests.zip" for build in builds)
    assert {build.kind for build in builds} == {OperatorKind.PACKAGE_MANIFESTS, OperatorKind.BUNDLE}


BUNDLE, PACKAGE = "operator_bundle", "operator_appregistry"


@pytest.mark.parametrize(
    ("subtypes", "kind"),
    [
        ([PACKAGE], OperatorKind.PACKAGE_MANIFESTS),
        ([BUNDLE], OperatorKind.BUNDLE),
        (["something", BUNDLE], OperatorKind.BUNDLE),
        ([PACKAGE, BUNDLE], OperatorKind.BUNDLE),
        ([], OperatorKind.UNKNOWN),
        (["flatpak"], OperatorKind.UNKNOWN),
        (None, OperatorKind.UNKNOWN),
        (BUNDLE, OperatorKind.UNKNOWN),
        ([{}, [], None, PACKAGE], OperatorKind.PACKAGE_MANIFESTS),
    ],
)
def test_the_subtypes_say_what_the_archive_holds(subtypes: Any, kind: OperatorKind) -> None:
    extra = {"typeinfo": {"operator-manifests": {"archive": "a.zip"}}, "osbs_build": {"subtypes": subtypes}}
    assert of_extra(extra).kind == kind


def test_without_an_archive_there_are_no_manifests_whatever_the_subtypes_say() -> None:
    assert of_extra({"osbs_build": {"subtypes": [PACKAGE]}}).kind == OperatorKind.NONE


def test_the_typed_name_of_the_archive_comes_before_the_flat_one() -> None:
    extra = {"typeinfo": {"operator-manifests": {"archive": "new.zip"}}, "operator_manifests_archive": "old.zip"}
    assert (of_extra(extra).archive, of_extra(extra).legacy) == ("new.zip", False)


def test_the_flat_name_alone_is_an_archive_among_the_logs() -> None:
    build = of_extra({"typeinfo": {"image": {}}, "operator_manifests_archive": "old.zip"})
    assert (build.archive, build.legacy, build.kind) == ("old.zip", True, OperatorKind.UNKNOWN)


def test_extra_may_be_json_in_a_string() -> None:
    info = modern()
    assert build_of({**info, "extra": json.dumps(info["extra"])}, None) == build_of(info, None)


@pytest.mark.parametrize(
    "extra",
    [
        None,
        [],
        "",
        "no json",
        "[" * 100_000,
        7,
        {},
        {"typeinfo": None},
        {"typeinfo": []},
        {"typeinfo": {"operator-manifests": None}},
        {"typeinfo": {"operator-manifests": "operator_manifests.zip"}},
        {"typeinfo": {"operator-manifests": {"archive": None}}},
        {"typeinfo": {"operator-manifests": {"archive": ["a.zip"]}}},
        {"typeinfo": {"operator-manifests": {"archive": ""}}},
        {"operator_manifests_archive": 7},
    ],
)
def test_odd_extra_means_no_manifests(extra: Any) -> None:
    build = of_extra(extra)
    assert (build.kind, build.archive, build.legacy) == (OperatorKind.NONE, None, False)


@pytest.mark.parametrize("key", ["id", "nvr", "name", "version", "release", "state"])
@pytest.mark.parametrize("value", [None, "", [], {}, True, 1.5, "x" * 10_000, "a\nb"])
def test_a_build_without_what_makes_it_one_is_no_answer(key: str, value: Any) -> None:
    with pytest.raises(KojiError, match=key) as caught:
        build_of(modern(**{key: value}), None)
    assert caught.value.transient


@pytest.mark.parametrize("info", [(), [], "", "text", 7, True, {}])
def test_what_is_no_build_is_no_answer(info: Any) -> None:
    with pytest.raises(KojiError):
        build_of(info, None)


@pytest.mark.parametrize("value", [None, [], {}, 7, b"x", "x" * 10_000])
def test_an_odd_owner_or_volume_is_unknown(value: Any) -> None:
    build = build_of(modern(owner_name=value, volume_name=value), None)
    assert (build.owner, build.volume) == (None, None)


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        (1795224150.5, datetime(2026, 11, 21, 1, 22, 30, 500000, tzinfo=timezone.utc)),
        (None, None),
        ("1795224150", None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        (10**1000, None),
        (-(10**15), None),
    ],
)
def test_the_time_of_completion_is_known_or_not(timestamp: Any, time: datetime | None) -> None:
    assert build_of(modern(completion_ts=timestamp), None).completed_at == time


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("operator_bundle"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["typeinfo", "operator-manifests", "archive", "osbs_build", "subtypes", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(modern())), ODD), ODD)
@settings(max_examples=300)
def test_whatever_the_hub_says_it_is_a_build_or_no_answer(changes: dict[str, Any], info: Any) -> None:
    for said in (modern(**changes), info):
        try:
            build = build_of(said, None)
        except KojiError:
            continue
        assert build.nvr
        assert (build.kind == OperatorKind.NONE) == (build.archive is None)
