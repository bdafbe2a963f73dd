# SPDX-License-Identifier: GPL-3.0-or-later
"""A room for few threads, as a container with a limit of pids is, and somebody who takes all that are left.

The kernel counts the threads of a user, and root's not at all. So root starts programs here as a user who
exists nowhere else, but may read and write what root may; anybody else starts them as they are.

Run as a program, it takes threads: as many as its argument says, or all, again and again, until its
standard input ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOM = 40
"""How many threads there may be in the room."""

_CAPABILITY = "-all,+dac_override"


class Room:
    """``ROOM`` threads in all, for what is started in it."""

    def __init__(self) -> None:
        # A user for each process of the run of tests, and each room in it.
        self._uid = 100_000 + os.getpid() * 16 % 900_000 + next(_NUMBERS) % 16
        self._limit = ROOM if os.geteuid() == 0 else _threads_of_user() + ROOM

    def let_in(self, path: Path) -> None:
        """Let what is started in the room look for ``path``: a capability does not count where one only asks first."""
        for directory in path.parents:
            if directory.stat().st_uid == os.geteuid() and directory.is_relative_to(tempfile.gettempdir()):
                directory.chmod(directory.stat().st_mode | 0o011)
        path.chmod(path.stat().st_mode | 0o044)

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program in the room."""
        return subprocess.Popen([*self._as_somebody(), *command], text=True, **options)

    @contextmanager
    def taken(self, leave: int = 0) -> Iterator[None]:
        """Meanwhile all threads but ``leave`` are taken."""
        count = str(self._limit - 1 - leave) if leave else "all"
        command = [sys.executable, "-m", "tests.support.cramped", count]
        taker = self.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert taker.stdin
        assert taker.stdout
        assert taker.stdout.readline() == "taken\n"
        try:
            yield
        finally:
            taker.stdin.close()
            taker.stdout.close()
            taker.wait()

    def _as_somebody(self) -> list[str]:
        limit = ["prlimit", f"--nproc={self._limit}:{self._limit}"]
        if os.geteuid() != 0:
            return limit
        user = [f"--reuid={self._uid}", f"--regid={self._uid}", "--clear-groups"]
        rights = [f"--{kind}={_CAPABILITY}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        return [*limit, "setpriv", *user, *rights]


_NUMBERS = iter(range(10**9))


def _threads_of_user() -> int:
    count = 0
    for status in Path("/proc").glob("[0-9]*/task"):
        try:
            if status.stat().st_uid == os.geteuid():
                count += len(list(status.iterdir()))
        except OSError:
            continue
    return count


def take(count: float, told: IO[str], over: threading.Event) -> None:
    """Take threads, tell when they are taken, and take what becomes free until it is over."""
    taken, said = 0, False
    while not over.is_set():
        try:
            while taken < count:
                threading.Thread(target=over.wait, daemon=True).start()
                taken += 1
        except RuntimeError:
            pass
        if not said:
            told.write("taken\n")
            told.flush()
            said = True
        over.wait(0.01)


if __name__ == "__main__":
    wanted = float("inf") if sys.argv[1] == "all" else int(sys.argv[1])
    enough = threading.Event()
    reader = threading.Thread(target=lambda: (sys.stdin.read(), enough.set()), daemon=True)
    reader.start()
    threading.stack_size(64 * 1024)
    take(wanted, sys.stdout, enough)
