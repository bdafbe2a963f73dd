# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the mapping file: what it may say, and what is said about the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from omps_worker.common.errors import MappingError, SettingsError
from omps_worker.common.model import BuildFacts, Target
from omps_worker.configuration.mapping.file import load, parse

ORGANIZATIONS = ["community", "internal"]
CATALOGS = ["stable"]


def faults(text: str) -> list[tuple[str, str]]:
    """Key and reason of each fault in ``text``; none if it can be used."""
    try:
        parse(text, "mapping.yaml", ORGANIZATIONS, CATALOGS)
    except MappingError as error:
        return [(fault.key, fault.reason) for fault in error.faults]
    return []


def target(text: str) -> str:
    """A mapping whose only target is ``text``."""
    return f"version: 1\nrules:\n- match: {{}}\n  publish:\n  - {text}\n"


TARGET = "rules[0].publish[0]"


def test_a_target_may_be_a_catalog() -> None:
    text = target("{catalog: stable, repository: etcd, overwrite: heads, graph: semver}")
    mapping = parse(text, "m", ORGANIZATIONS, CATALOGS)
    match = mapping.resolve(BuildFacts("x"))
    assert match is not None
    assert match.targets == (Target(None, "etcd", catalog="stable", overwrite="heads", graph="semver"),)
    assert match.targets[0].label == "catalog:stable/etcd"
    assert (mapping.organizations, mapping.catalogs) == (frozenset(), frozenset({"stable"}))


def test_a_bundle_keeps_its_content_and_its_edges_unless_the_target_says_otherwise() -> None:
    match = parse(target("catalog: stable"), "m", ORGANIZATIONS, CATALOGS).resolve(BuildFacts("x"))
    assert match is not None
    assert match.targets == (Target(None, catalog="stable", overwrite="never", graph="replaces"),)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("{organization: community, catalog: stable}", "", "has an organization and a catalog"),
        ("{repository: etcd}", ".organization", "is missing: a target has an organization or a catalog"),
        ("catalog: nightly", ".catalog", "is not in the configuration (it has stable): add"),
        ("{catalog: stable, version: csv}", ".version", "is for organizations only"),
        ("{organization: community, overwrite: heads}", ".overwrite", "is for catalogs only"),
        ("{catalog: stable, repository: Foo_bar}", ".repository", "cannot be the name of a package in a catalog"),
        ("{catalog: stable, repository: -etcd}", ".repository", "is not a valid name of a repository"),
        ("{organization: community, graph: semver}", ".graph", "is for catalogs only"),
        ("{catalog: stable, overwrite: always}", ".overwrite", "must be one of"),
        ("{catalog: stable, graph: semver-skippatch}", ".graph", "must be one of"),
        ("{catalog: }", ".catalog", "has no value"),
        ("{catalog: stable}\n  - {catalog: stable}", "rules[0].publish[1]", "the same catalog and repository"),
    ],
)
def test_what_a_target_cannot_be_is_a_fault_of_its_key(text: str, key: str, reason: str) -> None:
    found = faults(target(text))
    place = key if key.startswith("rules") else TARGET + key
    assert [(where, reason in why) for where, why in found] == [(place, True)], found


def test_a_catalog_and_an_organization_of_one_name_are_two_targets() -> None:
    mapping = parse(
        target("{organization: stable}\n  - {catalog: stable, repository: etcd}"), "m", ["stable"], CATALOGS
    )
    assert mapping.warnings == ()


