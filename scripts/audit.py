# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for security advisories about the packages in the image and its build tools: ``python -m scripts.audit``.

pip-audit, in a temporary environment, looks up the pins in ``requirements/`` for all Python versions. It needs the
network, and its answer changes from day to day. So this is a step of a release, not a test.
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
    """Run pip-audit with its options ``arguments``, and return its highest exit code; 0 if it finds no advisories."""
    with tempfile.TemporaryDirectory(prefix="omps-worker-") as directory:
        work = Path(directory)
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        pip(work / "venv", "install", PIP_AUDIT)
        # Strict: a package that cannot be looked up is an error.
        command = [work / "venv/bin/pip-audit", "--strict", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        wanted, worst = work / "wanted.txt", 0
        for chosen in sets(pinned([(ROOT / name).read_text(encoding="utf-8") for name in AUDITED])):
            wanted.write_text("\n".join(chosen) + "\n", encoding="utf-8")
            asked = [*command, "--requirement", wanted, *arguments]
            worst = max(worst, subprocess.run(asked, cwd=work, stdin=subprocess.DEVNULL).returncode)
        return worst


def pinned(texts: Sequence[str]) -> list[str]:
    """Return each ``name==version`` in the texts of requirements files, for all Python versions."""
    found = {
        f"{canonicalize_name(requirement.name)}{requirement.specifier}"
        for text in texts
        for requirement, _ in pins.parse(text)
    }
    return sorted(found)


def sets(wanted: Sequence[str]) -> list[list[str]]:
    """Split ``wanted`` into as few lists as possible, so that no list has two versions of a package."""
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
