# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file, or a directory of files, was renewed since it was read."""

from __future__ import annotations

from pathlib import Path

Version = tuple[int, ...]
"""Equal as long as nothing was renewed."""

NOTHING: Version = ()
"""That of nothing at all, or of what cannot be looked at."""


def version_of(path: Path) -> Version:
    """What is there now, without reading it; nothing there is a version, too.

    That of a directory changes when a file in it is added, removed or replaced by another of its
    name, as ``openssl rehash`` does, but not when one is written over in its place.
    """
    try:
        state = path.stat()
    except OSError:
        return NOTHING
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev
