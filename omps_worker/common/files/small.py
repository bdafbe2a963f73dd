# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files in directories that others might have their hands in: read and written without surprises."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def read_small(path: Path, most: int) -> tuple[str, float]:
    """The first ``most`` bytes of a file of ASCII, and when it was changed (seconds of the epoch).

    Follows no link and waits for nobody. Raises ValueError for what is no such file, and OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("a symbolic link") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no regular file")
        return file.read(most).decode("ascii"), status.st_mtime


def write_small(path: Path, text: str) -> None:
    """Put a file of ASCII in the place of whatever is there, whole or not at all. Raises OSError."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix="new-", suffix=path.suffix, encoding="ascii", delete=False
    ) as file:
        fresh = Path(file.name)
    try:
        fresh.write_text(text, encoding="ascii")
        fresh.replace(path)
    except OSError:
        # A full disk, or a directory in its place: there may be many tries.
        fresh.unlink(missing_ok=True)
        raise
