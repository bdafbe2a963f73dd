# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a package when a build is released to it, or a bundle is deleted from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.errors import PackageValidationError
from omps_worker.destinations.catalog.bundles import tree
from omps_worker.destinations.catalog.bundles.bundle import Bundle
from omps_worker.destinations.catalog.images.image import bundle_image
from omps_worker.destinations.catalog.merge import (
    Graph,
    Merged,
    Overwrite,
    add_bundle,
    bundles_of,
    conflicts,
    merge_tree,
    without,
)
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.packages.package_file import PackageFile, version_text
from tests.support import olm
from tests.support.olm import DATA, bundle, bundle_blob, image, package_blob, small_package, tree_files
from tests.support.trees import tree_of

ADDING = json.loads((DATA / "adding.json").read_text(encoding="utf-8"))
UNKNOWN = {"schema": "acme.notes", "package": "otter", "text": ["kept"]}


def deprecations(*references: tuple[str, str]) -> dict[str, Any]:
    entries = [
        {"reference": {"schema": schema, **({"name": name} if name else {})}, "message": "old"}
        for schema, name in references
    ]
    return {"schema": "olm.deprecations", "package": "otter", "entries": entries}


def plan(*versions: tuple[str, dict[str, Any]], channels: dict[str, str], default: str | None = None) -> tree.TreePlan:
    return tree.plan(tree_of(tree_files(versions, channels, default)))


def released(made: tree.TreePlan, current: PackageFile | None = None, suffix: str = "", **options: Any) -> Merged:
    return merge_tree(current, made, {each.name: image(suffix + each.name) for each in made.bundles}, **options)


def add(current: PackageFile | None, added: Bundle, graph: Graph = Graph.REPLACES, **options: Any) -> Merged:
    return add_bundle(current, added, options.pop("as_image", image(added.name)), graph, **options)


def members(merged: Merged) -> dict[str, list[str]]:
    return {each["name"]: [entry["name"] for entry in each["entries"]] for each in merged.package.channels}


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(PackageValidationError) as caught:
        add(*arguments, **options)
    assert not caught.value.transient
    return caught.value.message


@pytest.mark.parametrize("graph", Graph)
@pytest.mark.parametrize("series", ADDING)
def test_bundles_are_added_one_by_one_as_opm_adds_them(series: str, graph: Graph) -> None:
    current: PackageFile | None = None
    highest: dict[str, str] = {}
    for step in ADDING[series][graph.value]:
        wanted = step["add"]
        package = f"acme-{series}"
        added = bundle(wanted["version"], wanted["channels"], wanted["default"], package)
        try:
            merged = add(current, added, graph)
            refused = merged.superseded
        except PackageValidationError:
            refused = True
        assert refused == step["refused"]
        if not refused:
            current = merged.package
        expected = {
            name: sorted(entries, key=lambda entry: entry["name"]) for name, entries in step["channels"].items()
        }
        assert {
            each["name"]: sorted(each["entries"], key=lambda entry: entry["name"]) for each in current.channels
        } == expected
        if graph is Graph.REPLACES:
            assert current.default_channel == step["default_channel"]
        if not refused and added.default_channel:
            highest[added.default_channel] = max(highest.get(added.default_channel, ""), wanted["version"])
            assert current.default_channel == max(highest, key=lambda channel: highest[channel])
        assert rules.faults(current.blobs()) == []


def test_the_first_build_of_a_tree_makes_the_package():
    made = plan(("1.0.0", {}), ("1.1.0", {"replaces": "otter.v1.0.0"}), channels={"stable": "otter.v1.1.0"})

    merged = released(made)

    assert members(merged) == {"stable": ["otter.v1.1.0", "otter.v1.0.0"]}
    assert merged.package.heads() == {"stable": "otter.v1.1.0"}
    assert merged.dropped == ()


def test_the_same_build_again_gives_the_same_file():
    made = plan(("1.0.0", {}), channels={"stable": "otter.v1.0.0"})
    first = released(made)

    again = released(made, PackageFile.parse(first.package.data()))

    assert again.package.digest == first.package.digest


def test_a_tree_replaces_the_package_and_tells_what_is_gone():
    made = plan(("2.0.0", {}), channels={"fast": "otter.v2.0.0"})

    merged = released(made, small_package())

    assert members(merged) == {"fast": ["otter.v2.0.0"]}
    assert merged.dropped == ("otter.v1.0.0", "otter.v1.1.0")


