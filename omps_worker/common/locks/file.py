# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package for the processes of one host, kept in a directory; see ``locks`` for its guarantees.

Holding a package means holding ``flock`` on a file for it, which the kernel releases when the process dies. A push
leaves a mark, another file, with the time until which the push can have an effect. That time is on the monotonic clock,
which all processes of a host share and which cannot be set.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import random
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omps_worker.common.error_details import system_reason
from omps_worker.common.errors import Fault, PackageBusy, SettingsError, StorageError
from omps_worker.common.files.small import read_small, write_small
from omps_worker.common.locks.package_lock import (
    PATIENCE,
    PUSH_SECONDS,
    STORING_SECONDS,
    HeldPackage,
    KeyedLock,
    Lockable,
    NamedLocks,
    busy,
    held_too_long,
)

log = logging.getLogger(__name__)

VARIABLE, SYSTEMD_VARIABLE = "OMPS_WORKER_STATE_DIRECTORY", "STATE_DIRECTORY"
"""The environment variables that name the state directory; the first one that is set is used."""

REMADE = "remade.mark"
"""The mark of a directory that was created again, with the time of that: pushes from before may still be under way."""

MARK_BYTES = 100
"""How much of a mark is read, in bytes."""

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""The first and the longest pause between attempts to take a lock, in seconds."""


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory for the locks of this host; create it if it is missing.

    It is $OMPS_WORKER_STATE_DIRECTORY, the directory from systemd ($STATE_DIRECTORY), or a directory in the temporary
    directory. Raises SettingsError if it is unusable, belongs to another user, or is writable for other users, who
    could then remove locks.
    """
    for variable in (VARIABLE, SYSTEMD_VARIABLE):
        # systemd separates several directories with colons.
        named = environment.get(variable, "").partition(":")[0]
        if named:
            # A symbolic link is accepted: systemd creates some for its dynamic users.
            return _checked_private(_created(Path(named), f"${variable}"), Path(named).stat())
    directory = Path(tempfile.gettempdir()) / f"omps-worker-{os.geteuid()}"
    return _checked_private(_created(directory, "the directory for locks"), directory.lstat())


def _checked_private(directory: Path, status: os.stat_result) -> Path:
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        reason = (
            f"is not a private directory (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}; required "
            f"are owner {os.geteuid()} and mode 0700): remove it or correct that, or name another with {VARIABLE}, "
            "such as a new directory inside it"
        )
        raise SettingsError([Fault("environment", str(directory), reason)])
    return directory


def _created(directory: Path, what: str) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except FileExistsError:
        reason = f"{what} is not a directory: remove the file, or name a directory with {VARIABLE}"
        raise SettingsError([Fault("environment", str(directory), reason)]) from None
    except OSError as error:
        reason = f"{what} cannot be used: {system_reason(error)}"
        raise SettingsError([Fault("environment", str(directory), reason)]) from None


