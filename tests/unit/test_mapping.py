# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build goes where."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from omps_worker.common.model import BuildFacts, Target
from omps_worker.configuration.mapping.file import parse
from omps_worker.configuration.mapping.matching import Mapping, Verdict

ETCD = BuildFacts("etcd-operator-container", "etcd-operator-container-1.2-3", "osbs", "example-candidate")
PUBLISH = [{"organization": "community"}]
IGNORE: list[Any] = []


def mapping(*rules: tuple[dict[str, Any], list[Any]]) -> Mapping:
    """A mapping of rules, each what to match and where to publish."""
    document = {"version": 1, "rules": [{"match": match, "publish": publish} for match, publish in rules]}
    return parse(yaml.safe_dump(document), "mapping.yaml", ["community", "internal"])


def rule_of(found: Mapping, facts: BuildFacts) -> int | None:
    """The index of the rule that decides about ``facts``."""
    match = found.resolve(facts)
    return None if match is None else match.rule


def test_a_build_goes_where_the_rule_says() -> None:
    found = mapping(
        (
            {"component": "etcd-*"},
            [
                {"organization": "community", "repository": "etcd"},
                {"organization": "internal", "version": "1.{release}.0"},
            ],
        )
    )
    match = found.resolve(ETCD)
    assert match is not None
    assert match.targets == (Target("community", "etcd", "increment"), Target("internal", None, "1.{release}.0"))
    assert (match.rule, match.superseded) == (0, "skip")
    assert match.rule_text == "rules[0] (component: etcd-*)"


def test_the_first_rule_that_matches_decides() -> None:
    found = mapping(
        ({"component": "prometheus-*"}, PUBLISH),
        ({"component": "etcd-*"}, IGNORE),
        ({"component": "etcd-operator-*"}, PUBLISH),
        ({}, PUBLISH),
    )
    assert rule_of(found, ETCD) == 1
    assert rule_of(found, BuildFacts("bash")) == 3


def test_a_build_that_no_rule_matches_has_no_match() -> None:
    assert mapping(({"component": "x"}, PUBLISH)).resolve(ETCD) is None
    assert mapping().resolve(ETCD) is None


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({}, True),
        ({"component": "etcd-operator-container"}, True),
        ({"component": "etcd-operator"}, False),
        ({"component": "*"}, True),
        ({"component": "etcd-operato?-container"}, True),
        ({"component": "[a-f]tcd*"}, True),
        ({"component": "[!e]tcd*"}, False),
        ({"component": "ETCD*"}, False),
        ({"component": "etcd.operator.container"}, False),
        ({"component": ["bash", "etcd-*"]}, True),
        ({"component": ["bash", "etcd-operator-container"]}, True),
        ({"component": ["bash", "zsh"]}, False),
        ({"nvr": "*-1.2-3"}, True),
        ({"nvr": "*-1.3-*"}, False),
        ({"owner": "osbs"}, True),
        ({"owner": ["o*", "x"]}, True),
        ({"target": "*-candidate"}, True),
        ({"target": "*-scratch"}, False),
        ({"component": "etcd*", "owner": "osbs", "target": "example-*", "nvr": "*"}, True),
        ({"component": "etcd*", "owner": "somebody"}, False),
        ({"component": "x", "owner": "osbs"}, False),
    ],
)
def test_all_globs_that_are_given_must_match(match: dict[str, Any], matches: bool) -> None:
    found = mapping((match, PUBLISH))
    assert (found.resolve(ETCD) is not None) is matches
    assert found.possible(ETCD) is (Verdict.POSSIBLE if matches else Verdict.NO_RULE)


@pytest.mark.parametrize("fact", ["component", "nvr", "owner", "target"])
def test_a_fact_that_is_unknown_may_match_before_koji_and_does_not_after(fact: str) -> None:
    found = mapping(({fact: "*"}, PUBLISH))
    assert found.possible(BuildFacts()) is Verdict.POSSIBLE
    assert found.resolve(BuildFacts()) is None


def test_after_koji_an_unknown_target_falls_through_to_the_next_rule() -> None:
    found = mapping(({"target": "*"}, IGNORE), ({"component": "etcd-*"}, PUBLISH))
    assert rule_of(found, BuildFacts("etcd-operator-container", target=None)) == 1


def test_a_known_fact_that_does_not_match_rules_a_rule_out_whatever_else_is_unknown() -> None:
    found = mapping(({"component": "etcd-*", "owner": "osbs"}, PUBLISH))
    assert found.possible(BuildFacts("bash")) is Verdict.NO_RULE
    assert found.possible(BuildFacts(None, owner="me")) is Verdict.NO_RULE
    assert found.possible(BuildFacts("etcd-x")) is Verdict.POSSIBLE


def test_a_rule_that_ignores_on_purpose_is_told_apart_from_no_rule() -> None:
    found = mapping(({"component": "etcd-*"}, IGNORE), ({"component": "e*"}, PUBLISH))
    assert found.possible(ETCD) is Verdict.IGNORED
    match = found.resolve(ETCD)
    assert match is not None
    assert match.targets == ()


