# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a condition instead of sleeping and hoping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], seconds: float = 15, what: str = "") -> T:
    """The first true value of ``predicate``; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what or predicate}")
        pause.wait(0.02)
