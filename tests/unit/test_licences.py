# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be distributed together with omps-worker, and what is said where it may not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from scripts.distributions import needed
from scripts.licences import FIT, JUDGED, SAID, faults, is_fit, licence_of
from tests.support.distributions import distribution


@pytest.mark.parametrize(
    ("expression", "fit"),
    [
        ("MIT", True),
        ("SSPL-1.0", False),
        ("GPL-2.0-only", False),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("SSPL-1.0 OR MIT", True),
        ("SSPL-1.0 AND MIT", False),
        ("MIT AND (SSPL-1.0 OR ISC)", True),
        ("MIT OR SSPL-1.0 AND SSPL-1.0", True),
        ("(MIT OR ISC) AND SSPL-1.0", False),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("mit", False),
    ],
)
def test_an_expression_is_fit_when_one_of_its_choices_is_wholly_fit(expression, fit):
    assert is_fit(expression) is fit


@pytest.mark.parametrize("expression", ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH"])
def test_what_is_no_expression_is_said_to_be_none(expression):
    with pytest.raises(ValueError):
        is_fit(expression)
    assert len(faults([distribution(expression=expression or "OR")])) == 1


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"expression": "MIT", "licence": "GPLv2+"}, "MIT"),
        ({"licence": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"licence": "mpl-2.0"}, "MPL-2.0"),
        ({"licence": "Copyright (c) 2014", "classifiers": ("OSI Approved :: MIT License",)}, "MIT"),
        ({"licence": "BSD"}, None),
        ({"classifiers": ("OSI Approved :: BSD License",)}, None),
        ({}, None),
        ({"name": "koji", "licence": "LGPLv2 and GPLv2+"}, JUDGED["koji"][0]),
    ],
)
def test_the_clearest_word_of_a_distribution_counts_and_a_vague_one_does_not(about, expected):
    assert licence_of(distribution(**about)) == expected


def test_an_unknown_licence_is_told_with_what_to_do():
    unclear, unfit = faults(
        [
            distribution("vague", licence="do what you like\x1b[31m"),
            distribution("closed", "2.1", expression="SSPL-1.0"),
            distribution("fine", expression="MIT"),
        ]
    )
    assert unclear.startswith("vague 1.0: its licence is not clear; it says: do what you like?[31m.")
    assert "JUDGED in scripts/licences.py" in unclear
    assert unfit.startswith("closed 2.1: SSPL-1.0 is not known to be compatible with GPL-3.0-or-later.")
    assert "FIT in scripts/licences.py" in unfit


def test_every_name_in_the_tables_leads_to_a_licence_with_a_reason():
    assert set(SAID.values()) <= set(FIT)
    assert all(FIT.values())
    assert all(is_fit(expression) and reason for expression, reason in JUDGED.values())
    assert all(words == words.lower() for words in SAID)


def test_what_is_needed_is_followed_through_extras_and_markers():
    known = {
        "root": distribution("root", requires=("a[fast]", 'old; python_version < "3"', 'b; extra == "api"', "c-d>=1")),
        "a": distribution("a", requires=('speed; extra == "fast"', "root")),
        **{name: distribution(name) for name in ("b", "c-d", "speed", "old")},
    }
    assert list(needed("root", ["api"], known.__getitem__)) == ["a", "b", "c-d", "root", "speed"]
    assert list(needed("root", [], known.__getitem__)) == ["a", "c-d", "root", "speed"]


def test_what_is_not_installed_is_missed():
    with pytest.raises(PackageNotFoundError):
        needed("no-such-distribution-of-ours")
