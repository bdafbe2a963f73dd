# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and SIGTERM for commands that do many things one after the other, so that each is done whole and counted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Makes KeyboardInterrupt of SIGINT and SIGTERM, as a context manager; in the main thread alone.

    What is done inside ``whole`` is not torn apart: the exception comes when it is over, unless somebody insists by a
    second signal.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._whole = False
        self._asked = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Something that is to be done whole, or else fail by itself. Raises KeyboardInterrupt after it."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False
        if self._asked:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._whole and not self._asked:
            self._asked = True
            return
        raise KeyboardInterrupt
