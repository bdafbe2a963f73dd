# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, ranges of versions, and references to images."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.grammars.references import digest_fault, digest_of, reference_fault
from omps_worker.destinations.catalog.grammars.versions import parse_release, parse_version, range_fault, tag_of

SHA256 = "sha256:" + "0123456789abcdef" * 4
IN_ORDER = (
    "0.9.9", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
    "1.0.0-rc.1", "1.0.0", "1.0.0+2", "1.0.0+10", "1.0.0+a", "1.0.1-0", "1.0.1", "1.10.0", "18446744073709551615.0.0",
)  # fmt: skip
NO_VERSIONS = (
    "", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0-a..b", "1.0.0+a+b", "1.0.0 ", "1.0.0-ä",
    "18446744073709551616.0.0", "1.0.0-18446744073709551616", "1.0.0.0", "1.x", "1.0.0\n", "٣.0.0", "1" * 600 + ".0.0",
)  # fmt: skip


@given(st.permutations(IN_ORDER))
def test_versions_stand_in_the_order_of_precedence_and_build_metadata_decides_last(versions):
    assert [str(version) for version in sorted(map(parse_version, versions))] == list(IN_ORDER)


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_what_is_no_semantic_version_is_refused(text):
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_version(text)


def test_build_metadata_makes_another_version_of_equal_precedence():
    one, other = parse_version("1.0.0"), parse_version("1.0.0+2")

    assert one != other
    assert one.precedence == other.precedence
    assert one < other


def test_a_release_is_part_of_the_version():
    first, second = parse_version("1.0.0", "2"), parse_version("1.0.0", "10")

    assert (str(first), first < second, first.precedence == second.precedence) == ("1.0.0-2", True, False)
    assert parse_version("1.0.0") < first
    assert len({first, second, parse_version("1.0.0", "2")}) == 2
    for release in ("01", "a..b", "a+b", "1" * 21):
        with pytest.raises(ValueError):
            parse_release(release)


def test_a_tag_has_no_plus():
    assert tag_of("1.0.0+12") == "v1.0.0-12"
    assert tag_of("1.0.0", "2") == "v1.0.0-2"


NUMBERS = st.integers(0, 2**64 - 1)
IDENTIFIERS = st.lists(
    st.from_regex("[0-9A-Za-z-]{1,6}", fullmatch=True).filter(lambda each: not re.fullmatch("0[0-9]+", each)),
    max_size=3,
)


@given(NUMBERS, NUMBERS, NUMBERS, IDENTIFIERS, IDENTIFIERS)
def test_a_version_is_written_as_it_was_read(major, minor, patch, pre, build):
    text = f"{major}.{minor}.{patch}" + (f"-{'.'.join(pre)}" if pre else "") + (f"+{'.'.join(build)}" if build else "")

    assert str(parse_version(text)) == text


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_version_or_is_refused(version, release):
    with contextlib.suppress(ValueError):
        assert str(parse_version(version, release)).startswith(version)


RANGES = (
    ">=1.0.0 <2.0.0", ">= 1.0.0", "1.0.0", "=1.0.0", "==1.0.0", "!1.0.0", "!=1.0.0", ">1.0.0", "<=1.0.0-rc.1+3", "1.x",
    "1.2.x", "1.x.x", ">1.2.x", "<=1.x", "!1.2.x", ">=0.1.0  <0.2.0", " 1.0.0", "<1.0.0 || >=2.0.0", "1.0.0 - 2.0.0",
    "~>1.x", "~1.2.x", ">=1.0.0 <", ">=1.0.0-next", "< 1.0.0 || > 2.0.0 !2.1.0", ">\t1.0.0",
)  # fmt: skip
NO_RANGES = (
    "", " ", "1", "x", "*", "1.0", "^1.0.0", "~1.0.0", ">=v1.0.0", "=<1.0.0", "><1.0.0", ">=1.0.0,<2.0.0",
    ">=1||<2", "||1.0.0", "|| 1.0.0", "1.0.0 ||", "1.0.0 || || 2.0.0", "1.0.0-next", ">1.0.0-next", "1.0.0 and 2.0.0",
    "1.0.0||2.0.0", "\u00a01.0.0", ">=01.0.0", "99999999999999999999.x", "9223372036854775807.x",
)  # fmt: skip


@pytest.mark.parametrize("text", RANGES)
def test_ranges_that_the_library_of_opm_takes_are_taken(text):
    assert range_fault(text) is None


