# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock per package among the processes of one host, kept in a directory; see ``locks`` for what it promises.

To hold a package is to hold ``flock`` on a file of its name, which the kernel takes back from a process that
dies. A push leaves a mark, another file, which says until when that push can have an effect; the clock
in it is the one that all processes of a host share and that nobody sets.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import math
import os
import random
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omps_worker.common.error_details import why
from omps_worker.common.errors import Fault, PackageBusy, SettingsError, StorageError
from omps_worker.common.files.small import read_small, write_small
from omps_worker.common.locks import (
    PATIENCE,
    PUSH_SECONDS,
    STORING_SECONDS,
    HeldPackage,
    NamedLocks,
    busy,
    held_too_long,
)

log = logging.getLogger(__name__)

VARIABLE, SYSTEMD_VARIABLE = "OMPS_WORKER_STATE_DIRECTORY", "STATE_DIRECTORY"
"""The environment variables that name the state directory; the first one that is set counts."""

REMADE = "remade.mark"
"""The mark of a directory that was made again: pushes from before may still be under way."""

MARK_BYTES = 100
"""How much of a mark is read."""

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between tries to take a lock."""


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory for the locks of this host, made if it is missing.

    $OMPS_WORKER_STATE_DIRECTORY, or the one that systemd gives ($STATE_DIRECTORY), or one of our own
    among the temporary files. Raises SettingsError if it cannot be used, belongs to somebody else, or can be written
    to by others: who can write there can take locks away.
    """
    for variable in (VARIABLE, SYSTEMD_VARIABLE):
        # systemd names several with colons between them.
        named = environment.get(variable, "").partition(":")[0]
        if named:
            # A link is as good as what it leads to: systemd makes some for its dynamic users.
            return _ours_alone(_usable(Path(named), f"${variable}"), Path(named).stat())
    directory = Path(tempfile.gettempdir()) / f"omps-worker-{os.geteuid()}"
    return _ours_alone(_usable(directory, "the directory for locks"), directory.lstat())


def _ours_alone(directory: Path, status: os.stat_result) -> Path:
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        reason = (
            f"is not a directory of ours alone (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}; wanted "
            f"are owner {os.geteuid()} and mode 0700): remove it or mend that, or name another with {VARIABLE}, "
            "such as one in it that does not exist yet"
        )
        raise SettingsError([Fault("environment", str(directory), reason)])
    return directory


def _usable(directory: Path, what: str) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except FileExistsError:
        reason = f"{what} is no directory: remove what is there, or name a directory with {VARIABLE}"
        raise SettingsError([Fault("environment", str(directory), reason)]) from None
    except OSError as error:
        reason = f"{what} cannot be used: {why(error)}"
        raise SettingsError([Fault("environment", str(directory), reason)]) from None


