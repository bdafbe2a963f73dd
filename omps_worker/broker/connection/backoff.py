# SPDX-License-Identifier: GPL-3.0-or-later
"""Pauses between attempts to connect."""

from __future__ import annotations

import random

FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
"""Shortest and longest pause between attempts, in seconds. Pauses double from the first to the second."""


class Backoff:
    """Pauses between attempts: doubling, capped, and with jitter, so that replicas do not try in step."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def reset(self) -> None:
        """Start with the shortest pause again, after a success."""
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  no secret
