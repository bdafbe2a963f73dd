# SPDX-License-Identifier: GPL-3.0-or-later
"""How long to wait between attempts to connect."""

from __future__ import annotations

import random

FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
"""Seconds between tries to connect: they double from the first to the longest."""


class Backoff:
    """How long to wait before the next try: doubling, capped, with jitter so that replicas spread."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def reset(self) -> None:
        """Start over, after something worked."""
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait now."""
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  no secret
