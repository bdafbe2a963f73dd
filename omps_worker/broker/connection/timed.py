# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the broker with a timeout. pika's blocking calls have no limit as long as heartbeats arrive.

During a memory or disk alarm, the broker stops reading from a connection as soon as that connection publishes. Any
request on it is then answered only when the alarm ends, which may take days. The broker announces this with a
connection.blocked frame.
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
    """The broker has stopped reading from this connection, which is therefore unusable.

    The text is the broker's reason.
    """


def block_reason(frame: Any) -> str:
    """Return the reason in a connection.blocked frame."""
    return one_line(str(frame.method.reason)) or "no reason given"


def blocked_error(place: str, reason: str) -> BrokerBlocked:
    """Return the error that reports an alarm of the broker."""
    return BrokerBlocked(
        f"The broker ({place}) takes no messages: {reason}. This alarm of the broker ends when it has room again."
    )


class TimedConnection:
    """A connection whose requests have a timeout. Use it in the connection's own thread."""

    def __init__(self, connection: BlockingConnection) -> None:
        # The timers and callbacks of BlockingConnection's public interface do not fire inside a call.
        inner: Any = connection._impl  # type: ignore[attr-defined]
        self._ioloop = inner.ioloop
        self._waiting = False
        self.blocked: str | None = None
        """The reason why the broker has stopped reading from the connection; None: it has not."""
        inner.add_on_connection_blocked_callback(self._on_blocked)

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Limit the requests inside the block to this number of seconds.

        Raises AMQPError when the time is over, and Blocked when the broker stops reading. The connection cannot be used
        after either.
        """
        if self.blocked is not None:
            raise Blocked(self.blocked)
        timer = self._ioloop.call_later(seconds, functools.partial(_give_up, AMQPError("it does not answer")))
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
            # A closed connection has no timers to remove.
            with contextlib.suppress(Exception):
                self._ioloop.remove_timeout(timer)

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked = block_reason(frame)
        if self._waiting:
            self._ioloop.call_later(0, functools.partial(_give_up, Blocked(self.blocked)))


def close(connection: BlockingConnection, seconds: float) -> None:
    """Close the connection in at most ``seconds``; a connection that is gone or blocked is dropped."""
    with contextlib.suppress(Exception), TimedConnection(connection).limit(seconds):
        connection.close()
    # If the broker does not answer the close, pika leaves the socket to the garbage collector. Until then the broker
    # would consider the connection alive, with everything that belongs to it, such as a lock.
    transport: Any = getattr(connection._impl, "_transport", None)  # type: ignore[attr-defined]
    if transport is not None:
        with contextlib.suppress(OSError):
            transport._sock.shutdown(socket.SHUT_RDWR)
        transport._sock.close()


def _give_up(error: AMQPError) -> None:
    raise error
