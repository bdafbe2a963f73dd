# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omps_worker.manifests.findings import MOST, Finding, in_short, sentences

findings = st.lists(st.builds(Finding, st.text(), st.none() | st.text()), min_size=1)


def test_a_sentence_names_the_file():
    assert Finding("csv spec not defined.", "1/a.yaml").sentence == "1/a.yaml: csv spec not defined."
    assert Finding("Bundle does not contain any packages.").sentence == "Bundle does not contain any packages."


def test_in_short_it_is_the_first_one_and_how_many_others():
    one, other = Finding("a is odd.", "x"), Finding("b", "y")
    assert in_short([one]) == "x: a is odd."
    assert in_short([one, one]) == "x: a is odd."
    assert in_short([one, other, one, Finding("c")]) == "x: a is odd; and 2 more."


def test_of_very_many_the_rest_is_counted():
    told = sentences([Finding(f"number {number}") for number in range(MOST + 7)])
    assert (len(told), told[-1]) == (MOST + 1, "and 7 more")


@given(findings)
def test_whatever_is_found_sentences_are_lines_of_bounded_length(found):
    for line in (*sentences(found), in_short(found)):
        assert line.isprintable()
        assert len(line) < 1200