class FileLock(KeyedLock):
    """A PackageLock for all processes of one host that use ``directory``.

    ``push_seconds``: how long a push to a package may take. ``patience``: how long to wait for a package or a catalog.
    Both are in seconds, and must be the same in all processes. Raises StorageError if the directory cannot be written.
    """

    def __init__(self, directory: Path, push_seconds: float = PUSH_SECONDS, *, patience: float = PATIENCE) -> None:
        self._directory = directory
        self._push_seconds = push_seconds
        self._patience = patience
        self._turns = NamedLocks()

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        """Wait for ``lockable`` and hold it during the ``with`` block. Raises PackageBusy and StorageError, both
        transient.
        """
        deadline = time.monotonic() + self._patience
        label, name = lockable.label, lockable.key
        with self._turns.take(name, self._patience) as acquired, ExitStack() as held:
            try:
                if not acquired:
                    raise _OutOfTime
                with ExitStack() as waiting:
                    # A waiter is behind at most one other. Without this second lock, a process that has just released
                    # the package could take it again and again.
                    waiting.enter_context(self._locked(f"{name}.next", deadline))
                    descriptor = held.enter_context(self._locked(f"{name}.lock", deadline))
                mark, push_seconds = self._directory / f"{name}.pushing", lockable.push_seconds or self._push_seconds
                hold = _HeldByFile(descriptor, mark, self._directory / REMADE, label, push_seconds)
                hold.wait_for_mark(deadline)
            except _OutOfTime:
                raise busy(label, self._patience) from None
            yield hold

    @contextmanager
    def _locked(self, name: str, deadline: float) -> Iterator[int]:
        """Lock one file, yield its descriptor, and hold it during the ``with`` block. Raises _OutOfTime after
        ``deadline``.
        """
        path, pause = self._directory / name, FIRST_PAUSE
        while (descriptor := self._try_to_lock(path)) is None:
            if time.monotonic() >= deadline:
                raise _OutOfTime
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            pause = min(pause * 1.3, LONGEST_PAUSE)
        try:
            yield descriptor
        finally:
            # Remove it while it is still locked: a process that has opened this file and locks it next sees that it is
            # gone.
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)

    def _try_to_lock(self, path: Path) -> int | None:
        try:
            return _try_to_lock(path)
        except FileNotFoundError:
            self._recreate_directory()
            return None
        except OSError as error:
            raise _unusable(error) from error

    def _recreate_directory(self) -> None:
        """Create the removed directory again, and block pushes until all pushes from before are over."""
        log.error("the state directory %s was removed and is created again", self._directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _checked_private(self._directory, self._directory.lstat())
            write_small(self._directory / REMADE, repr(time.monotonic()))
        except OSError as error:
            raise _unusable(error) from error
        except SettingsError as error:
            raise StorageError(f"The directory for locks is unusable: {error.message}") from None


def directory_trouble(directory: Path) -> str | None:
    """Return why the state directory is unusable; None if it can be used or will be created again."""
    try:
        with tempfile.TemporaryFile(dir=directory if directory.exists() else directory.parent):
            return None
    except OSError as error:
        return f"the state directory {directory} cannot be written: {error.strerror or type(error).__name__}"


def _try_to_lock(path: Path) -> int | None:
    """Return the descriptor of the locked file, or None if another process holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


class _HeldByFile:
    """A held package. ``descriptor`` is that of the locked file. ``mark`` is the package's own; ``remade`` is that of
    the directory, after whose time no push to this package can have begun without a mark of its own.
    """

    def __init__(self, descriptor: int, mark: Path, remade: Path, label: str, push_seconds: float) -> None:
        self._descriptor = descriptor
        self._mark = mark
        self._remade = remade
        self._label = label
        self._push_seconds = push_seconds
        self._latest = math.inf

    def wait_for_mark(self, deadline: float) -> None:
        """Wait until no earlier push can have an effect. Raises _OutOfTime at once if that is after ``deadline``."""
        effect = self._push_seconds + STORING_SECONDS
        while (expiry := max(self._expiry(self._mark), self._expiry(self._remade, effect))) > (now := time.monotonic()):
            if expiry > deadline:
                raise _OutOfTime
            log.info("the outcome of an earlier push to %s is not known yet: waiting", self._label)
            time.sleep(expiry - now)
        self.end_push()
        self._latest = time.monotonic() + 2 * self._push_seconds

    def _expiry(self, mark: Path, after: float = 0.0) -> float:
        """Return when the pushes of a mark can have no effect any more: ``after`` seconds after the time in it."""
        longest = time.monotonic() + self._push_seconds + STORING_SECONDS
        try:
            # A mark from before a reboot has another clock, so its time is limited to the longest possible.
            expiry = float(read_small(mark, MARK_BYTES)[0]) + after
        except FileNotFoundError:
            return 0.0
        except ValueError:
            # The content is not a mark. All that is known is that a push was about to begin.
            expiry = math.nan
        except OSError as error:
            raise _unusable(error) from error
        if math.isnan(expiry) or expiry > longest:
            # Write a readable mark, so that this wait happens only once.
            with contextlib.suppress(OSError):
                write_small(mark, repr(longest - after))
            return longest
        return expiry

    def begin_push(self) -> float:
        now = time.monotonic()
        if not os.fstat(self._descriptor).st_nlink:
            raise PackageBusy(f"The lock on {self._label} was removed before the push, and nothing was pushed.")
        if now > self._latest:
            raise held_too_long(self._label)
        try:
            write_small(self._mark, repr(now + self._push_seconds + STORING_SECONDS))
        except OSError as error:
            raise _unusable(error) from error
        return now + self._push_seconds

    def end_push(self) -> None:
        try:
            self._mark.unlink(missing_ok=True)
        except OSError:
            log.warning("the mark of a push to %s cannot be removed: the next push waits until it expires", self._label)


class _OutOfTime(Exception):
    """The package was not free in time."""


def _unusable(error: OSError) -> StorageError:
    return StorageError(f"The directory for locks is unusable: {system_reason(error)}.")