def test_the_shortest_mapping_publishes_everything_to_one_organization() -> None:
    match = parse(target("organization: community"), "m", ORGANIZATIONS).resolve(BuildFacts("x"))
    assert match is not None
    assert match.targets == (Target("community", None, "increment"),)
    assert match.superseded == "skip"


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("rules: []", "version", "is missing"),
        ("version: 2\nrules: []", "version", "must be 1"),
        ("version: '1'\nrules: []", "version", "must be 1"),
        ("version: true\nrules: []", "version", "must be 1"),
        ("version: 1.0\nrules: []", "version", "must be 1"),
        ("version: 1", "rules", "is missing"),
        ("version: 1\nrules: {}", "rules", "must be a list"),
        ("version: 1\nrules:", "rules", "must be a list"),
        ("version: 1\nrules: []\nruls: []", "ruls", "did you mean rules"),
        ("version: 1\nrules: [5]", "rules[0]", "must be a table"),
        ("version: 1\nrules: [{publish: []}]", "rules[0].match", "{} matches everything"),
        ("version: 1\nrules: [{match: , publish: []}]", "rules[0].match", "must be a table"),
        ("version: 1\nrules: [{match: {}}]", "rules[0].publish", "[] ignores"),
        ("version: 1\nrules: [{match: {}, publish: }]", "rules[0].publish", "must be a list"),
        ("version: 1\nrules: [{match: {}, publish: community}]", "rules[0].publish", "must be a list"),
        ("version: 1\nrules: [{match: {}, publish: [], superseded: no}]", "rules[0].superseded", "'skip' or 'publish'"),
        ("version: 1\nrules: [{match: {}, publish: [], superseded: }]", "rules[0].superseded", "'skip' or 'publish'"),
        ("version: 1\nrules: [{match: {}, publish: [], when: x}]", "rules[0].when", "not a known key"),
        ("version: 1\nrules: [{match: {component: }, publish: []}]", "rules[0].match.component", "has no value"),
        ("version: 1\nrules: [{match: {component: []}, publish: []}]", "rules[0].match.component", "empty list"),
        ("version: 1\nrules: [{match: {component: ''}, publish: []}]", "rules[0].match.component", "printable"),
        ("version: 1\nrules: [{match: {component: 7}, publish: []}]", "rules[0].match.component", "quotes"),
        ("version: 1\nrules: [{match: {component: [a, 7]}, publish: []}]", "rules[0].match.component", "quotes"),
        ("version: 1\nrules: [{match: {component: {}}, publish: []}]", "rules[0].match.component", "glob"),
        ('version: 1\nrules: [{match: {nvr: "a\\nb"}, publish: []}]', "rules[0].match.nvr", "printable"),
        ("version: 1\nrules: [{match: {componet: a}, publish: []}]", "rules[0].match.componet", "mean component"),
        (target("5"), TARGET, "must be a table"),
        (target("{}"), f"{TARGET}.organization", "is missing"),
        (target("organization: comunity"), f"{TARGET}.organization", "it has community, internal"),
        (target("organization: 5"), f"{TARGET}.organization", "must be text"),
        (target("{organization: community, repository: /x}"), f"{TARGET}.repository", "name of a repository"),
        (target("{organization: community, repository: ../x}"), f"{TARGET}.repository", "name of a repository"),
        (target("{organization: community, repository: ''}"), f"{TARGET}.repository", "name of a repository"),
        (target("{organization: community, repository: }"), f"{TARGET}.repository", "has no value"),
        (target("{organization: community, repository: 5}"), f"{TARGET}.repository", "must be text"),
        (target("{organization: community, channel: x}"), f"{TARGET}.channel", "not a known key"),
    ],
)
def test_what_cannot_be_meant_is_a_fault_of_its_key_with_its_line(text: str, key: str, reason: str) -> None:
    ((found, told),) = faults(text)
    assert found == key
    assert reason in told
    if text.startswith("version: 1\n") and key != "version":
        assert re.search(r"\(line \d+\)", told) or "is missing" in told