def test_a_rule_that_only_may_ignore_does_not_hide_one_that_may_publish() -> None:
    found = mapping(({"target": "*-scratch"}, IGNORE), ({"component": "etcd-*"}, PUBLISH))
    assert found.possible(BuildFacts("etcd-x")) is Verdict.POSSIBLE
    assert found.possible(BuildFacts("etcd-x", target="x-scratch")) is Verdict.IGNORED
    assert found.possible(BuildFacts("bash", target="x-scratch")) is Verdict.IGNORED
    assert found.possible(BuildFacts("bash", target="x")) is Verdict.NO_RULE


def test_a_rule_claims_no_build_of_which_it_is_not_known_whether_it_matches() -> None:
    found = mapping(({"target": "*-scratch"}, IGNORE), ({"component": "etcd-*"}, IGNORE))
    assert found.possible(BuildFacts("bash")) is Verdict.NO_RULE
    assert found.possible(BuildFacts(None)) is Verdict.NO_RULE
    assert found.possible(BuildFacts("etcd-x")) is Verdict.IGNORED


def test_a_text_of_any_length_is_asked_about_without_being_kept() -> None:
    found = mapping(({"component": "*x"}, PUBLISH))
    for _ in range(3):
        assert found.possible(BuildFacts("a" * 100_000)) is Verdict.NO_RULE
        assert found.possible(BuildFacts("a" * 100_000 + "x")) is Verdict.POSSIBLE


def test_line_breaks_hide_nothing() -> None:
    found = mapping(({"component": "etcd"}, PUBLISH), ({"component": "etc[d]"}, PUBLISH))
    assert found.resolve(BuildFacts("etcd\n")) is None


letters = st.text("ab*?[]!-.", max_size=5)
texts = st.none() | st.text("ab*-.\n", max_size=4)
globs = st.lists(letters.filter(bool), min_size=1, max_size=2)
matches = st.dictionaries(st.sampled_from(["component", "nvr", "owner", "target"]), globs, max_size=3)
rules = st.lists(st.tuples(matches, st.booleans()), max_size=4)
facts = st.builds(BuildFacts, texts, texts, texts, texts)


def plainly(rules: list[tuple[dict[str, list[str]], bool]], facts: BuildFacts) -> int | None:
    """The rule that decides, found as the contract words it."""
    for index, (match, _) in enumerate(rules):
        values = {fact: getattr(facts, fact) for fact in match}
        if all(
            values[fact] is not None and any(fnmatch.fnmatchcase(values[fact], glob) for glob in globs)
            for fact, globs in match.items()
        ):
            return index
    return None


@hypothesis_settings(max_examples=80, deadline=None)
@given(rules=rules, facts=facts)
def test_the_deciding_rule_is_the_one_that_plain_globbing_finds(
    rules: list[tuple[dict[str, list[str]], bool]], facts: BuildFacts
) -> None:
    found = mapping(*((match, PUBLISH if publish else IGNORE) for match, publish in rules))
    assert rule_of(found, facts) == plainly(rules, facts)


@hypothesis_settings(max_examples=80, deadline=None)
@given(rules=rules, known=facts, later=st.builds(BuildFacts, *[st.text("ab-.", max_size=3)] * 4))
def test_what_koji_adds_can_never_publish_a_build_that_was_let_go(
    rules: list[tuple[dict[str, list[str]], bool]], known: BuildFacts, later: BuildFacts
) -> None:
    found = mapping(*((match, PUBLISH if publish else IGNORE) for match, publish in rules))
    whole = BuildFacts(
        *(
            getattr(later, fact) if getattr(known, fact) is None else getattr(known, fact)
            for fact in ("component", "nvr", "owner", "target")
        )
    )
    match = found.resolve(whole)
    if match is not None and match.targets:
        assert found.possible(known) is Verdict.POSSIBLE
    if found.possible(whole) is Verdict.POSSIBLE:
        assert match is not None
        assert match.targets


def test_of_each_rule_before_the_one_that_decides_it_is_told_why_it_does_not() -> None:
    found = parse(
        "version: 1\nrules:\n"
        "  - match: {component: [a-*, b-*], owner: jdeo}\n    publish: []\n"
        "  - match: {target: '*-candidate'}\n    publish: []\n"
        "  - match: {component: c-*}\n    publish: []\n"
        "  - match: {component: d-*}\n    publish: []\n",
        "mapping.yaml",
    )
    assert found.why_not(BuildFacts("c-1", owner="jdoe")) == [
        "rules[0] (line 3): component c-1 is not a-* | b-*; owner jdoe is not jdeo",
        "rules[1] (line 5): target is not known, but must be *-candidate",
    ]
    assert len(found.why_not(BuildFacts("x", owner="jdoe"))) == 4
    assert found.why_not(BuildFacts("a-1", owner="jdeo")) == []
