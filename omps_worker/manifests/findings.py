# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors and warnings about manifests, as sentences that name the file, for the developers who correct them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omps_worker.common.text import one_line

MOST = 100
"""The most sentences that are kept for one tree. A single cause can lead to hundreds of findings."""

_MAX_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One error or warning. ``file`` is the path in the build's archive, or None if the finding is about all files."""

    text: str
    file: str | None = None

    @property
    def sentence(self) -> str:
        """The finding with its file, on one line of limited length."""
        text = self.text[: _MAX_CHARACTERS + 1]
        line = one_line(f"{self.file}: {text}" if self.file else text)
        return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"


def sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the sentences of ``findings`` in order, without duplicates.

    If there are more than ``MOST``, the last one says how many are left out.
    """
    lines = tuple(dict.fromkeys(finding.sentence for finding in findings))
    return lines if len(lines) <= MOST else (*lines[:MOST], f"and {len(lines) - MOST} more")


def in_short(findings: Sequence[Finding]) -> str:
    """Return the sentence of the first finding, and the number of the others."""
    lines = dict.fromkeys(finding.sentence for finding in findings)
    first = next(iter(lines), "").rstrip(".")
    return f"{first}; and {len(lines) - 1} more." if len(lines) > 1 else f"{first}."