@pytest.mark.parametrize(
    "version",
    [
        "increment",
        "csv",
        "{version}",
        "1.{release}.0",
        "{version}.{release}",
        "{build_id}.0.0",
        "1.0.{build_id}",
        "1.2.3",
    ],
)
def test_versions_that_can_be_versions_are_taken(version: str) -> None:
    assert faults(target(f"{{organization: community, version: '{version}'}}")) == []


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("v{version}", "never"),
        ("1.{release}.0-1", "never"),
        ("{version}.0.0.0", "never"),
        ("0{release}.0.0", "never"),
        ("latest", "increment, csv"),
        ("", "increment, csv"),
        ("1.0", "increment, csv"),
        ("{nvr}", "not a known field"),
        ("{}", "not a known field"),
        ("{0}", "not a known field"),
        ("{version.real}", "not a known field"),
        ("{version[0]}", "not a known field"),
        ("{version!r}", "no conversion"),
        ("{release:>3}", "no conversion"),
        ("{version", "template"),
        ("}", "template"),
        ("{release}" * 20, "at most"),
    ],
)
def test_versions_that_can_never_be_versions_are_faults(version: str, reason: str) -> None:
    ((key, told),) = faults(target(f"{{organization: community, version: '{version}'}}"))
    assert key == f"{TARGET}.version"
    assert reason in told


def test_a_version_that_yaml_takes_for_a_number_asks_for_quotes() -> None:
    ((key, told),) = faults(target("{organization: community, version: 1.5}"))
    assert (key, "quotes" in told) == (f"{TARGET}.version", True)


def test_the_same_target_twice_is_a_fault() -> None:
    text = target(
        "{organization: community, repository: x}\n  - {organization: community, repository: x, version: csv}"
    )
    ((key, told),) = faults(text)
    assert key == "rules[0].publish[1]"
    assert "line 6" in told


def test_one_organization_with_two_repositories_is_no_fault() -> None:
    text = target("{organization: community, repository: x}\n  - {organization: community, repository: y}")
    assert faults(text) == []


def test_all_faults_are_told_at_once_with_their_lines() -> None:
    text = (
        "version: 1\n"
        "rules:\n"
        "- match: {component: [a, 1]}\n"
        "  publish:\n"
        "  - organization: nobody\n"
        "    version: v1\n"
        "- match: {}\n"
        "  publish: []\n"
        "  publish: []\n"
        "extra: 1\n"
    )
    assert [(key, told[-8:]) for key, told in faults(text)] == [
        ("rules[1].publish", "(line 8)"),
        ("rules[0].match.component", "(line 3)"),
        ("rules[0].publish[0].version", "(line 6)"),
        ("rules[0].publish[0].organization", "(line 5)"),
        ("extra", "line 10)"),
    ]


def test_a_key_that_stands_twice_is_a_fault_and_not_the_last_one() -> None:
    ((key, told),) = faults("version: 1\nversion: 1\nrules: []")
    assert key == "version"
    assert "is repeated in line 2" in told


def test_anchors_and_merge_keys_work() -> None:
    text = (
        "version: 1\n"
        "rules:\n"
        "- match: {component: a}\n"
        "  publish: &both\n"
        "  - &first {organization: community, version: csv}\n"
        "  - <<: *first\n"
        "    organization: internal\n"
        "- match: {component: b}\n"
        "  publish: *both\n"
    )
    match = parse(text, "m", ORGANIZATIONS).resolve(BuildFacts("b"))
    assert match is not None
    assert match.targets == (Target("community", None, "csv"), Target("internal", None, "csv"))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level + 1}: &a{level + 1} [{', '.join([f'*a{level}'] * 10)}]\n" for level in range(8)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("---\n...\n", "is empty"),
        ("a: [1", "line"),
        ("a: b: c", "line 1, column 5"),
        ("\tx: 1", "line 1"),
        ("a: 1\n---\nb: 1", "another document"),
        ("a: *b", "in quotes"),
        ("a: \0", "line 1"),
        ("[" * 50_000, "nested too deeply"),
        ("{a: " * 50_000, "nested too deeply"),
        ("- " * 50_000, "nested too deeply"),
        ("a: &a [*a]", "endless"),
        ("a: &a {<<: *a}", "endless"),
        (BOMB, "too large"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !ruby x", "tag"),
        ("? [a]\n: 1", "not text"),
        ("1: 2", "not text"),
        ("yes: 2", "not text"),
        ("x: 2024-13-45", "quotes"),
        ("x: " + "9" * 5000, "quotes"),
        ("<<: 5", "merge key"),
        ("just text", "must be a table"),
        ("- 1", "must be a table"),
        ("5", "must be a table"),
    ],
)
def test_what_is_no_mapping_at_all_is_told_in_plain_words(text: str, reason: str) -> None:
    assert reason in " / ".join(told for _, told in faults(text))


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("version: 1\nrules: []", "rules", "every build is ignored"),
        ("version: 1\nrules: [{match: {}, publish: []}, {match: {owner: x}, publish: []}]", "rules[1]", "never decide"),
        (
            "version: 1\nrules: [{match: {owner: x}, publish: []}, {match: {owner: [x]}, publish: []}]",
            "rules[1]",
            "never decide",
        ),
        (
            target("{organization: community}\n  - {organization: community, repository: x}"),
            "rules[0].publish[1]",
            "another target",
        ),
    ],
)
def test_what_is_allowed_but_doubtful_is_a_warning(text: str, key: str, reason: str) -> None:
    (warning,) = parse(text, "mapping.yaml", ORGANIZATIONS).warnings
    assert (warning.file, warning.key) == ("mapping.yaml", key)
    assert reason in warning.reason


