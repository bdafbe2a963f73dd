# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring how long work has been in progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class WorkTimes:
    """The start times of all work in progress. Safe to use from any thread."""

    def __init__(self) -> None:
        self._begun: dict[object, float] = {}

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the ``with`` block as one piece of work."""
        key = object()
        self._begun[key] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[key]

    @property
    def longest(self) -> float:
        """The age in seconds of the oldest work in progress; 0 if there is none."""
        begun = min(self._begun.copy().values(), default=None)
        return 0.0 if begun is None else time.monotonic() - begun
