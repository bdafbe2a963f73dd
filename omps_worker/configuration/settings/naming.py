# SPDX-License-Identifier: GPL-3.0-or-later
"""Naming the variables and files of secrets in messages.

A user may have written the secret itself where its variable or file belongs. So a value is repeated only if it is
certainly the name of a variable, or a path. Otherwise the message names only the key.
"""

from __future__ import annotations

import re
from pathlib import Path

_VARIABLE = re.compile(r"[A-Z]{1,24}|_?[A-Z][A-Z0-9]{0,23}(?:_[A-Z0-9]{0,24}){1,12}")
"""The usual form of a variable's name. Generated secrets are longer and have no underscores."""

_FILE = re.compile(r"[A-Za-z_-]{1,40}\.[a-z]{2,8}")
"""The name of a file with a suffix and without digits."""


def variable(name: str) -> str:
    """Return how to name the environment variable ``name`` in a message."""
    return f"the environment variable {name}" if _VARIABLE.fullmatch(name) else "this environment variable"


def path(written: str | Path, directory: Path) -> Path | None:
    """Return the path that ``written`` means in ``directory``, or None if it may be something other than a path."""
    text = str(written)
    first = Path(*Path(text).parts[: 2 if text.startswith("/") else 1])
    if not text.isprintable() or len(text) > 1000:
        return None
    try:
        leads_somewhere = "/" in text[1:] and (directory / first).is_dir()
    except OSError:
        return None
    return directory / text if leads_somewhere or _FILE.fullmatch(text) else None


def of_file(fault: str, written: str | Path, directory: Path) -> str:
    """Return ``fault`` of a file, with the file's path if that may be repeated."""
    shown = path(written, directory)
    if shown is None:
        return fault
    start, _, _ = fault.partition(" (relative paths")
    return f"{start}: {shown}" if start == "there is no such file" else f"the file {shown} {fault}"