def test_without_a_list_of_organizations_any_will_do() -> None:
    parse(target("organization: whoever"), "m", None)


def test_a_mapping_error_is_a_settings_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    with pytest.raises(SettingsError, match="no such file") as caught:
        load(path, ORGANIZATIONS)
    assert caught.value.faults[0].file == str(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a\n\xff", "not UTF-8 text (line 2)"), (b"#" * (2**20 + 1), "more than 1048576 bytes")],
)
def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes(content)
    with pytest.raises(MappingError) as caught:
        load(path, ORGANIZATIONS)
    assert reason in str(caught.value)


def test_a_directory_is_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="not a regular file"):
        load(tmp_path, ORGANIZATIONS)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + target("organization: community").replace("\n", "\r\n").encode())
    assert len(load(path, ORGANIZATIONS)) == 1


PIECES = ["version: 1\n", "rules:\n", "- match: {}\n", "  publish: []\n", "  publish:\n  - organization: community\n"]


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES) | st.text("ab:- {}[]*&!<>|'\"\n#1", max_size=8), max_size=8).map("".join))
def test_any_text_is_a_mapping_or_refused_with_faults(text: str) -> None:
    try:
        mapping = parse(text, "mapping.yaml", ORGANIZATIONS)
    except MappingError as error:
        told = [fault.reason for fault in error.faults]
    else:
        told = [str(len(mapping))]
    assert told
    assert all(told)


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_any_unicode_is_a_mapping_or_refused_with_faults(text: str) -> None:
    with pytest.raises(MappingError):
        parse(text, "mapping.yaml", ORGANIZATIONS)


HARDLY_MEANT = [
    ("otter-[cache-*", "has a [ without a ]"),
    ("otter-cache-.*", "looks like a regular expression"),
    ("^otter", "looks like a regular expression"),
    ("otter$", "looks like a regular expression"),
    ("(otter|lantern)-*", "looks like a regular expression"),
    (r"otter\.cache", "looks like a regular expression"),
]


@pytest.mark.parametrize(("glob", "words"), HARDLY_MEANT)
def test_a_glob_that_hardly_anybody_means_is_a_warning(glob: str, words: str) -> None:
    text = f"version: 1\nrules:\n- match: {{component: '{glob}'}}\n  publish: [{{organization: community}}]\n"
    (warning,) = parse(text, "mapping.yaml", ORGANIZATIONS).warnings
    assert (warning.key, words in warning.reason) == ("rules[0].match.component", True)
    assert "(line 3)" in warning.reason


