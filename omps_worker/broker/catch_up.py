# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages for builds whose own never came; by hand, or every now and then while the worker runs.

They go to ``<queue>`` through the default exchange, so that nobody else on the bus hears of them, and
take the way of every other message: work in a thread, retries, parking.

With a period one replica does this for all: the one that has an exclusive queue, on a connection of
its own. When it dies, so does the queue, and the next that asks takes over.
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
"""How long to wait at the end for a round under way, which may be left to itself."""


def outgoing(message_id: str, body: bytes, *, topic: str, queue: str) -> OutgoingMessage:
    """A message about a build, for ``queue`` alone; ``topic`` is what results name as its topic."""
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
    """Belongs to one of all replicas that share ``queue``, for as long as it lives."""

    def __init__(self, link: LockConnection, queue: str) -> None:
        self._link = link
        self._name = LockedPackage(
            hashlib.sha256(f"catch-up/{queue}".encode()).hexdigest()[:32], f"catch-up of {queue}"
        )

    def ours(self) -> bool:
        """Whether it is ours, taking it if it is nobody's. Raises BrokerError."""
        ours, _ = self._link.do(lambda queues: queues.take(self._name))
        return ours

    def close(self) -> None:
        """Leave it to another."""
        self._link.close()


class PeriodicCatchUp:
    """Calls ``go`` every ``period`` seconds in a thread of its own, as a context manager.

    ``go`` is given what tells it to stop, should it take long.
    The first time after a period, so that a worker that keeps starting does nothing else. ``turn``
    is asked before: without it, this replica goes every time. What ``go`` raises is logged, and the
    next round tries again.
    """

    def __init__(
        self, go: Callable[[Callable[[], bool]], object], period: float, turn: Leadership | None = None
    ) -> None:
        self._go = go
        self._period = period
        self._turn = turn
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
        if self._turn is not None:
            self._turn.close()

    def _run(self) -> None:
        # Not all replicas of a deployment at the same second.
        while not self._over.wait(self._period * random.uniform(0.9, 1.1)):  # noqa: S311  no secret
            try:
                if self._turn is None or self._turn.ours():
                    self._go(self._over.is_set)
            except (BrokerBlocked, BrokerUnavailable) as error:
                if not self._over.is_set():
                    log.warning("no catch-up this time: %s", error.message)
            except WorkerError as error:
                log.error("the catch-up failed, and is tried again after its period: %s: %s", error.name, error.message)
            except Exception:
                log.exception("the catch-up failed in an unforeseen way, and is tried again after its period")
