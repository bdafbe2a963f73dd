# SPDX-License-Identifier: GPL-3.0-or-later
"""Formatting arbitrary text for terminals and logs."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Sequence

_SECOND_STOP = re.compile(r"(?<=[^\s.][.?!…])\.(?=\s|$)")
"""A full stop after the end of a sentence. It does not match in "..." or in the path ".."."""


_LOST_BYTES = dict.fromkeys(range(0xDC80, 0xDD00))
"""The surrogates that Python uses for bytes that are not UTF-8."""

WIDEST = 64
"""The maximum width of a table's column, in terminal columns. Names and ids are rarely longer."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of ``rows`` under ``heads``. Each column is as wide as its widest cell. None is an empty cell.

    A cell wider than ``WIDEST`` is shown in full and shifts only the rest of its own row. Control characters are
    replaced, so a cell cannot move the cursor of a terminal.
    """
    lines = [[_cell(value) for value in row] for row in [heads, *rows]]
    widths = [max(w for line in lines if (w := width_of(line[column])) <= WIDEST) for column in range(len(heads))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(row(line, widths) for line in lines)


def row(cells: Sequence[object], widths: Sequence[int]) -> str:
    """Return one line of a table with these column widths."""
    padded = ((_cell(value), width) for value, width in zip(cells, widths, strict=True))
    return "  ".join(cell + " " * (width - width_of(cell)) for cell, width in padded).rstrip()


def with_single_stops(text: str) -> str:
    """Return ``text`` without a full stop that directly follows another end of a sentence, as in a quotation."""
    return _SECOND_STOP.sub("", text)


def one_line(text: str) -> str:
    """Return ``text`` with control characters and line breaks replaced: it cannot start a new line or move a cursor."""
    return text if text.isprintable() else "".join(character if character.isprintable() else " " for character in text)


def printable_lines(text: str) -> str:
    """Return ``text`` with its line breaks, but with all other control characters replaced."""
    return "\n".join(map(one_line, text.split("\n")))


def shell_word(text: str) -> str:
    """Return ``text`` quoted as one word for a shell. It contains no control characters."""
    if text.isprintable():
        return shlex.quote(text)
    # As bytes and in octal, which all shells read in the same way.
    octets = text.encode(errors="surrogateescape" if is_utf8(text.translate(_LOST_BYTES)) else "replace")
    plain = (chr(each) if 0x20 <= each < 0x7F and each not in b"'\\" else f"\\{each:03o}" for each in octets)
    return f"$'{''.join(plain)}'"


def is_utf8(text: str) -> bool:
    """Return whether ``text`` can be encoded as UTF-8. An argument with other bytes has surrogates in their place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of ``text`` on one line. Unprintable characters become spaces."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def fit(text: str, width: int) -> str:
    """Return ``text`` on one line of exactly ``width`` columns: padded, or cut with an ellipsis."""
    # Text far beyond the width need not be processed.
    text = one_line(text[: 4 * width + 4])
    if width_of(text) <= width:
        return text + " " * (width - width_of(text))
    kept = ""
    for character in text:
        if width_of(kept) + width_of(character) > width - 1:
            break
        kept += character
    return (kept + "…" + " " * (width - 1 - width_of(kept))) if width > 0 else ""


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 message``, ``2 messages``. ``plural``: if it is not made with an s."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def listed(names: Collection[str], most: int = 20) -> str:
    """Return names, joined by commas; if there are more than ``most``, how many more there are."""
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _cell(value: object) -> str:
    return "" if value is None else one_line(str(value))


def width_of(text: str) -> int:
    """Return the width of ``text`` in terminal columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
