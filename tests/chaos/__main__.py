# SPDX-License-Identifier: GPL-3.0-or-later
"""``make chaos``: long storms, each with its figures at the end; exit code 0 if all books are right.

Without options there are three: over one broker, over a cluster that loses nodes, and with rules that skip what is
superseded. With options there is one, as they say.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path

from tests.chaos.plan import Plan
from tests.chaos.storm import Storm

LONG = Plan(
    builds=1000,
    packages=10,
    operators=100,
    bundles=150,
    workers=3,
    kill_every=3.0,
    most_kills=1000,
    broker_restarts=3,
    outages=10,
    patience=600.0,
)
HALF = replace(LONG, builds=500, operators=50, bundles=75)
STORMS = (LONG, replace(HALF, nodes=3, broker_restarts=6, kill_every=6.0), replace(HALF, superseded="skip"))


def plans(arguments: list[str]) -> tuple[Plan, ...]:
    """The storms that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Plan):
        default = getattr(LONG, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    asked = Plan(**vars(parser.parse_args(arguments)))
    return (asked,) if arguments else STORMS


def main() -> int:
    faults = 0
    for plan in plans(sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="omps-worker-chaos-") as directory:
            report = Storm(Path(directory), plan, lambda text: print(text, file=sys.stderr, flush=True)).rage()
        print(report, flush=True)
        faults += len(report.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
