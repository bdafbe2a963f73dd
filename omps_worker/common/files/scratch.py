# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for temporary files that are removed soon after their process ends, even if it is killed.

The place for temporary files may outlive a process: a volume that outlives the restarts of a container, or a host's
/tmp. So the owner of such a directory holds ``flock`` on it, which the kernel releases when the owner dies. ``sweep``
removes the directories that nobody holds. Any number of processes, also in several containers, may share a TMPDIR. On a
file system without such locks nothing is swept.
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
"""The prefix of the names of these directories, which no other files have."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchDirectory:
    """A private directory in TMPDIR that exists until ``remove`` or the end of the process.

    It is a context manager. The constructor raises OSError.
    """

    def __init__(self) -> None:
        self.path, self._descriptor = _create()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the directory and its content. What cannot be removed now is left to the next ``sweep``."""
        shutil.rmtree(self.path, ignore_errors=True)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def outlive_exec(self) -> None:
        """Keep the lock if this process replaces itself with another program."""
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, True)


def sweep() -> int:
    """Remove the directories of processes that were killed, and return their number. Never raises.

    Only directories with our prefix that belong to our user are considered. Symbolic links are not followed.
    """
    swept = 0
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    swept += _remove_if_abandoned(Path(entry.path))
    if swept:
        log.debug("removed %d temporary director%s of processes that were killed", swept, "y" if swept == 1 else "ies")
    return swept


def _create() -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            # A sweeping process may remove the directory first. Then it cannot be opened, or the lock is on a removed
            # directory.
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
        if _is_same(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> bool:
    descriptor = os.open(path, _OPEN)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_same(path, descriptor):
            return False
        shutil.rmtree(path, ignore_errors=True)
        if not _is_same(path, descriptor):
            return True
        log.warning("%s, left by a process that was killed, cannot be removed", path)
        return False
    finally:
        os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
