# SPDX-License-Identifier: GPL-3.0-or-later
"""``make chaos``: a long storm, with its figures at the end; exit code 0 if the books are right."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from tests.chaos.storm import Plan, Storm

LONG = Plan(builds=1000, packages=10, workers=3, kill_every=2.0, broker_restarts=3, outages=10, patience=600.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Plan):
        default = getattr(LONG, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="omps-worker-chaos-") as directory:
        report = Storm(Path(directory), plan, lambda text: print(text, file=sys.stderr, flush=True)).rage()
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
