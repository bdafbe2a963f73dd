# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing that is sure: every message is confirmed by the broker, or the caller is told.

A connection and a thread of its own, because the broker stops reading from connections that
publish when it is short of memory or disk, and the consumer must not stop with it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic, BasicProperties

from omps_worker import machine
from omps_worker.broker import parking
from omps_worker.broker.connection import Backoff, declined, may_write, named, place
from omps_worker.errors import BrokerError, BrokerRefused, BrokerUnavailable
from omps_worker.observer import SILENT, Observer
from omps_worker.text import one_line

log = logging.getLogger(__name__)

STEADY_SECONDS = 10.0
"""A connection that lived that long, or on which something was confirmed, is no part of a series of failures."""

PUBLISH_SECONDS = 30.0
"""How long a message may take until it is confirmed, reconnecting included."""


@dataclass(frozen=True)
class Outgoing:
    """A message to publish. ``mandatory``: it is an error if no queue takes it."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    properties: BasicProperties = field(repr=False)
    mandatory: bool = False


@dataclass(eq=False)
class _Pending:
    outgoing: Outgoing
    alone: bool
    """Nothing else is under way meanwhile, so that a refusal is known to be about this one."""
    done: threading.Event = field(default_factory=threading.Event)
    error: BrokerError | None = None
    abandoned: bool = False

    def finish(self, error: BrokerError | None = None) -> None:
        self.error = error
        self.done.set()


class Publisher:
    """Publishes from any thread. Reconnects by itself; what was not confirmed is sent again."""

    def __init__(
        self, where: pika.URLParameters, *, timeout: float = PUBLISH_SECONDS, observer: Observer = SILENT
    ) -> None:
        self._where = where
        self._timeout = timeout
        self._observer = observer
        self._ever_ready = False
        self._lock = threading.Lock()
        self._waiting: deque[_Pending] = deque()
        self._sent: dict[int, _Pending] = {}
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._last_tag = 0
        self._returned: str | None = None
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._backoff = Backoff()
        self._ready_at: float | None = None
        self._away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.blocked: str | None = None
        """Why the broker has stopped reading from us, while it has."""
        self.frame_max = parking.DEFAULT_FRAME
        """The largest frame of the connection in bytes, as agreed with the broker."""

    def start(self) -> Publisher:
        """Begin to connect, if that was not done before. Returns at once."""
        if self._thread.ident is None:
            machine.start(self._thread)
        return self

    def __enter__(self) -> Publisher:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the broker would take a message now."""
        channel = self._channel
        return channel is not None and channel.is_open and self.blocked is None

    def trouble(self) -> str | None:
        """Why the broker would not take a message now; None: it would."""
        if self.blocked is not None:
            return f"the broker takes no messages: {self.blocked}"
        return None if self.connected else "not connected"

    def hurry(self) -> None:
        """The broker seems to be back: connect now, instead of after the pause. From any thread."""
        self._hurry.set()

    def publish(self, outgoing: Outgoing, *, timeout: float | None = None, patient: bool = False) -> None:
        """Publish and return when the broker has confirmed that it keeps the message.

        Raises BrokerUnavailable when that does not happen in ``timeout`` seconds; the message may
        have arrived all the same. Raises BrokerRefused when the broker does not take it: the
        exchange is missing, the user may not, no queue takes it (``mandatory``; a queue that is
        full says so even without). Then it did not arrive, and trying again helps after somebody
        did something about it.

        ``patient``: the time for which the broker blocks publishers does not count, however long,
        so that one copy waits for the end of the alarm and not many.
        """
        self._check(outgoing)
        pending = _Pending(outgoing, alone=outgoing.mandatory)
        with self._lock:
            if self._closing.is_set():
                raise BrokerUnavailable("The publisher is closed.")
            self._waiting.append(pending)
        self._wake()
        seconds = self._timeout if timeout is None else timeout
        while not pending.done.wait(seconds):
            if patient and self.blocked is not None:
                continue
            pending.abandoned = True
            self._wake()
            why = f"it blocks publishers: {self.blocked}" if self.blocked else "see the log for its state"
            raise BrokerUnavailable(
                f"The broker ({place(self._where)}) has not confirmed a message within {seconds:g} s; {why}."
            )
        if pending.error is not None:
            raise pending.error

    def _check(self, outgoing: Outgoing) -> None:
        # What cannot be sent would end the connection each time it is tried.
        try:
            Basic.Publish(exchange=outgoing.exchange, routing_key=outgoing.routing_key).encode()
            size = sum(map(len, outgoing.properties.encode()))
        except Exception as error:
            to, why = one_line(outgoing.routing_key)[:255], type(error).__name__
            raise BrokerRefused(f"A message to {to!r} cannot be encoded for AMQP: {why}.") from error
        if size > self.frame_max - parking.FRAME_OVERHEAD:
            raise BrokerRefused(
                f"A message to {outgoing.routing_key!r} has {size} bytes of headers, more than a frame holds."
            )

    def close(self, timeout: float = 5.0) -> bool:
        """Wait until everything that somebody waits for is confirmed, then disconnect.

        Takes at most ``timeout`` seconds, and a little to disconnect; returns whether all was confirmed.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            flushed = self._idle.wait_for(lambda: not self._awaited(), timeout)
            self._closing.set()
        self.hurry()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(max(deadline - time.monotonic(), 2.0))
        return flushed

    def _awaited(self) -> bool:
        return any(not pending.abandoned for pending in (*self._waiting, *self._sent.values()))

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            # The connection may have ended in the meantime; its successor looks by itself.
            with contextlib.suppress(Exception):
                connection.ioloop.add_callback_threadsafe(self._turn)

    # From here on everything runs in the publisher's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._converse()
            except Exception:
                log.exception("the publisher's connection failed in an unforeseen way")
            self._forget_connection()
            ready_at, self._ready_at = self._ready_at, None
            if ready_at is not None and time.monotonic() - ready_at > STEADY_SECONDS:
                self._backoff.reset()
            if not self._closing.is_set():
                self._hurry.wait(self._backoff.next())
                self._hurry.clear()
        with self._lock:
            left = [*self._sent.values(), *self._waiting]
            self._sent.clear()
            self._waiting.clear()
        for pending in left:
            pending.finish(BrokerUnavailable("The publisher was closed before the message was confirmed."))

    def _converse(self) -> None:
        connection = pika.SelectConnection(
            self._where,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
        )
        self._connection = connection
        if self._closing.is_set():
            return
        connection.ioloop.start()

    def _forget_connection(self) -> None:
        connection, self._connection, self._channel, self.blocked = self._connection, None, None, None
        self._put_back()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.ioloop.close()

    def _put_back(self) -> None:
        """What was sent and not confirmed is to be sent again, before anything else."""
        with self._lock:
            unconfirmed = list(self._sent.values())
            self._sent.clear()
            self._waiting.extendleft(reversed(unconfirmed))

    def _on_lost(self, connection: pika.SelectConnection, error: BaseException) -> None:
        if not self._closing.is_set():
            if self._away_since is None:
                self._away_since = time.monotonic()
            log.warning("the publisher has no connection and tries again: %s", named(error, self._where))
        self._channel = None
        connection.ioloop.stop()

    def _on_open(self, connection: pika.SelectConnection) -> None:
        self.frame_max = connection.params.frame_max or parking.DEFAULT_FRAME
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._open_channel(connection)

    def _open_channel(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(self._on_confirmed, callback=lambda _frame: self._on_ready(channel))

    def _on_ready(self, channel: Channel) -> None:
        self._channel, self._last_tag, self._returned = channel, 0, None
        self._ready_at = time.monotonic()
        if self._ever_ready:
            self._observer.reconnected("publisher")
        self._ever_ready = True
        if self._away_since is not None:
            log.info("the publisher is connected again after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None
        self._turn()

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked = one_line(str(frame.method.reason)) or "no reason given"
        log.warning("the broker blocks publishers: %s", self.blocked)

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        self.blocked = None
        log.info("the broker takes messages again")
        self._turn()

    def _turn(self) -> None:
        """Send what can be sent; disconnect when closing."""
        connection, channel = self._connection, self._channel
        if connection is None:
            return
        if self._closing.is_set():
            if connection.is_open:
                connection.close()
            elif connection.is_closed or not connection.is_closing:
                connection.ioloop.stop()
            return
        if channel is None or not channel.is_open or self.blocked is not None:
            # What is sent to a broker that does not read cannot be taken back.
            return
        while (pending := self._next()) is not None:
            self._send(channel, pending)

    def _next(self) -> _Pending | None:
        with self._lock:
            for tag in [tag for tag, pending in self._sent.items() if pending.abandoned]:
                del self._sent[tag]
            while self._waiting and self._waiting[0].abandoned:
                self._waiting.popleft()
            if not self._waiting:
                self._idle.notify_all()
                return None
            alone = self._waiting[0].alone or any(pending.alone for pending in self._sent.values())
            if self._sent and alone:
                return None
            return self._waiting.popleft()

    def _send(self, channel: Channel, pending: _Pending) -> None:
        outgoing = pending.outgoing
        try:
            channel.basic_publish(
                outgoing.exchange, outgoing.routing_key, outgoing.body, outgoing.properties, outgoing.mandatory
            )
        except Exception:
            with self._lock:
                self._waiting.appendleft(pending)
            raise
        else:
            self._last_tag += 1
            with self._lock:
                self._sent[self._last_tag] = pending

    def _on_returned(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, _body: bytes) -> None:
        # Only mandatory messages are returned, and those are alone under way.
        self._returned = one_line(str(method.reply_text))

    def _on_confirmed(self, frame: Any) -> None:
        method = frame.method
        last = method.delivery_tag
        with self._lock:
            tags = [tag for tag in self._sent if tag == last or (method.multiple and tag <= last)]
            confirmed = [self._sent.pop(tag) for tag in tags]
        self._backoff.reset()
        returned, self._returned = self._returned, None
        for pending in confirmed:
            pending.finish(_verdict(pending.outgoing, returned, refused=isinstance(method, Basic.Nack)))
        self._turn()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        connection = self._connection
        if not isinstance(error, ChannelClosedByBroker) or connection is None or not connection.is_open:
            return
        with self._lock:
            unconfirmed = list(self._sent.values())
            self._sent.clear()
        if len(unconfirmed) == 1:
            outgoing = unconfirmed[0].outgoing
            unconfirmed[0].finish(
                declined(
                    error,
                    f"a message to the exchange {outgoing.exchange!r}",
                    may_write(outgoing.routing_key),
                )
            )
        else:
            # One of them is to blame: send each on its own to find out which.
            for pending in unconfirmed:
                pending.alone = True
            with self._lock:
                self._waiting.extendleft(reversed(unconfirmed))
        self._open_channel(connection)


def _verdict(outgoing: Outgoing, returned: str | None, *, refused: bool) -> BrokerRefused | None:
    to = f"{outgoing.routing_key!r} through the exchange {outgoing.exchange!r}"
    if refused:
        return BrokerRefused(f"The broker does not take a message to {to}: a queue is full or not available.")
    if returned is not None:
        return BrokerRefused(f"No queue takes a message to {to}: {returned}.")
    return None
