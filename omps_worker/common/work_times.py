# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the work that is under way has been so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class WorkTimes:
    """Knows when each piece of work began; for any number of threads."""

    def __init__(self) -> None:
        self._begun: dict[object, float] = {}

    @contextmanager
    def one(self) -> Iterator[None]:
        """What is done inside is one piece of work."""
        me = object()
        self._begun[me] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[me]

    @property
    def longest(self) -> float:
        """For how many seconds the slowest has been under way; 0: nothing is."""
        begun = min(self._begun.copy().values(), default=None)
        return 0.0 if begun is None else time.monotonic() - begun
