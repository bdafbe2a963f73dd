# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks for files that can be read without blocking: opening a named pipe waits for a writer, perhaps forever."""

from __future__ import annotations

import stat
from pathlib import Path

NOT_PLAIN = "is not a regular file"

_DESCRIPTORS = ("/dev/", "/proc/")
"""The directories with the names of what a shell has opened: standard input and ``<(…)``."""


def is_plain(path: Path) -> bool:
    """Return whether ``path`` is a regular file, which can be read repeatedly. Raises OSError."""
    return stat.S_ISREG(path.stat().st_mode)


def keeps_waiting(path: Path) -> bool:
    """Return whether opening ``path`` may block: whether it is a named pipe. False if there is no such file."""
    try:
        waiting = stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False
    return waiting and not str(path.absolute()).startswith(_DESCRIPTORS)
