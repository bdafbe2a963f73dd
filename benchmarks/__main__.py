# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all benchmarks (``python -m benchmarks``), or one of them with its options (``… prepare --json``)."""

from __future__ import annotations

import sys

from benchmarks import catalogs, irrelevant, memory, prepare, rest

MEASUREMENTS = {
    "prepare": prepare.main,
    "memory": memory.main,
    "irrelevant": irrelevant.main,
    "rest": rest.main,
    "catalogs": catalogs.main,
}


def main(arguments: list[str]) -> int:
    """Run the benchmarks, and return the highest of their exit codes."""
    if arguments and arguments[0] in MEASUREMENTS:
        return MEASUREMENTS[arguments[0]](arguments[1:])
    return max(measure(arguments) for measure in MEASUREMENTS.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
