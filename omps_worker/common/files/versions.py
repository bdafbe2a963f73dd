# SPDX-License-Identifier: GPL-3.0-or-later
"""Detecting that a file, or a directory of files, has changed since it was read."""

from __future__ import annotations

from pathlib import Path

Version = tuple[int, ...]
"""A value that stays equal as long as the file does not change."""

NOTHING: Version = ()
"""The version of a file that does not exist or cannot be accessed."""


def version_of(path: Path) -> Version:
    """Return the version of ``path`` without reading it; a missing file has a version, too.

    The version of a directory changes when a file in it is added, removed or replaced by another of the same name, as
    ``openssl rehash`` does. It does not change when a file is overwritten in place.
    """
    try:
        state = path.stat()
    except OSError:
        return NOTHING
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev
