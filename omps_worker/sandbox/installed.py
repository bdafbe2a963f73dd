# SPDX-License-Identifier: GPL-3.0-or-later
"""How a user calls the commands that belong to this Python: they need not be on the PATH."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def path_export() -> str:
    """Return the line that puts this Python's commands on the PATH; empty if they are found already."""
    return "" if _is_found() else f"  export PATH={shlex.quote(str(_directory()))}:$PATH\n"


def own_command() -> str:
    """Return how to call ``omps-worker`` from the current directory."""
    if _is_found():
        return "omps-worker"
    path = _directory() / "omps-worker"
    below = os.path.relpath(path)
    return shlex.quote(str(path) if below.startswith(os.pardir) else below)


def _directory() -> Path:
    return Path(sys.executable).parent


def _is_found() -> bool:
    found = shutil.which("omps-worker")
    return found is not None and Path(found).parent.samefile(_directory())