@pytest.mark.parametrize("text", NO_RANGES)
def test_ranges_that_the_library_of_opm_refuses_are_refused(text):
    assert range_fault(text).isprintable()


SIMPLE = st.tuples(st.sampled_from(["", "=", "==", "!", "!=", "<", "<=", ">", ">="]), NUMBERS, NUMBERS, NUMBERS)


@given(st.lists(st.lists(SIMPLE, min_size=1, max_size=3), min_size=1, max_size=3))
def test_comparisons_joined_by_blanks_and_bars_are_a_range(alternatives):
    text = " || ".join(
        " ".join(f"{operator}{major}.{minor}.{patch}" for operator, major, minor, patch in each)
        for each in alternatives
    )

    assert range_fault(text) is None


@given(st.text(st.sampled_from("<>=!~^|x.019 -+a"), max_size=20))
def test_any_text_is_a_range_or_is_refused(text):
    fault = range_fault(text)

    assert fault is None or (fault.isprintable() and len(fault) < 300)


def test_a_very_long_range_is_refused():
    assert "more than" in range_fault(">=1.0.0 " * 1000)


REFERENCES = (
    "etcd", "library/etcd", "quay.io/acme/etcd", "quay.io/acme/etcd:v1.0.0", f"quay.io/acme/etcd@{SHA256}",
    f"quay.io/acme/etcd:v1@{SHA256}", "localhost/etcd", "localhost:5000/etcd", "registry:5000/a/b/c",
    "Registry.Example/a", "a_b.c/d", "index.docker.io/a", "a/b__c/d-e--f/g.h_i", "a:T_1.x-y", "docker.io/a",
    "127.0.0.1:5000/a", "x" * 200,
)  # fmt: skip
NO_REFERENCES = (
    "", "/", "a/", "/a", "a//b", "UPPER", "quay.io/Upper/a", "a:", "a:-x", "a@", f"a@@{SHA256}", "a@sha256:abc", "a b",
    f"a@{SHA256.upper()}", f"a@md5:{'0' * 32}", "a/_b", "a/b_", "a/b..c", "a/b___c", "-a.io/b", "a-.io/b", "a..b/c",
    "a.io:/b", "a.io:x/b", "[::1]:5000/a", "A/b", "0" * 64, "http://quay.io/a", "a:" + "t" * 129, "x" * 260,
    "a" * 2000, "ä/b", "a\n",
)  # fmt: skip


@pytest.mark.parametrize("text", REFERENCES)
def test_references_to_images_are_taken(text):
    assert reference_fault(text) is None


@pytest.mark.parametrize("text", NO_REFERENCES)
def test_what_is_no_reference_is_refused(text):
    assert reference_fault(text).isprintable()


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
HOST = st.from_regex(r"[a-z0-9]{1,4}(\.[a-zA-Z0-9]([a-z-]{0,3}[a-z])?){1,2}(:[0-9]{1,5})?", fullmatch=True)


@given(
    HOST,
    st.lists(COMPONENT, min_size=1, max_size=3),
    st.none() | st.from_regex(r"[A-Za-z0-9_][\w.-]{0,9}", fullmatch=True).filter(str.isascii),
    st.booleans(),
)
def test_host_path_tag_and_digest_together_are_a_reference(host, path, tag, pinned):
    text = f"{host}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{SHA256}" if pinned else "")

    assert reference_fault(text) is None
    assert digest_of(text) == (SHA256 if pinned else "")


@given(st.text(st.sampled_from("aA0._-/:@[]") | st.characters(), max_size=40))
def test_any_text_is_a_reference_or_is_refused(text):
    fault = reference_fault(text)

    assert fault is None or fault.isprintable()
    assert fault is not None or text.isascii()


@pytest.mark.parametrize("algorithm", [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_a_digest_has_as_many_digits_as_its_algorithm_makes(algorithm):
    name, length = algorithm

    assert digest_fault(f"{name}:{'a' * length}") is None
    for wrong in ("a" * (length - 1), "a" * (length + 1), "A" * length, "g" * length):
        assert digest_fault(f"{name}:{wrong}") is not None


def test_a_version_that_is_too_long_is_told_as_that():
    with pytest.raises(ValueError, match=r"^has more than 500 characters$"):
        parse_version("1.0.0-" + "a" * 500)
