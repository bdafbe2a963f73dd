# SPDX-License-Identifier: GPL-3.0-or-later
"""A line on the terminal that says what is being done; nothing where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from omps_worker.common.text import one_line

ERASE = "\r\x1b[K"
"""What empties the line that a terminal's cursor is on."""


class Progress:
    """Shows one line at a time on a terminal and erases it at the end, as a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """``stream`` defaults to standard error; when it is no terminal, nothing is shown."""
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
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
