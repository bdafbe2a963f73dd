# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for terminals and logs, whatever it is made of."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence

_SECOND_STOP = re.compile(r"(?<=[^\s.][.?!…])\.(?=\s|$)")
"""An ellipsis of three full stops is none, nor is what a path may have: ``..`` by itself."""


_LOST_BYTES = dict.fromkeys(range(0xDC80, 0xDD00))
"""What Python has in the place of bytes that are no UTF-8."""

WIDEST = 64
"""How many columns of a terminal a cell may take from all rows of its table. Names and IDs are rarely longer."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """``rows`` under ``heads``, each column as wide as its widest cell; None is an empty cell.

    A cell of more than ``WIDEST`` columns is shown whole, and moves the rest of its own row alone. Control characters
    from outside are replaced: a cell cannot move the cursor of a terminal.
    """
    lines = [[_cell(value) for value in row] for row in [heads, *rows]]
    widths = [max(w for line in lines if (w := width_of(line[column])) <= WIDEST) for column in range(len(heads))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(row(line, widths) for line in lines)


def row(cells: Sequence[object], widths: Sequence[int]) -> str:
    """One line of a table whose columns are so wide."""
    padded = ((_cell(value), width) for value, width in zip(cells, widths, strict=True))
    return "  ".join(cell + " " * (width - width_of(cell)) for cell, width in padded).rstrip()


def with_single_stops(text: str) -> str:
    """``text`` without the full stop that follows another end of a sentence, as where one sentence quotes another."""
    return _SECOND_STOP.sub("", text)


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters: it cannot begin a line or move a cursor."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def printable_lines(text: str) -> str:
    """``text`` with the line breaks that it has, and no other control characters: for what is laid out in lines."""
    return "\n".join(map(one_line, text.split("\n")))


def shell_word(text: str) -> str:
    """``text`` as a word that a person can give to a shell, whatever is in it; it moves no cursor."""
    if text.isprintable():
        return shlex.quote(text)
    # As bytes and in octal, which all shells read alike.
    octets = text.encode(errors="surrogateescape" if is_utf8(text.translate(_LOST_BYTES)) else "replace")
    plain = (chr(each) if 0x20 <= each < 0x7F and each not in b"'\\" else f"\\{each:03o}" for each in octets)
    return f"$'{''.join(plain)}'"


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: an argument that came as other bytes has surrogates in their place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, limit: int) -> str:
    """``text`` on one line, fit for messages and logs: what cannot be printed becomes a space."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def fit(text: str, width: int) -> str:
    """``text`` on one line of exactly ``width`` columns: padded, or cut with an ellipsis."""
    # What is cut off need not be looked at.
    text = one_line(text[: 4 * width + 4])
    if width_of(text) <= width:
        return text + " " * (width - width_of(text))
    kept = ""
    for letter in text:
        if width_of(kept) + width_of(letter) > width - 1:
            break
        kept += letter
    return (kept + "…" + " " * (width - 1 - width_of(kept))) if width > 0 else ""


def _cell(value: object) -> str:
    return "" if value is None else one_line(str(value))


def width_of(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
