# SPDX-License-Identifier: GPL-3.0-or-later
"""How a variable or a file that holds a secret is named to people.

Somebody may have written the secret itself where its place belongs. So only what surely is the name of a
variable, or a path, is repeated; of anything else the key that it stands under has to be enough.
"""

from __future__ import annotations

import re
from pathlib import Path

_VARIABLE = re.compile(r"[A-Z]{1,24}|_?[A-Z][A-Z0-9]{0,23}(?:_[A-Z0-9]{0,24}){1,12}")
"""Names as variables usually have them. What is made by a generator has no underscores, and is longer."""

_FILE = re.compile(r"[A-Za-z_-]{1,40}\.[a-z]{2,8}")
"""The name of a file with a suffix, without any digit."""


def variable(name: str) -> str:
    """How to speak of the environment variable ``name``."""
    return f"the environment variable {name}" if _VARIABLE.fullmatch(name) else "this environment variable"


def path(written: str | Path, directory: Path) -> Path | None:
    """The path that ``written`` means in ``directory``; None where it may be something else than a path."""
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
    """``fault``, said of a file, with the file's path where that may be repeated."""
    shown = path(written, directory)
    if shown is None:
        return fault
    start, _, _ = fault.partition(" (relative paths")
    return f"{start}: {shown}" if start == "there is no such file" else f"the file {shown} {fault}"