def test_deprecations_and_blobs_of_other_schemas_outlive_a_tree_as_far_as_they_refer_to_what_is_there():
    current = small_package(
        deprecations(("olm.package", ""), ("olm.bundle", "otter.v1.0.0"), ("olm.channel", "stable")), UNKNOWN
    )
    made = plan(("1.1.0", {}), channels={"stable": "otter.v1.1.0"})

    merged = released(made, current, overwrite=Overwrite.HEADS)

    assert merged.package.deprecations == (deprecations(("olm.package", ""), ("olm.channel", "stable")),)
    assert merged.package.others == (UNKNOWN,)


def test_deprecations_of_nothing_that_is_left_go_altogether():
    current = small_package(deprecations(("olm.bundle", "otter.v1.0.0")))
    made = plan(("2.0.0", {}), channels={"stable": "otter.v2.0.0"})

    assert released(made, current).package.deprecations == ()


def test_a_version_with_other_content_is_refused_and_both_digests_are_named():
    made = plan(("1.0.0", {}), ("1.1.0", {"replaces": "otter.v1.0.0"}), channels={"stable": "otter.v1.1.0"})

    with pytest.raises(PackageValidationError) as caught:
        released(made, small_package(), suffix="other-")

    first = caught.value.details["findings"][0]
    assert image("otter.v1.0.0").partition("@")[2] in first
    assert image("other-otter.v1.0.0").partition("@")[2] in first
    assert "overwrite: never keeps" in first
    assert "overwrite: heads would keep it too" in first, "the catalog's other bundle replaces it"
    second = caught.value.details["findings"][1]
    assert second.endswith("give the CSV a new version, or set overwrite: heads for this catalog in the mapping")
    assert len(caught.value.details["findings"]) == 2


def test_the_same_digest_elsewhere_is_the_same_content():
    made = plan(("1.1.0", {}), channels={"stable": "otter.v1.1.0"})
    moved = image("otter.v1.1.0").replace("registry.example", "mirror.example")

    merged = merge_tree(small_package(), made, {"otter.v1.1.0": moved})

    assert merged.package.bundle("otter.v1.1.0")["image"] == moved


def test_heads_may_be_overwritten_and_what_is_replaced_may_not():
    head = plan(("1.1.0", {"replaces": "otter.v1.0.0"}), channels={"stable": "otter.v1.1.0"})
    below = plan(("1.0.0", {}), channels={"stable": "otter.v1.0.0"})

    merged = released(head, small_package(), "other-", overwrite=Overwrite.HEADS)
    assert merged.package.bundle("otter.v1.1.0")["image"] == image("other-otter.v1.1.0")

    with pytest.raises(PackageValidationError, match=r"otter.v1.0.0 .*replaces or skips it"):
        released(below, small_package(), "other-", overwrite=Overwrite.HEADS)


def test_one_version_under_two_names_is_a_conflict():
    renamed = bundle("1.1.0", name="badger.v1.1.0", replaces="otter.v1.0.0")

    told = refusal(small_package(), renamed)
    assert "otter.v1.1.0 (1.1.0) is in the catalog with other content" in told, "not the one that it lacks"
    assert "in this build, as badger.v1.1.0 (1.1.0)." in told
    merged = add(small_package(), renamed, overwrite=Overwrite.HEADS)

    assert members(merged) == {"stable": ["badger.v1.1.0", "otter.v1.0.0"]}
    assert merged.dropped == ("otter.v1.1.0",)


def test_long_names_push_neither_digests_nor_advice_out_of_the_refusal():
    long = bundle("1.1.0", name="b" * 250, replaces="otter.v1.0.0")

    told = refusal(small_package(), long)

    assert told.count("sha256:") == 2
    assert told.rstrip(".").endswith("in the mapping")


def test_labels_alone_make_another_image_and_the_labels_of_the_present_one_show_that_nothing_else_changed():
    one = plan(("1.0.0", {}), channels={"stable": "otter.v1.0.0"}).bundles[0]
    two = plan(("1.0.0", {}), channels={"stable": "otter.v1.0.0", "fast": "otter.v1.0.0"}, default="stable").bundles[0]

    present, new = bundle_image(one.files, one.labels)[0], bundle_image(two.files, two.labels)[0]
    again = tree.relabelled(two, one.labels)

    assert present.digest != new.digest
    assert bundle_image(again.files, again.labels)[0].digest == present.digest


def test_there_is_no_conflict_with_a_catalog_that_is_not_there():
    assert conflicts(None, small_package().bundles) == []
    assert conflicts(small_package(), small_package().bundles) == []