class FileLock:
    """A PackageLock among everybody who uses ``directory``, on one host.

    ``push_seconds``: how long a push may take; ``patience``: how long to wait for a package. Both
    must be the same for everybody. A directory that cannot be written raises StorageError.
    """

    def __init__(self, directory: Path, push_seconds: float = PUSH_SECONDS, *, patience: float = PATIENCE) -> None:
        self._directory = directory
        self._push_seconds = push_seconds
        self._patience = patience
        self._turns = NamedLocks()

    @contextmanager
    def hold(self, registry: str, organization: str, repository: str) -> Iterator[HeldPackage]:
        """Wait for the package and hold it; raises PackageBusy and StorageError, both transient."""
        deadline = time.monotonic() + self._patience
        label = f"{organization}/{repository}"
        name = hashlib.sha256(f"{registry}/{label}".encode()).hexdigest()[:32]
        with self._turns.take(name, self._patience) as ours, ExitStack() as held:
            try:
                if not ours:
                    raise _OutOfTime
                with ExitStack() as waiting:
                    # Who waits stands in line behind one other at most: a process that has just let go
                    # of the package could otherwise take it again and again.
                    waiting.enter_context(self._locked(f"{name}.next", deadline))
                    descriptor = held.enter_context(self._locked(f"{name}.lock", deadline))
                marks = self._directory / f"{name}.pushing", self._directory / REMADE
                hold = _HeldByFile(descriptor, marks, label, self._push_seconds)
                hold.wait_for_mark(deadline)
            except _OutOfTime:
                raise busy(label, self._patience) from None
            yield hold

    @contextmanager
    def _locked(self, name: str, deadline: float) -> Iterator[int]:
        """Hold one file, whose descriptor is given, from before ``deadline`` until the end; raises _OutOfTime."""
        path, pause = self._directory / name, FIRST_PAUSE
        while (descriptor := self._try_to_lock(path)) is None:
            if time.monotonic() >= deadline:
                raise _OutOfTime
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            pause = min(pause * 1.3, LONGEST_PAUSE)
        try:
            yield descriptor
        finally:
            # While it is still ours: whoever opened this file and gets it next sees that it is gone.
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)

    def _try_to_lock(self, path: Path) -> int | None:
        try:
            return _try_to_lock(path)
        except FileNotFoundError:
            self._make_again()
            return None
        except OSError as error:
            raise _unusable(error) from error

    def _make_again(self) -> None:
        """Make the directory that somebody removed, and let nobody push before all pushes from before are over."""
        log.error("the state directory %s was removed and is made again", self._directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _ours_alone(self._directory, self._directory.lstat())
            write_small(self._directory / REMADE, repr(time.monotonic() + self._push_seconds + STORING_SECONDS))
        except OSError as error:
            raise _unusable(error) from error
        except SettingsError as error:
            raise StorageError(f"The directory for locks cannot be used: {error.message}") from None


def directory_trouble(directory: Path) -> str | None:
    """Why a state directory cannot be used any more; None: it can, or will be made again."""
    try:
        with tempfile.TemporaryFile(dir=directory if directory.exists() else directory.parent):
            return None
    except OSError as error:
        return f"the state directory {directory} cannot be written: {error.strerror or type(error).__name__}"


def _try_to_lock(path: Path) -> int | None:
    """The descriptor of the file, held; None if somebody else holds it. Raises OSError."""
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
    """``descriptor`` is that of the locked file; ``marks`` are that of the package, and others that count as well."""

    def __init__(self, descriptor: int, marks: Sequence[Path], label: str, push_seconds: float) -> None:
        self._descriptor = descriptor
        self._marks = marks
        self._mark = marks[0]
        self._label = label
        self._push_seconds = push_seconds
        self._latest = math.inf

    def wait_for_mark(self, deadline: float) -> None:
        """Wait until no earlier push can have an effect any more; raises _OutOfTime at once if that is too late."""
        while (expiry := max(map(self._expiry, self._marks))) > (now := time.monotonic()):
            if expiry > deadline:
                raise _OutOfTime
            log.info("the outcome of an earlier push to %s is not known yet: waiting", self._label)
            time.sleep(expiry - now)
        self.end_push()
        self._latest = time.monotonic() + 2 * self._push_seconds

    def _expiry(self, mark: Path) -> float:
        longest = time.monotonic() + self._push_seconds + STORING_SECONDS
        try:
            # A mark from before the host was started again has another clock: its time at most counts.
            expiry = float(read_small(mark, MARK_BYTES)[0])
        except FileNotFoundError:
            return 0.0
        except ValueError:
            # Something else is in its place: nothing is known but that a push was to follow.
            expiry = math.nan
        except OSError as error:
            raise _unusable(error) from error
        if math.isnan(expiry) or expiry > longest:
            # It is waited for once, and not again and again.
            with contextlib.suppress(OSError):
                write_small(mark, repr(longest))
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
            log.warning("the mark of a push to %s cannot be removed: the next one waits for its end", self._label)


class _OutOfTime(Exception):
    """The package is not free in time."""


def _unusable(error: OSError) -> StorageError:
    return StorageError(f"The directory for locks cannot be used: {why(error)}.")
