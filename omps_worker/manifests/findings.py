# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found wrong, or odd, in manifests: each in a sentence that names the file, for whoever has to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omps_worker.common.text import one_line

MOST = 100
"""How many sentences are kept of one tree. A single cause can be found hundreds of times."""

_LETTERS = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One error or warning, in the words of whoever found it; ``file``: the relative path, None if it is about all."""

    text: str
    file: str | None = None

    @property
    def sentence(self) -> str:
        """It, with its file, on one line of bounded length."""
        text = self.text[: _LETTERS + 1]
        line = one_line(f"/{self.file}: {text}" if self.file else text)
        return line if len(line) <= _LETTERS else f"{line[:_LETTERS]}…"


def sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The sentences of ``findings``, each once, in their order; beyond ``MOST``, how many more there are."""
    told = tuple(dict.fromkeys(finding.sentence for finding in findings))
    return told if len(told) <= MOST else (*told[:MOST], f"and {len(told) - MOST} more")


def in_short(findings: Sequence[Finding]) -> str:
    """The first of ``findings``, and how many others there are."""
    told = dict.fromkeys(finding.sentence for finding in findings)
    first = next(iter(told), "").rstrip(".")
    return f"{first}; and {len(told) - 1} more." if len(told) > 1 else f"{first}."