def test_a_bundle_becomes_the_head_and_what_it_does_not_reach_is_dropped():
    merged = add(
        small_package(),
        bundle("1.2.0", replaces="otter.v1.0.0", metadata={"annotations": {"olm.skipRange": ">=1.0.0 <1.2.0"}}),
    )

    assert merged.package.channel("stable")["entries"] == [
        {"name": "otter.v1.2.0", "replaces": "otter.v1.0.0", "skipRange": ">=1.0.0 <1.2.0"},
        {"name": "otter.v1.0.0"},
    ]
    assert merged.dropped == ("otter.v1.1.0",)


def test_what_is_skipped_stays_in_the_channel():
    merged = add(small_package(), bundle("1.2.0", replaces="otter.v1.0.0", skips=["otter.v1.1.0"]))

    assert members(merged) == {"stable": ["otter.v1.2.0", "otter.v1.0.0", "otter.v1.1.0"]}
    assert merged.dropped == ()


def test_a_bundle_that_the_head_leads_to_is_put_below_it():
    current = add(None, bundle("2.0.0", replaces="otter.v1.0.0")).package

    merged = add(current, bundle("1.0.0"))

    assert members(merged) == {"stable": ["otter.v2.0.0", "otter.v1.0.0"]}


def test_a_bundle_that_no_channel_reaches_changes_nothing():
    current = small_package()

    merged = add(current, bundle("1.0.5"))

    assert merged.superseded
    assert merged.package is current


def test_a_bundle_that_is_there_is_added_again_without_a_change():
    current = add(add(None, bundle("1.0.0")).package, bundle("1.1.0", replaces="otter.v1.0.0")).package

    for again in (bundle("1.0.0"), bundle("1.1.0", replaces="otter.v1.0.0")):
        for graph in Graph:
            assert add(current, again, graph).package.digest == current.digest


def test_what_a_channel_becomes_does_not_depend_on_the_order_of_the_channels_in_the_label():
    current = package_of(
        olm.channel("a", {"name": "otter.v1.1.0", "replaces": "otter.v1.0.0"}, "otter.v1.0.0"),
        olm.channel("b", {"name": "otter.v1.3.0", "replaces": "otter.v1.1.0"}),
        versions=("1.0.0", "1.1.0", "1.3.0"),
    )
    for channels in ("a,b", "b,a"):
        assert members(add(current, bundle("1.2.0", channels, "a"))) == {
            "a": ["otter.v1.2.0"],
            "b": ["otter.v1.3.0", "otter.v1.1.0", "otter.v1.0.0"],
        }


def test_many_channels_of_a_bundle_share_its_entry():
    """Its edges are in memory once, and a catalog that would not hold them all is refused before it is written."""
    names = [f"c{number}" for number in range(1000)]
    chosen = ",".join(names)

    merged = add(None, bundle("1.0.0", chosen, "c0"))
    assert len({id(entry) for each in merged.package.channels for entry in each["entries"]}) == 1
    skips = [f"otter.v0.0.{number}.{'x' * 200}" for number in range(2000)]
    assert "its channels have more than" in refusal(None, bundle("1.0.0", chosen, "c0", skips=skips))


def test_the_default_channel_moves_with_the_highest_version_only():
    current = small_package()

    assert add(current, bundle("1.2.0", "fast", "fast")).package.default_channel == "fast"
    assert add(current, bundle("0.9.0", "fast", "fast")).package.default_channel == "stable"
    assert add(current, bundle("1.2.0", "fast", "")).package.default_channel == "stable"


def test_a_default_channel_without_bundles_waits_until_there_are_some():
    assert add(None, bundle("1.0.0", "fast", "")).package.default_channel == "fast"
    assert add(None, bundle("1.0.0", "slow,fast", "")).package.default_channel == "fast"
    first = add(None, bundle("1.0.0", "slow,fast", "stable")).package
    assert first.default_channel == "fast"
    assert add(first, bundle("1.1.0", "slow", "stable")).package.default_channel == "fast"
    assert add(first, bundle("1.1.0", "stable", "stable")).package.default_channel == "stable"


def test_the_icon_is_that_of_the_head_of_the_default_channel():
    icon = {"base64data": "AAAA", "mediatype": "image/png"}
    with_icon = add(None, bundle("1.0.0", icon=[icon])).package
    assert with_icon.package["icon"] == icon

    assert add(with_icon, bundle("1.1.0", "fast", "stable")).package.package["icon"] == icon
    assert "icon" not in add(with_icon, bundle("1.1.0")).package.package


