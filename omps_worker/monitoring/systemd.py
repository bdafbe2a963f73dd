# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications to systemd: the service is ready, alive, or stopping.

The protocol is ``sd_notify``'s: one datagram per notification, sent to the socket that ``$NOTIFY_SOCKET`` names. A
watchdog notification is sent three times per ``WatchdogSec``, but only while the service is alive in the sense of
``/live``. If none arrives, systemd ends the service with SIGABRT and restarts it; the log then shows where the threads
were. Without ``$NOTIFY_SOCKET`` this module does nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

from omps_worker.common import machine

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0
"""The seconds that systemd may take to accept a datagram."""

SIGNS_PER_PERIOD = 3
"""The number of watchdog notifications per ``WatchdogSec``."""


class SystemdNotifier:
    """A context manager that notifies systemd: ready when it is entered, stopping when it is left.

    ``restart_reasons`` returns the reasons to restart the service; while there are none, the service is alive.
    """

    def __init__(
        self, restart_reasons: Callable[[], Sequence[str]], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._restart_reasons = restart_reasons
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._period = _period(environment) if self._address else None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SystemdNotifier:
        self._notify("READY=1")
        if self._period is not None:
            with contextlib.suppress(Exception):  # stderr may not be a file
                faulthandler.enable()
            self._thread = threading.Thread(
                target=self._send_watchdogs, args=(self._period,), name="watchdog", daemon=True
            )
            machine.start(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._notify("STOPPING=1")
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _send_watchdogs(self, period: float) -> None:
        silent = False
        while True:
            reasons = self._restart_reasons()
            if not reasons:
                self._notify("WATCHDOG=1")
            elif not silent:
                log.error("no more watchdog notifications: systemd will restart the service: %s", "; ".join(reasons))
            silent = bool(reasons)
            if self._over.wait(period / SIGNS_PER_PERIOD):
                return

    def _notify(self, notification: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.sendto(notification.encode(), self._address)
        except OSError as error:
            log.warning("cannot send %s to systemd: %s", notification, error.strerror or type(error).__name__)


def _address(name: str) -> str | None:
    """Return the address of a socket of AF_UNIX, which may be an abstract one; None for anything else."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _period(environment: Mapping[str, str]) -> float | None:
    """Return the seconds within which systemd expects a watchdog notification; None if it expects none."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID")
    if not (usec.isascii() and usec.isdigit() and int(usec[:18])) or pid not in (None, str(os.getpid())):
        return None
    return int(usec[:18]) / 1e6
