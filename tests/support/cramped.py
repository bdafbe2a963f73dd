# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs under a limit on the number of threads, like a container with a pids limit, and use up the threads.

The kernel counts the threads of each user, but not those of root. So root starts the programs as a user that exists
nowhere else, but may read and write what root may. Other users start the programs as themselves.

Run as a program, this module takes threads until its standard input ends: as many as its argument says, or "all", which
includes those that become free.
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
"""How many threads the programs in a room may have."""

_CAPABILITY = "-all,+dac_override"


class Room:
    """A limit of ``ROOM`` threads for all programs that are started in it."""

    def __init__(self) -> None:
        # A separate user for each test process and each room in it.
        self._uid = 100_000 + os.getpid() * 16 % 900_000 + next(_NUMBERS) % 16
        self._limit = ROOM if os.geteuid() == 0 else _threads_of_user() + ROOM

    def let_in(self, path: Path) -> None:
        """Make ``path`` readable for programs in the room. access() ignores the capability that open() honours."""
        for directory in path.parents:
            if directory.stat().st_uid == os.geteuid() and directory.is_relative_to(tempfile.gettempdir()):
                directory.chmod(directory.stat().st_mode | 0o011)
        path.chmod(path.stat().st_mode | 0o044)

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program in the room."""
        return subprocess.Popen([*self._as_limited_user(), *command], text=True, **options)

    @contextmanager
    def taken(self, leave: int = 0) -> Iterator[None]:
        """Take all threads but ``leave``, until the end of the block."""
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

    def _as_limited_user(self) -> list[str]:
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


def take(count: float, output: IO[str], stopping: threading.Event) -> None:
    """Take threads, report when they are taken, and take those that become free until ``stopping`` is set."""
    taken, reported = 0, False
    while not stopping.is_set():
        try:
            while taken < count:
                threading.Thread(target=stopping.wait, daemon=True).start()
                taken += 1
        except RuntimeError:
            pass
        if not reported:
            output.write("taken\n")
            output.flush()
            reported = True
        stopping.wait(0.01)


if __name__ == "__main__":
    wanted = float("inf") if sys.argv[1] == "all" else int(sys.argv[1])
    enough = threading.Event()
    reader = threading.Thread(target=lambda: (sys.stdin.read(), enough.set()), daemon=True)
    reader.start()
    threading.stack_size(64 * 1024)
    take(wanted, sys.stdout, enough)