def test_semver_orders_versions_without_edges_and_keeps_skip_ranges():
    ranged = {"annotations": {"olm.skipRange": "<1.1.0"}}
    current: PackageFile | None = None
    for version in ("1.1.0", "1.0.0", "1.0.0-rc.1"):
        merged = add(
            current, bundle(version, metadata=ranged if version == "1.1.0" else {}, replaces="other"), Graph.SEMVER
        )
        current = merged.package
        assert merged.dropped == ()

    assert current.channel("stable")["entries"] == [
        {"name": "otter.v1.1.0", "replaces": "otter.v1.0.0", "skipRange": "<1.1.0"},
        {"name": "otter.v1.0.0", "replaces": "otter.v1.0.0-rc.1"},
        {"name": "otter.v1.0.0-rc.1"},
    ]


def test_semver_refuses_a_version_that_is_equal_in_precedence():
    current = add(None, bundle("1.0.0"), Graph.SEMVER).package

    assert "versions 1.0.0 and 1.0.0+2 of channel stable are equal" in refusal(current, bundle("1.0.0+2"), Graph.SEMVER)


VERSIONS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "-rc.1", "-rc.2"])), unique=True, max_size=8
)


@given(VERSIONS, st.randoms(use_true_random=False))
def test_in_whatever_order_bundles_come_semver_gives_the_same_package(numbers, random):
    versions = [f"{major}.{minor}.0{suffix}" for major, minor, suffix in numbers]
    digests = set()
    for _ in range(2):
        random.shuffle(versions)
        current: PackageFile | None = None
        for version in versions:
            current = add(current, bundle(version), Graph.SEMVER).package
        digests.add(current.digest if current else None)

    assert len(digests) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["a", "b", "a,b"])), max_size=8))
def test_whatever_is_added_the_package_stays_valid_and_the_head_is_the_highest(steps):
    current: PackageFile | None = None
    best: dict[str, int] = {}
    for version, replaced, channels in steps:
        added = bundle(f"{version}.0.0", channels, "a", replaces=f"otter.v{replaced}.0.0")
        try:
            merged = add(current, added)
        except PackageValidationError:
            continue
        if merged.superseded:
            continue
        current = merged.package
        for channel in channels.split(","):
            best[channel] = max(best.get(channel, 0), version)
        assert rules.faults(current.blobs()) == []
        assert current.heads() == {channel: f"otter.v{number}.0.0" for channel, number in best.items()}


def test_a_bundle_of_another_package_or_without_channels_is_refused():
    assert "is of package badger, not of otter" in refusal(small_package(), bundle(package="badger"))
    assert "no package or no channels" in refusal(None, bundle(channels=""))
    assert "no package or no channels" in refusal(None, bundle(channels="a,,b"))


def test_nothing_is_added_to_a_package_that_is_broken():
    broken = PackageFile.of([*small_package().blobs(), {"schema": "olm.channel", "name": "x", "package": "otter"}])

    assert "The package in the catalog is not valid" in refusal(broken, bundle("2.0.0"))


def package_of(*blobs: dict[str, Any], versions: tuple[str, ...]) -> PackageFile:
    bundles = [bundle_blob(f"otter.v{version}", version) for version in versions]
    return PackageFile.of([package_blob("a"), *blobs, *bundles])


WITH_OBJECTS = {"properties": [*bundle_blob("x", "1.0.0")["properties"], {"type": "olm.bundle.object", "value": {}}]}


@pytest.mark.parametrize("more", [{}, {"image": None}, {"image": ""}])
def test_a_bundle_that_holds_its_objects_itself_has_other_content_than_one_with_an_image(more: dict[str, Any]) -> None:
    """Other programs write such bundles, and opm takes them."""
    blob = {**bundle_blob("otter.v1.0.0", "1.0.0", **WITH_OBJECTS), "image": None, **more}
    current = PackageFile.of([package_blob(), olm.channel("stable", "otter.v1.0.0"), blob])
    rules.check(current)

    assert "no image there" in refusal(current, bundle())
    (bundle_after,) = add(current, bundle(), overwrite=Overwrite.HEADS).package.bundles
    assert bundle_after["image"] == image("otter.v1.0.0")


