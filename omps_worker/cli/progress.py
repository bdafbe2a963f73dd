# SPDX-License-Identifier: GPL-3.0-or-later
"""A progress line on a terminal; nothing is shown if the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from omps_worker.cli.common import print_to_stderr
from omps_worker.common.text import one_line

ERASE = "\r\x1b[K"
"""The characters that erase the terminal's current line."""


class Progress:
    """A context manager that shows one progress line on a terminal, and erases it at the end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to ``stream``, standard error by default. If it is not a terminal, nothing is shown."""
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def show(self, text: str) -> None:
        """Replace the line by ``text``."""
        if self._shown:
            self._stream.write(f"{ERASE}{one_line(text)} …")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write(ERASE)
            self._stream.flush()


@contextmanager
def progress_and_notes() -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Yield two functions: one shows the progress on a terminal, the other prints a note on standard error."""
    with Progress() as progress:
        shown_at = 0.0

        def seen(number: int, total: int) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > 0.1:
                shown_at = time.monotonic()
                progress.show(f"message {number} of {total}")

        yield seen, lambda text: print_to_stderr(f"note: {text}")
