# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells systemd that the service has begun, that it lives, and that it stops.

The protocol is ``sd_notify``'s: one datagram for each piece of news, to the socket that ``$NOTIFY_SOCKET`` names.
A sign of life is sent three times in each ``WatchdogSec``, but only while the service says of itself what ``/live``
says. If none comes, systemd ends the service by SIGABRT and starts it again; then the log says where its threads
were. Without ``$NOTIFY_SOCKET`` nothing of this happens.
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
"""How long systemd may take to take a datagram."""

SIGNS_PER_PERIOD = 3


class SystemdNotifier:
    """News for systemd, as a context manager: ready at its beginning, stopping at its end.

    ``vital`` gives the reasons why the service should be started anew; none: it lives.
    """

    def __init__(self, vital: Callable[[], Sequence[str]], environment: Mapping[str, str] = os.environ) -> None:
        self._vital = vital
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._period = _period(environment) if self._address else None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SystemdNotifier:
        self._tell("READY=1")
        if self._period is not None:
            with contextlib.suppress(Exception):  # where stderr is no file
                faulthandler.enable()
            self._thread = threading.Thread(target=self._give_signs, args=(self._period,), name="watchdog", daemon=True)
            machine.start(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._tell("STOPPING=1")
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _give_signs(self, period: float) -> None:
        silent = False
        while True:
            reasons = self._vital()
            if not reasons:
                self._tell("WATCHDOG=1")
            elif not silent:
                log.error("no more signs of life for systemd, which will start this anew: %s", "; ".join(reasons))
            silent = bool(reasons)
            if self._over.wait(period / SIGNS_PER_PERIOD):
                return

    def _tell(self, news: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.sendto(news.encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", news, error.strerror or type(error).__name__)


def _address(name: str) -> str | None:
    """That of a socket of AF_UNIX, which may be an abstract one; None for anything else."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _period(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants a sign of life from this process; None: it wants none."""
    told, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID")
    if not (told.isascii() and told.isdigit() and int(told[:18])) or pid not in (None, str(os.getpid())):
        return None
    return int(told[:18]) / 1e6