def maybe(name: str, *values: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A key that may be missing or have one of the values."""
    return st.sampled_from([{}, *({name: value} for value in values)])


REFERENCES = st.builds(
    lambda schema, name: {"schema": schema, **name},
    st.sampled_from(["olm.package", "olm.bundle", "olm.channel"]),
    maybe("name", None, "", "otter.v1.0.0", "stable"),
)
ENTRIES = st.lists(st.builds(lambda reference: {"reference": reference, "message": "old"}, REFERENCES), max_size=2)


@st.composite
def odd_packages(draw: st.DrawFn) -> PackageFile:
    """A package with what other programs may have written in places that builds do not fill so."""
    bundles, entries = [], []
    for number in range(draw(st.integers(1, 3))):
        name, value = f"otter.v1.{number}.0", {"packageName": "otter", "version": f"1.{number}.0"}
        properties = [
            {"type": "olm.package", "value": {**value, **draw(maybe("release", None, ""))}},
            *draw(st.sampled_from([[], [{"type": "olm.bundle.object", "value": {}}], [{"type": "x", "value": None}]])),
        ]
        blob = {"schema": "olm.bundle", "name": name, "package": "otter", "properties": properties}
        blob |= draw(maybe("image", None, "", image(name))) | draw(maybe("relatedImages", None, [], [{}]))
        bundles.append(blob)
        below = f"otter.v1.{number - 1}.0"
        edges = draw(maybe("skips", None, [], [below])) | draw(maybe("skipRange", None, "", "<1.0.0"))
        entries.append(
            {"name": name, **({"replaces": below} if number else draw(maybe("replaces", None, ""))), **edges}
        )
    deprecated = {"schema": "olm.deprecations", "package": "otter"} | draw(
        maybe("entries", None, []) | ENTRIES.map(lambda listed: {"entries": listed})
    )
    more = draw(st.sampled_from([[], [deprecated], [{"schema": "x"}], [deprecated, {"schema": "x", "name": ""}]]))
    package = package_blob(**draw(maybe("icon", None, {})), **draw(maybe("description", None)))
    return PackageFile.of(
        [package, {**olm.channel("stable", *entries), **draw(maybe("properties", None))}, *bundles, *more]
    )


@given(odd_packages(), st.sampled_from(["1.0.0", "1.1.0", "2.0.0"]), st.sampled_from(Overwrite), st.sampled_from(Graph))
def test_whatever_opm_takes_can_be_changed_or_is_refused(current, version, overwrite, graph):
    try:
        rules.check(current)
    except PackageValidationError:
        return
    name = f"otter.v{version}"
    made = plan((version, {}), channels={"stable": name})
    for change in (
        lambda: released(made, current, overwrite=overwrite),
        lambda: add(current, bundle(version), graph, overwrite=overwrite),
        lambda: add(current, bundle(version, "fast", "fast", replaces="otter.v1.0.0"), graph, overwrite=overwrite),
        lambda: without(current, bundles_of(current, version)),
    ):
        try:
            merged = change()
        except PackageValidationError:
            continue
        assert merged.package is None or rules.faults(merged.package.blobs()) == []
    there = [version_text(each) for each in current.bundles]
    assert len(conflicts(current, [bundle(version).blob(image("other"))])) == there.count(version)


def test_a_head_can_be_deleted():
    merged = without(small_package(deprecations(("olm.bundle", "otter.v1.1.0"))), ["otter.v1.1.0"])

    assert members(merged) == {"stable": ["otter.v1.0.0"]}
    assert merged.dropped == ("otter.v1.1.0",)
    assert merged.package.deprecations == ()


def test_the_last_bundle_takes_the_package_with_it():
    merged = without(small_package(), ["otter.v1.0.0", "otter.v1.1.0"])

    assert merged.package is None
    assert merged.dropped == ("otter.v1.0.0", "otter.v1.1.0")


def test_what_others_are_reached_through_cannot_be_deleted():
    current = add(small_package(), bundle("1.2.0", replaces="otter.v1.1.0")).package

    with pytest.raises(PackageValidationError, match=r"The rest of the package .* 2 heads"):
        without(current, ["otter.v1.1.0"])


def test_the_default_channel_cannot_be_deleted_while_others_stay():
    current = add(small_package(), bundle("0.1.0", "fast", "fast")).package

    with pytest.raises(PackageValidationError, match="default channel stable does not exist"):
        without(current, ["otter.v1.0.0", "otter.v1.1.0"])
    assert members(without(current, ["otter.v0.1.0"])).keys() == {"stable"}


def test_a_version_names_its_bundles_with_or_without_release():
    released_twice = PackageFile.of(
        [
            *small_package().blobs(),
            {
                **small_package().bundles[0],
                "name": "otter-v3.0.0-1",
                "properties": [
                    {"type": "olm.package", "value": {"packageName": "otter", "version": "3.0.0", "release": "1"}}
                ],
            },
        ]
    )

    assert bundles_of(released_twice, "1.0.0") == ["otter.v1.0.0"]
    assert bundles_of(released_twice, "otter.v1.1.0") == ["otter.v1.1.0"]
    assert bundles_of(released_twice, "3.0.0") == bundles_of(released_twice, "3.0.0-1") == ["otter-v3.0.0-1"]
    assert bundles_of(released_twice, "4.0.0") == []
