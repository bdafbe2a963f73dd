# SPDX-License-Identifier: GPL-3.0-or-later
"""How registries say that they want a login, and the scopes of tokens."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.image_registry.challenges import Challenge, challenges_of, merged, scope_of

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ('BEARER Realm = "x" , SERVICE="y"', [("bearer", {"realm": "x", "service": "y"})]),
        (
            'Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a/b:pull,push repository:c:pull",error="e"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t?x=1,2",
                        "service": "s",
                        "scope": "repository:a/b:pull,push repository:c:pull",
                        "error": "e",
                    },
                )
            ],
        ),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate abc==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Basic realm="x", Bearer realm="y",service="z"',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})],
        ),
        (',, Basic realm="x",,', [("basic", {"realm": "x"})]),
        (r'Basic realm="a\"b\\"', [("basic", {"realm": 'a"b\\'})]),
        ('Basic realm="a", realm="b"', [("basic", {"realm": "a"})]),
        ('Basic realm="unfinished', [("basic", {})]),
        ('"garbage"', []),
        ("Bearer realm=, x", [("bearer", {}), ("x", {})]),
    ],
)
def test_a_header_is_read(header: str, expected: list) -> None:
    assert challenges_of(header) == tuple(Challenge(scheme, parameters) for scheme, parameters in expected)


@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES.map(str.lower), VALUES, min_size=1, max_size=4)), max_size=3))
def test_what_is_written_is_read(written: list) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in written
    )
    assert challenges_of(header) == tuple(Challenge(scheme.lower(), parameters) for scheme, parameters in written)


@given(st.text(max_size=200) | st.text(alphabet='Basic Beaer="\\, \t:', max_size=60))
def test_whatever_a_header_has_it_is_read(header: str) -> None:
    for challenge in challenges_of(header):
        assert challenge.scheme == challenge.scheme.lower()
        assert challenge.scopes is not None


@pytest.mark.parametrize(
    "piece", ["a", "a ", "a,", 'a="', "a=b,", "a=\\", '"', " ", "a b=c ", "=" * 9, 'Basic realm="\\\\']
)
def test_a_long_header_takes_no_time(piece: str) -> None:
    began = time.process_time()
    challenges_of(piece * (10**6 // len(piece)))
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("repository:a/b:pull", {"repository:a/b:pull"}),
        ("repository:a:push,pull repository:a:delete", {"repository:a:delete,pull,push"}),
        ("repository(plugin):a:pull", {"repository(plugin):a:pull"}),
        ("registry:catalog:* repository:A:pull repository:a b:pull repository::pull aws", set()),
        ("repository:registry.example.com:5000/a:pull", {"repository:registry.example.com:5000/a:pull"}),
        (
            " ".join(f"repository:r{number}:pull" for number in range(99)),
            {f"repository:r{number}:pull" for number in range(10)},
        ),
    ],
)
def test_scopes_that_are_none_are_not_asked_for(scope: str, expected: set) -> None:
    assert Challenge("bearer", {"scope": scope}).scopes == expected


def test_scopes_of_one_repository_become_one() -> None:
    asked = [scope_of("a", "pull"), scope_of("a", "push", "pull"), scope_of("b", "pull")]
    assert merged(asked) == {"repository:a:pull,push", "repository:b:pull"}
