# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for a condition instead of sleeping for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], seconds: float = 15, what: str = "") -> T:
    """Return the first true value of ``predicate``. Raises AssertionError if there is none in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {seconds} s waiting for {what or predicate}")
        pause.wait(0.02)
