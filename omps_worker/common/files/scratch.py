# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for temporary files that do not outlive their process for long, even if it is killed.

A temporary place may outlive a process: a volume that outlives the restarts of a container, a host's /tmp. So the
owner of such a directory holds ``flock`` on it, which the kernel takes back from whoever dies, and ``sweep`` removes
those that nobody holds. Any number of processes, also in several containers, may share a TMPDIR. On a file system
without such locks nothing is swept.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "omps-worker-scratch-"
"""How the names of such directories begin, and no others'."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchDirectory:
    """A directory of our own where TMPDIR points, until ``remove`` or the end of the process; a context manager.

    Making it raises OSError.
    """

    def __init__(self) -> None:
        self.path, self._descriptor = _made()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it with all that is in it. What cannot be removed now is left to the next ``sweep``."""
        shutil.rmtree(self.path, ignore_errors=True)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def outlive_exec(self) -> None:
        """Hold it also as the program that this process becomes."""
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, True)


def sweep() -> int:
    """Remove what processes that were killed have left behind; how many directories. Raises nothing.

    Only what has our name and belongs to our user is looked at, and no symbolic link is followed.
    """
    swept = 0
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    swept += _swept(Path(entry.path))
    if swept:
        log.debug("removed %d temporary director%s of processes that were killed", swept, "y" if swept == 1 else "ies")
    return swept


def _made() -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            # Whoever sweeps just now may be faster: then there is nothing to be opened, or what is held is gone.
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            continue
        except OSError:
            path.rmdir()
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            return path, None
        if _is_at(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def _swept(path: Path) -> bool:
    descriptor = os.open(path, _OPEN)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(path, descriptor):
            return False
        shutil.rmtree(path, ignore_errors=True)
        if not _is_at(path, descriptor):
            return True
        log.warning("%s was left by a process that was killed, and cannot be removed", path)
        return False
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
