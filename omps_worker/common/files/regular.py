# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that can be read at once: whoever opens a named pipe waits for somebody who writes, perhaps for ever."""

from __future__ import annotations

import stat
from pathlib import Path

NOT_PLAIN = "is not a plain file"

_DESCRIPTORS = ("/dev/", "/proc/")
"""Where what a shell has opened already has names: standard input, and what stands in ``<(…)``."""


def is_plain(path: Path) -> bool:
    """Whether ``path`` is a regular file, which can be read any number of times. Raises OSError."""
    return stat.S_ISREG(path.stat().st_mode)


def keeps_waiting(path: Path) -> bool:
    """Whether to open ``path`` may take for ever: a named pipe. What is not there does not."""
    try:
        waiting = stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False
    return waiting and not str(path.absolute()).startswith(_DESCRIPTORS)
