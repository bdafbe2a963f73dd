# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker does beside its messages: reload when SIGHUP asks, and look after its files now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.consuming.signals import Signals

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
"""How often files are looked after."""


class Housekeeping:
    """``turn`` it often, in the thread that handles signals."""

    def __init__(self, handler: MessageHandler, signals: Signals) -> None:
        self._handler = handler
        self._signals = signals
        self._next = 0.0

    def turn(self) -> None:
        """Do what is due; what fails is logged."""
        if self._signals.reload_wanted:
            self._signals.reload_wanted = False
            log.info("reloading, as SIGHUP asks")
            _call(self._handler.reload, "reloading")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PERIOD_SECONDS
            _call(self._handler.housekeeping, "housekeeping")


def _call(act: Callable[[], object], what: str) -> None:
    try:
        act()
    except Exception:
        log.exception("%s failed", what)
