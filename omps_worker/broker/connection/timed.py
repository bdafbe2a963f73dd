# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the broker that end in time. pika's calls have no limit as long as heartbeats go on.

A broker that is short of memory or disk stops reading from a connection as soon as it publishes: whatever is
asked on it then is answered when the alarm ends, be it in days. It says so first, though.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError

from omps_worker.common.errors import BrokerBlocked
from omps_worker.common.text import one_line


class Blocked(AMQPError):
    """The broker has stopped reading from this connection, which is of no use any more; the text is its reason."""


def reason_of(frame: Any) -> str:
    """The reason that a connection.blocked frame gives."""
    return one_line(str(frame.method.reason)) or "no reason given"


def takes_nothing(place: str, reason: str) -> BrokerBlocked:
    """The error that says it to a person."""
    return BrokerBlocked(
        f"The broker ({place}) takes no messages: {reason}. That is an alarm of its own, which ends when there is room."
    )


class TimedConnection:
    """A connection and how long one waits for it; to be used in its own thread."""

    def __init__(self, connection: BlockingConnection) -> None:
        # Its public timers and callbacks do not go off inside a call.
        inner: Any = connection._impl  # type: ignore[attr-defined]
        self._ioloop = inner.ioloop
        self._waiting = False
        self.blocked: str | None = None
        """Why the broker has stopped reading from it, if it has."""
        inner.add_on_connection_blocked_callback(self._on_blocked)

    @contextlib.contextmanager
    def to(self, seconds: float) -> Iterator[None]:
        """Wait no longer than that for what is asked inside.

        Raises AMQPError when the time is over, and Blocked when the broker stops reading; then nothing
        can be asked on the connection any more.
        """
        if self.blocked is not None:
            raise Blocked(self.blocked)
        timer = self._ioloop.call_later(seconds, functools.partial(_give_up, AMQPError("it does not answer")))
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
            # A connection that has ended has no timers.
            with contextlib.suppress(Exception):
                self._ioloop.remove_timeout(timer)

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked = reason_of(frame)
        if self._waiting:
            self._ioloop.call_later(0, functools.partial(_give_up, Blocked(self.blocked)))


def close(connection: BlockingConnection, seconds: float) -> None:
    """Say goodbye, which may take so long; a connection that is gone already, or blocked, is just dropped."""
    with contextlib.suppress(Exception), TimedConnection(connection).to(seconds):
        connection.close()
    # pika leaves the socket of a goodbye that had no answer to the garbage collection, and the broker would take us
    # for there until then: with all that belongs to the connection, such as a lock.
    transport: Any = getattr(connection._impl, "_transport", None)  # type: ignore[attr-defined]
    if transport is not None:
        with contextlib.suppress(OSError):
            transport._sock.shutdown(socket.SHUT_RDWR)
        transport._sock.close()


def _give_up(error: AMQPError) -> None:
    raise error
