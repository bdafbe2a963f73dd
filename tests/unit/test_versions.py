# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version a release gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.common.errors import OMPSInvalidVersionFormat
from omps_worker.common.model import Build
from omps_worker.destinations import versions

BUILD = Build(id=42, nvr="etcd-container-3.5.1-7", name="etcd-container", version="3.5.1", release="7", state=1)


@pytest.mark.parametrize("text", ["1.0.0", "0.0.0", "10.20.30", "1.0.99999999999999999999"])
def test_three_plain_integers_are_a_version(text):
    assert versions.is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.00.0", "1.0.0\n", " 1.0.0", "1.0.0-rc1", "1.0.0+b5"),
        *("latest", "١.0.0", "1.0.-1", "1..0", "1.0." + "9" * 5000),
    ],
)
def test_anything_else_is_not(text):
    assert not versions.is_valid(text)
    with pytest.raises(OMPSInvalidVersionFormat) as caught:
        versions.checked(text, "here")
    assert not caught.value.transient
    assert len(caught.value.message) < 400


def test_the_next_version_raises_the_major_number_of_the_highest():
    assert versions.increment(["2.5.1", "10.0.0", "9.9.9"], "1.0.0") == "11.0.0"


def test_versions_of_other_forms_do_not_count():
    assert versions.increment(["3.0.0-rc1", "nonsense", "2.0.0", "v9.0.0"], "1.0.0") == "3.0.0"


def test_the_first_version_is_the_default():
    assert versions.increment([], "4.0.0") == "4.0.0"
    assert versions.increment(["latest"], "4.0.0") == "4.0.0"


def test_increment_fixes_no_version():
    assert versions.wanted("increment", BUILD, "1.2.3") is None


def test_csv_takes_the_version_of_the_operator():
    assert versions.wanted("csv", BUILD, "1.2.3") == "1.2.3"


@pytest.mark.parametrize("csv_version", [None, "1.2", "1.2.3-alpha"])
def test_csv_without_a_usable_version_is_an_error_that_says_so(csv_version):
    with pytest.raises(OMPSInvalidVersionFormat, match="CSV"):
        versions.wanted("csv", BUILD, csv_version)


@pytest.mark.parametrize(
    ("template", "expected"),
    [("{version}", "3.5.1"), ("1.{release}.0", "1.7.0"), ("1.0.{build_id}", "1.0.42"), ("2.3.4", "2.3.4")],
)
def test_a_template_puts_the_facts_of_the_build_together(template, expected):
    assert versions.wanted(template, BUILD, None) == expected


def test_a_template_that_gives_no_version_is_an_error_naming_both():
    with pytest.raises(OMPSInvalidVersionFormat, match="etcd-container"):
        versions.wanted("{name}", BUILD, None)


@pytest.mark.parametrize(
    "template", ["{owner}.0.0", "{0}.0.0", "{name.__class__}", "{version!r}", "{release:>9}", "{", "{}"]
)
def test_a_template_cannot_reach_beyond_the_known_names(template):
    with pytest.raises(OMPSInvalidVersionFormat):
        versions.render(template, BUILD)


def test_a_template_needs_its_build():
    with pytest.raises(OMPSInvalidVersionFormat, match="needs version"):
        versions.render("{version}", None)


@given(st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True))))
def test_the_next_version_is_always_valid_and_always_new(existing):
    following = versions.increment(existing, "1.0.0")
    assert versions.is_valid(following)
    assert following not in existing
    assert versions.highest([*existing, following]) == following