NO_BUILD = [
    ("otter-cache-operator-container", "is not an NVR (name-version-release) and has no wildcard"),
    ("otter-1.0", "otter-1.0-* matches all builds of a component"),
    ("name:1.0.0-1", "has ':', which no NVR contains"),
    ("quay.example/otter-1.0-*", "has '/', which no NVR contains"),
    ("otter 1.0-1", "has ' ', which no NVR contains"),
    ("ötter-*", "has 'ö', which no NVR contains"),
    ("otter-1.0-1 ", "has a space at its end"),
    (" otter-*", "has a space at its beginning"),
]


@pytest.mark.parametrize("key", ["hold[0]", "rules[0].match.nvr"])
@pytest.mark.parametrize(("glob", "words"), NO_BUILD)
def test_a_glob_that_no_nvr_can_match_is_a_warning(key: str, glob: str, words: str) -> None:
    hold, nvr = (glob, "*") if key == "hold[0]" else ("*", glob)
    text = f"version: 1\nhold: ['{hold}']\nrules:\n- match: {{nvr: '{nvr}'}}\n  publish: []\n"
    (warning,) = parse(text, "mapping.yaml", ORGANIZATIONS).warnings
    assert (warning.key, words in warning.reason) == (key, True)


@pytest.mark.parametrize(
    ("fact", "glob", "words"),
    [
        ("component", "otter-container ", "has a space at its end"),
        ("component", "operators/otter", "has '/', which no name of a component contains"),
        ("owner", "osbs ", "has a space at its end"),
        ("target", " rhaos", "has a space at its beginning"),
        ("owner", "osbs/koji.example.com@EXAMPLE.COM", None),
        ("component", "otter-container", None),
    ],
)
def test_so_it_is_with_globs_on_what_else_is_known_of_a_build(fact: str, glob: str, words: str | None) -> None:
    text = f"version: 1\nrules:\n- match: {{{fact}: '{glob}'}}\n  publish: []\n"
    warnings = parse(text, "mapping.yaml", ORGANIZATIONS).warnings
    assert [words in warning.reason for warning in warnings if words] == ([True] if words else [])
    assert len(warnings) == (1 if words else 0)


@pytest.mark.parametrize(("glob", "words"), HARDLY_MEANT)
def test_such_a_glob_that_is_to_hold_builds_is_a_warning_too(glob: str, words: str) -> None:
    (warning,) = parse(f"version: 1\nhold:\n- etcd-*\n- '{glob}'\n{REST_OF_IT}", "mapping.yaml", ORGANIZATIONS).warnings
    assert (warning.key, words in warning.reason) == ("hold[1]", True)
    assert "(line 4)" in warning.reason


@pytest.mark.parametrize("glob", ["*", "otter-*", "[abc]*", "[!a-c]?", "*-1.*", "gtk+-*", "x-1.0^git1-*", "a~b-1-2"])
def test_globs_as_people_mean_them_are_no_warning(glob: str) -> None:
    text = (
        f"version: 1\nhold: ['{glob}']\nrules:\n- match: {{nvr: '{glob}'}}\n  publish: [{{organization: community}}]\n"
    )
    assert parse(text, "mapping.yaml", ORGANIZATIONS).warnings == ()


def test_a_tab_is_called_a_tab() -> None:
    assert faults("version: 1\nrules:\n\t- match: {}\n") == [
        ("", "is not YAML: there is a tab where only spaces are allowed (line 3, column 1)")
    ]


@pytest.mark.parametrize(
    "value",
    ["*-container", "*", "*.x", "*otter-*", "[*-container]", "[otter-*, *-container]", "[abc]*-container"],
)
def test_a_glob_that_yaml_takes_for_an_alias_asks_for_quotes(value: str) -> None:
    text = f"version: 1\nrules:\n- match: {{}}\n  publish: []\n- match:\n    component: {value}\n  publish: []\n"
    ((key, told),) = faults(text)
    assert key == ""
    assert 'must be in quotes, as in "*-container"' in told
    assert "(line 6, " in told


REST_OF_IT = "rules:\n- match: {}\n  publish: [{organization: community}]\n"


