# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurements of ``make bench`` run, in their shortest form; what they find is no matter here.

All but that of memory and the comparison of two versions, which take long however little they measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (("prepare", "flat", "--repeat", "1"), {"operator", "times less", "met"}),
        (
            ("irrelevant", "--messages", "300", "--rounds", "1", "--prefetch", "8"),
            {"prefetch", "plain", "ours", "ratio"},
        ),
        (("rest", "flat", "--seconds", "0.5"), {"size", "plain", "ours", "ratio"}),
        (("catalogs", "10", "--repeat", "1"), {"what", "CPU, ms", "calls", "writes", "met"}),
    ],
    ids=["prepare", "irrelevant", "rest", "catalogs"],
)
def test_a_measurement_gives_its_table(arguments: tuple[str, ...], columns: set[str]) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments, "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    # 1: a mark was missed, as may happen beside other work.
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads(ran.stdout)
    rows = found["rows"] if "rows" in found else found if isinstance(found, list) else next(iter(found.values()))
    assert rows
    assert columns <= set(rows[0]), ran.stdout
