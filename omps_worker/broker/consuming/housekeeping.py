# SPDX-License-Identifier: GPL-3.0-or-later
"""``Housekeeping``: what a worker does apart from its messages: reload on SIGHUP, and look after its files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.consuming.signals import Signals

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
"""Interval in seconds between two calls of the handler's ``housekeeping``."""


class Housekeeping:
    """Runs the handler's ``reload`` and ``housekeeping`` when they are due.

    Call ``turn`` often, in the thread that handles signals.
    """

    def __init__(self, handler: MessageHandler, signals: Signals) -> None:
        self._handler = handler
        self._signals = signals
        self._next = 0.0

    def turn(self) -> None:
        """Do what is due, and log what fails."""
        if self._signals.reload_wanted:
            self._signals.reload_wanted = False
            log.info("reloading after SIGHUP")
            _call(self._handler.reload, "reloading")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PERIOD_SECONDS
            _call(self._handler.housekeeping, "housekeeping")


def _call(act: Callable[[], object], what: str) -> None:
    try:
        act()
    except Exception:
        log.exception("%s failed", what)