def test_builds_are_held_by_globs_on_their_nvr() -> None:
    found = parse(f"version: 1\nhold: [etcd-1.*, 'otter-2.0-[13]']\n{REST_OF_IT}", "m", ORGANIZATIONS)
    held = ["etcd-1.4-1", "otter-2.0-3"]
    assert [nvr for nvr in [*held, "etcd-2-1", "otter-2.0-2", "x-etcd-1.4-1"] if found.holds(nvr)] == held
    assert not parse(f"version: 1\n{REST_OF_IT}", "m", ORGANIZATIONS).holds("etcd-1.4-1")


def test_organizations_are_paused_by_name_or_all_at_once() -> None:
    one = parse(f"version: 1\npause: [internal, 'catalog:stable']\n{REST_OF_IT}", "m", ORGANIZATIONS)
    assert (one.pauses("internal"), one.pauses("community"), one.pauses("stable")) == (True, False, False)
    every = parse(f"version: 1\npause: ['*']\n{REST_OF_IT}", "m", ORGANIZATIONS)
    assert every.pauses("community")
    assert every.pauses("whatever a client of the API asks for")


KEPT_BACK = f"version: 1\nhold:\n- otter-*\n- etcd-1.4-1\npause: [internal, internal, '*']\n{REST_OF_IT}"


def test_what_is_kept_back_is_so_by_an_entry_that_is_named_with_its_line() -> None:
    found = parse(KEPT_BACK, "m", ORGANIZATIONS).holds_and_pauses
    assert found.holding("etcd-1.4-1") == "hold[1] 'etcd-1.4-1' (line 4)"
    assert found.holding("otter-2-1") == "hold[0] 'otter-*' (line 3)"
    assert found.holding("lantern-2-1") is None
    assert found.pausing("internal") == "pause[0] 'internal' (line 5)"
    assert found.pausing("community") == "pause[2] '*' (line 5)"
    assert found.summary == "2 held, 2 paused"
    assert found.paused() == [
        "pause[0] 'internal' (line 5) pauses internal: builds wait until it is removed from the mapping",
        "pause[2] '*' (line 5) pauses all organizations and catalogs: builds wait until it is removed from the mapping",
    ]


def test_a_catalog_is_paused_by_its_prefixed_name() -> None:
    found = parse(f"version: 1\npause: ['catalog:stable']\n{REST_OF_IT}", "m", ORGANIZATIONS, ["stable"])
    assert (found.pauses("catalog:stable"), found.pauses("catalog:other"), found.pauses("stable")) == (
        True,
        False,
        False,
    )
    assert found.warnings == ()
    assert found.holds_and_pauses.paused() == [
        "pause[0] 'catalog:stable' (line 2) pauses catalog:stable: builds wait until it is removed from the mapping"
    ]


@pytest.mark.parametrize("text", ["hold: []\npause: []\n", "hold:\npause:\n"])
def test_nothing_may_be_held_and_paused(text: str) -> None:
    found = parse(f"version: 1\n{text}{REST_OF_IT}", "m", ORGANIZATIONS)
    assert (found.holds("etcd-1-1"), found.pauses("community")) == (False, False)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("pause: [comunity]", "pause[0]", "'comunity' is not an organization in the configuration"),
        ("pause: ['catalog:nightly']", "pause[0]", "'catalog:nightly' is not a catalog in the configuration"),
        ("pause: community", "pause", "must be a list"),
        ("pause: [7]", "pause", "must be a list"),
        ("pause: ['catalog:']", "pause", "is neither an organization, catalog:NAME nor"),
        ("pause: ['a/b']", "pause", "is neither an organization, catalog:NAME nor"),
        ("hold: [7]", "hold", "must be a glob or a list of globs"),
        ("hold: ['']", "hold", "must be globs of 1 to"),
    ],
)
def test_what_can_hold_or_pause_nothing_is_a_fault(text: str, key: str, reason: str) -> None:
    found = faults(f"version: 1\n{text}\n{REST_OF_IT}")
    assert [(where, reason in why) for where, why in found] == [(key, True)], found
