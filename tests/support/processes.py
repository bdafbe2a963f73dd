# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers in separate processes, for tests that kill them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent


class WorkerProcess:
    """A worker process: ``with WorkerProcess(url, gate) as worker``. It is killed at the end if it is still running.

    Builds named ``wait`` are finished when the file ``gate`` exists.
    """

    def __init__(self, url: str, gate: Path, *, shutdown_timeout: float = 30, concurrency: int = 2, prefetch: int = 4):
        arguments = [url, "omps-worker", str(shutdown_timeout), str(concurrency), str(prefetch), str(gate)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.workers", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        self.log: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.said), (self._process.stderr, self.log))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(10)

    def wait_until_logged(self, text: str, times: int = 1, seconds: float = 40) -> WorkerProcess:
        wait_until(lambda: self.logged(text) >= times, seconds, f"{text!r} in the log, which is {self.log}")
        return self

    def wait_until_said(self, line: str, times: int = 1) -> WorkerProcess:
        wait_until(lambda: self.said.count(line) >= times, 40, f"{line!r}; it said {self.said} and logged {self.log}")
        return self

    def logged(self, text: str) -> int:
        """Return how many lines of the log contain ``text``."""
        return sum(text in line for line in self.log)

    def send(self, number: signal.Signals) -> WorkerProcess:
        self._process.send_signal(number)
        return self

    def exit_code(self, seconds: float = 40) -> int:
        """Wait until the process has ended, and return its exit code."""
        return self._process.wait(seconds)

    @property
    def running(self) -> bool:
        return self._process.poll() is None
