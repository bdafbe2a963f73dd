# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing small files safely in directories that other processes may change."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def read_small(path: Path, most: int) -> tuple[str, float]:
    """Read at most ``most`` bytes of an ASCII file. Return the text and the time of its last change (Unix time).

    Follows no symbolic link and never blocks. Raises ValueError if there is no such regular file, and OSError.
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
            raise ValueError("not a regular file")
        return file.read(most).decode("ascii"), status.st_mtime


def write_small(path: Path, text: str) -> None:
    """Replace the file at ``path`` with ``text`` in ASCII, atomically. Raises OSError."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix="new-", suffix=path.suffix, encoding="ascii", delete=False
    ) as file:
        new_file = Path(file.name)
    try:
        new_file.write_text(text, encoding="ascii")
        new_file.replace(path)
    except OSError:
        # The disk is full, or there is a directory at the path. Repeated attempts must not leave files behind.
        new_file.unlink(missing_ok=True)
        raise
