# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks whether there are advisories about what the image is made of and with: ``python -m scripts.audit``.

pip-audit, in an environment of its own that is thrown away, looks up the pins of ``requirements/``, those of every
Python. It needs the network and its answer changes from day to day, so this is a step of a release and no test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from scripts import pins
from scripts.constraints import ROOT, pip

PIP_AUDIT = "pip-audit==2.10.1"
AUDITED = ("requirements/runtime.txt", "requirements/build.txt")


def main(arguments: Sequence[str]) -> int:
    """pip-audit's worst exit code, 0 where it knows of nothing; ``arguments`` are options of its own."""
    with tempfile.TemporaryDirectory(prefix="omps-worker-") as directory:
        work = Path(directory)
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        pip(work / "venv", "install", PIP_AUDIT)
        # Strict: what could not be looked up is no good news.
        command = [work / "venv/bin/pip-audit", "--strict", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        wanted, worst = work / "wanted.txt", 0
        for chosen in sets(pinned([(ROOT / name).read_text(encoding="utf-8") for name in AUDITED])):
            wanted.write_text("\n".join(chosen) + "\n", encoding="utf-8")
            asked = [*command, "--requirement", wanted, *arguments]
            worst = max(worst, subprocess.run(asked, cwd=work, stdin=subprocess.DEVNULL).returncode)
        return worst


def pinned(texts: Sequence[str]) -> list[str]:
    """Every ``name==version`` that the texts of requirements files pin, whatever Python it is for."""
    found = {
        f"{canonicalize_name(requirement.name)}{requirement.specifier}"
        for text in texts
        for requirement, _ in pins.parse(text)
    }
    return sorted(found)


def sets(wanted: Sequence[str]) -> list[list[str]]:
    """``wanted`` in as many lists as it takes for none to have two versions of a package."""
    lists: list[dict[str, str]] = []
    for line in wanted:
        name = line.partition("==")[0]
        free = next((chosen for chosen in lists if name not in chosen), None)
        if free is None:
            lists.append(free := {})
        free[name] = line
    return [list(chosen.values()) for chosen in lists]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
