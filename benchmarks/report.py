# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the results of benchmarks as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omps_worker.common.text import table


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print ``rows``, which all have the same keys, as a table."""
    heads = list(rows[0])
    print(f"{title}\n")
    print(table(heads, [[_cell(row[head]) for head in heads] for row in rows]))
    print()


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if value < 100 else round(value)
