# SPDX-License-Identifier: GPL-3.0-or-later
"""Catch-up: messages for builds whose own message never came, on demand or periodically while a worker runs.

The messages go to ``<queue>`` through the default exchange, so no other consumer on the bus receives them. They are
processed like all messages: in a worker thread, with retries and parking.

If a period is configured, one replica does this for all: the one that owns an exclusive queue, on a separate
connection. When this replica dies, the queue disappears, and the next replica that asks for it takes over.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from types import TracebackType

from pika.spec import BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.locks.connection import LockConnection
from omps_worker.broker.locks.lock_queues import LockedPackage
from omps_worker.broker.outbox import OutgoingMessage
from omps_worker.common import machine
from omps_worker.common.errors import BrokerBlocked, BrokerUnavailable, WorkerError

log = logging.getLogger(__name__)

STOP_SECONDS = 2.0
"""How long a stop waits for a round that is under way, in seconds; a round that takes longer is abandoned."""


def catch_up_message(message_id: str, body: bytes, *, topic: str, queue: str) -> OutgoingMessage:
    """Return a message about a build for ``queue`` alone. Results name ``topic`` as the message's topic."""
    now = datetime.now(timezone.utc)
    properties = BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=message_id,
        headers={headers.TOPIC: topic, headers.EXCHANGE: "", headers.CATCH_UP: headers.iso(now)},
    )
    return OutgoingMessage("", queue, body, properties, mandatory=True)


class Leadership:
    """The right of one replica to do the periodic catch-up for all replicas that share ``queue``.

    It lasts as long as the connection ``link``.
    """

    def __init__(self, link: LockConnection, queue: str) -> None:
        self._link = link
        self._name = LockedPackage(
            hashlib.sha256(f"catch-up/{queue}".encode()).hexdigest()[:32], f"catch-up of {queue}"
        )

    def acquire(self) -> bool:
        """Return whether this process has the leadership, after taking it if it is free. Raises BrokerError."""
        acquired, _ = self._link.do(lambda queues: queues.take(self._name))
        return acquired

    def close(self) -> None:
        """Give up the leadership, so that another replica can take it."""
        self._link.close()


class PeriodicCatchUp:
    """Calls ``catch_up`` about every ``period`` seconds in a separate thread; a context manager.

    ``catch_up`` receives a function that returns True when it should stop. The first call comes after one period, so
    that a worker that is restarted again and again does not spend its time on catch-ups. With ``leadership``, a round
    takes place only if this replica is the leader; without it, every round does. Exceptions of ``catch_up`` are logged,
    and the next round tries again.
    """

    def __init__(
        self, catch_up: Callable[[Callable[[], bool]], object], period: float, leadership: Leadership | None = None
    ) -> None:
        self._catch_up = catch_up
        self._period = period
        self._leadership = leadership
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catch-up", daemon=True)

    def __enter__(self) -> PeriodicCatchUp:
        machine.start(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(STOP_SECONDS)
        if self._leadership is not None:
            self._leadership.close()

    def _run(self) -> None:
        # Random, so that the replicas of a deployment do not all start in the same second.
        while not self._over.wait(self._period * random.uniform(0.9, 1.1)):  # noqa: S311  no secret
            try:
                if self._leadership is None or self._leadership.acquire():
                    self._catch_up(self._over.is_set)
            except (BrokerBlocked, BrokerUnavailable) as error:
                if not self._over.is_set():
                    log.warning("skipping this catch-up: %s", error.message)
            except WorkerError as error:
                log.error("the catch-up failed and is tried again after its period: %s: %s", error.name, error.message)
            except Exception:
                log.exception("the catch-up failed unexpectedly and is tried again after its period")
