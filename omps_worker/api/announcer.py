# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes results on the bus in the background, so that a slow or unavailable broker delays no reply."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from omps_worker.common import machine
from omps_worker.common.errors import BrokerError

log = logging.getLogger(__name__)

WAITING = 1000
"""The maximum number of results that wait for the broker; further results are only logged."""

T = TypeVar("T")


class Announcer(Generic[T]):
    """Sends results one by one in a separate thread. ``send`` may block, and may raise BrokerError."""

    def __init__(self, send: Callable[[T], object]) -> None:
        self._send = send
        self._waiting: queue.Queue[T | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        machine.start(self._thread)

    def announce(self, result: T) -> None:
        """Queue ``result`` to be sent. Returns immediately and never raises; logs a warning if the queue is full."""
        try:
            self._waiting.put_nowait(result)
        except queue.Full:
            log.warning("a result was not published on the bus: %d others are already waiting", WAITING)

    def close(self, seconds: float = 5.0) -> None:
        """Send the waiting results, for at most ``seconds``."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (result := self._waiting.get()) is not None:
            try:
                self._send(result)
            except BrokerError as error:
                log.warning("a result was not published on the bus: %s", error)
            except Exception:
                log.exception("a result was not published on the bus")
