# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for terminals, whatever it is made of."""

from __future__ import annotations

import pytest

from omps_worker.common.text import WIDEST, is_utf8, printable_lines, shell_word, table


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("amq.topic", "amq.topic"),
        ("a b'c", "'a b'\"'\"'c'"),
        ("#.état", "'#.état'"),
        ("x\x1b[31m'\\é", r"$'x\033[31m\047\134\303\251'"),
        ("x\x9b1", r"$'x\302\2331'"),
        ("x\udc9b1\udcff", r"$'x\2331\377'"),
        ("x\ud8001", "$'x?1'"),
    ],
)
def test_a_word_for_a_shell_is_what_it_was_and_moves_no_cursor(text, word):
    assert shell_word(text) == word
    assert word.isprintable()


def test_lines_stay_lines_and_have_nothing_else_that_cannot_be_seen():
    assert printable_lines("a\tb\x1b[2J\nc\x9bd\r\n") == "a b [2J\nc d \n"


def test_what_came_as_other_bytes_is_no_utf8():
    assert is_utf8("état\U0001f600")
    assert not is_utf8("x\udc9b")


def test_a_cell_that_is_very_long_is_whole_and_moves_its_own_row_alone():
    long = "x" * 250
    rows = table(["id", "nvr"], [["a", "b"], [long, "c"], ["y" * WIDEST, "d"]]).splitlines()
    assert rows[0] == f"{'id':{WIDEST}}  nvr"
    assert rows[2] == f"{'a':{WIDEST}}  b"
    assert rows[3] == f"{long}  c"
