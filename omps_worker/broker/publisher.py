# SPDX-License-Identifier: GPL-3.0-or-later
"""``Publisher``: every message is confirmed by the broker, or the caller gets an error.

It has a separate connection and a separate thread: when the broker is short of memory or disk, it stops reading from
connections that publish, and this must not stop the consumer.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic, BasicProperties

from omps_worker.broker import copies
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.backoff import Backoff
from omps_worker.broker.connection.failures import refusal_error, write_advice
from omps_worker.broker.connection.timed import block_reason, blocked_error
from omps_worker.broker.outbox import Outbox, OutgoingMessage, UnconfirmedMessage
from omps_worker.common import machine
from omps_worker.common.errors import BrokerError, BrokerUnavailable
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

STEADY_SECONDS = 10.0
"""A connection that lasts this many seconds, or on which a message was confirmed, resets the backoff."""

PROBE_SECONDS = 5.0
"""Interval in seconds of the probes that show whether the broker accepts messages.

RabbitMQ reports an alarm only to connections that publish.
"""

MISSING_QUEUE = "omps-worker.nobody"
"""The name of a queue that does not exist.

A message that is sent to it through the default exchange is confirmed and discarded.
"""

PUBLISH_SECONDS = 30.0
"""Default timeout in seconds for the confirmation of a message, including reconnects."""

ALARM_SECONDS = 5.0
"""How long an alarm of the broker may last, in seconds, until a caller that waits for an answer gets an error."""

POLL_SECONDS = 0.25
"""Interval in seconds at which a waiting caller checks for an alarm."""


class Publisher:
    """Publishes from any thread. It reconnects automatically, and sends unconfirmed messages again."""

    def __init__(
        self, access: BrokerAccess, *, timeout: float = PUBLISH_SECONDS, observer: Observer = NO_OBSERVER
    ) -> None:
        self._access = access
        self._timeout = timeout
        self._observer = observer
        self._ever_ready = False
        self._outbox = Outbox()
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._returned: str | None = None
        self._closing = threading.Event()
        self._reconnect_now = threading.Event()
        self._backoff = Backoff()
        self._ready_at: float | None = None
        self._away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._probe_answered = False
        self.refusal: BrokerError | None = None
        """Why no copy can be sent to the worker's own queues: the broker refuses messages to the default exchange."""
        self.blocked: str | None = None
        """Why the broker has stopped reading from this connection; None: it has not."""
        self.frame_max = copies.DEFAULT_FRAME
        """The largest frame of the connection in bytes, as agreed with the broker."""

    def start(self) -> Publisher:
        """Begin to connect, unless that was done before. Return at once."""
        if self._thread.ident is None:
            machine.start(self._thread)
        return self

    def __enter__(self) -> Publisher:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the broker accepts messages now, as shown by a probe on the current connection."""
        connection = self._connection
        return connection is not None and connection.is_open and self._probe_answered and self.blocked is None

    def trouble(self) -> str | None:
        """Return why the broker does not accept messages now, or None if it does."""
        if self.blocked is not None:
            return f"the broker takes no messages: {self.blocked}"
        return None if self.connected else "not connected"

    def reconnect_now(self) -> None:
        """Connect now, instead of at the end of the pause, because the broker seems to be back.

        Any thread may call it.
        """
        self._reconnect_now.set()

    def publish(
        self, outgoing: OutgoingMessage, *, timeout: float | None = None, alarm_seconds: float = PUBLISH_SECONDS
    ) -> None:
        """Publish a message, and return when the broker has confirmed it.

        Raises BrokerUnavailable if there is no confirmation within ``timeout`` seconds, and BrokerBlocked if the
        message was waiting for the end of an alarm of the broker; in both cases the message may have arrived. Raises
        BrokerRefused if the broker does not accept the message: the exchange is missing, the user lacks a permission,
        or no queue takes it (only if it is ``mandatory``; a full queue refuses other messages, too). Then it did not
        arrive, and trying again helps only after the cause is fixed.

        ``alarm_seconds``: how long the broker may block publishers until BrokerBlocked is raised. If it is infinity,
        the time of an alarm does not count towards ``timeout``, so that one copy waits for the end of the alarm, and
        not many.
        """
        outgoing.check(self.frame_max)
        pending = UnconfirmedMessage(outgoing, alone=outgoing.mandatory)
        self._outbox.add(pending)
        self._wake()
        seconds = self._timeout if timeout is None else timeout
        if not self._confirmed(pending, seconds, alarm_seconds):
            pending.abandoned = True
            self._wake()
            if (blocked := self.blocked) is not None:
                raise blocked_error(self._access.place, blocked)
            raise BrokerUnavailable(
                f"The broker ({self._access.place}) has not confirmed a message within {seconds:g} s; "
                "see the log for its state."
            )
        pending.raise_error()

    def _confirmed(self, pending: UnconfirmedMessage, seconds: float, alarm_seconds: float) -> bool:
        """Return whether the message is confirmed in time; see ``publish``."""
        left, blocked = seconds, 0.0
        while left > 0:
            started = time.monotonic()
            if pending.done.wait(min(POLL_SECONDS, left)):
                return True
            spent = time.monotonic() - started
            blocked = blocked + spent if self.blocked is not None else 0.0
            if blocked >= alarm_seconds:
                return False
            if not blocked or alarm_seconds < math.inf:
                left -= spent
        return pending.done.is_set()

    def close(self, timeout: float = 5.0) -> bool:
        """Wait until every message that a caller waits for is confirmed, then disconnect.

        Takes at most ``timeout`` seconds, and a little longer to disconnect. Returns whether everything was confirmed.
        """
        deadline = time.monotonic() + timeout
        flushed = self._outbox.close(timeout)
        self._closing.set()
        self.reconnect_now()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(max(deadline - time.monotonic(), 2.0))
        return flushed

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            # The connection may have ended in the meantime; the next one checks the outbox when it is ready.
            with contextlib.suppress(Exception):
                connection.ioloop.add_callback_threadsafe(self._send_waiting)

    # The methods below run in the publisher's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            self._try_each_node()
            ready_at, self._ready_at = self._ready_at, None
            if ready_at is not None and time.monotonic() - ready_at > STEADY_SECONDS:
                self._backoff.reset()
            if not self._closing.is_set():
                self._reconnect_now.wait(self._backoff.next())
                self._reconnect_now.clear()
        self._outbox.abandon(BrokerUnavailable("The publisher was closed before the message was confirmed."))

    def _try_each_node(self) -> None:
        try:
            nodes = self._access.nodes()
        except BrokerError as error:
            self._log_lost(error)
            return
        for node in nodes:
            try:
                self._run_connection(node)
            except Exception:
                log.exception("the publisher's connection failed unexpectedly")
            self._forget_connection()
            if self._closing.is_set() or self._ready_at is not None:
                return

    def _run_connection(self, node: pika.URLParameters) -> None:
        self._access.remember(node)
        connection = pika.SelectConnection(
            node,
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
        self._probe_answered = False
        self._outbox.lost()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.ioloop.close()

    def _on_lost(self, connection: pika.SelectConnection, error: BaseException) -> None:
        self._log_lost(self._access.as_broker_error(error))
        self._channel = None
        connection.ioloop.stop()

    def _log_lost(self, error: BrokerError) -> None:
        if not self._closing.is_set():
            if self._away_since is None:
                self._away_since = time.monotonic()
            log.warning("the publisher has no connection and tries again: %s", error)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        self.frame_max = connection.params.frame_max or copies.DEFAULT_FRAME
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
        self._channel, self._returned = channel, None
        self._outbox.new_channel()
        self._ready_at = time.monotonic()
        if self._ever_ready:
            self._observer.reconnected("publisher")
        self._ever_ready = True
        if self._away_since is not None:
            log.info("the publisher is connected again after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None
        self._probe(channel)
        self._send_waiting()

    def _probe(self, channel: Channel) -> None:
        """Send a probe now and periodically while ``channel`` is open.

        The answer shows whether the broker accepts messages.
        """
        connection = self._connection
        if connection is None or channel is not self._channel or not channel.is_open:
            return
        if self._probe_answered and self.refusal is not None:
            return
        # Until the first answer nothing else is sent: a message to a broker that does not read cannot be taken back.
        probe = UnconfirmedMessage(
            OutgoingMessage("", MISSING_QUEUE, b"", BasicProperties()), alone=not self._probe_answered, probe=True
        )
        self._outbox.add_probe(probe)
        connection.ioloop.call_later(PROBE_SECONDS, lambda: self._probe(channel))
        self._send_waiting()

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked = block_reason(frame)
        log.warning("the broker blocks publishers: %s", self.blocked)

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        self.blocked = None
        log.info("the broker takes messages again")
        self._send_waiting()

    def _send_waiting(self) -> None:
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
            # A message that is sent to a broker that does not read cannot be taken back.
            return
        while (pending := self._outbox.next()) is not None:
            self._send(channel, pending)

    def _send(self, channel: Channel, pending: UnconfirmedMessage) -> None:
        outgoing = pending.outgoing
        try:
            channel.basic_publish(
                outgoing.exchange, outgoing.routing_key, outgoing.body, outgoing.properties, outgoing.mandatory
            )
        except Exception:
            self._outbox.not_sent(pending)
            raise
        self._outbox.sent(pending)

    def _on_returned(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, _body: bytes) -> None:
        # The broker returns mandatory messages only, and a mandatory message is always the only unconfirmed one.
        self._returned = one_line(str(method.reply_text))

    def _on_confirmed(self, frame: Any) -> None:
        method = frame.method
        confirmed = self._outbox.confirmed(method.delivery_tag, multiple=method.multiple)
        self._backoff.reset()
        returned, self._returned = self._returned, None
        for pending in confirmed:
            if pending.probe:
                self._probe_answered, self.refusal = True, None
            pending.finish(pending.outgoing.refusal(returned, nacked=isinstance(method, Basic.Nack)))
        self._send_waiting()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        connection = self._connection
        if not isinstance(error, ChannelClosedByBroker) or connection is None or not connection.is_open:
            return
        unconfirmed = self._outbox.take_unconfirmed()
        if len(unconfirmed) == 1:
            outgoing = unconfirmed[0].outgoing
            refusal = refusal_error(
                error,
                f"a message to the exchange {outgoing.exchange!r}",
                write_advice(outgoing.routing_key),
            )
            if unconfirmed[0].probe:
                # The broker may still accept messages to other exchanges.
                self._probe_answered, self.refusal = True, refusal
            unconfirmed[0].finish(refusal)
        else:
            # One of them caused this: send each separately to find out which.
            for pending in unconfirmed:
                pending.alone = True
            self._outbox.put_first(unconfirmed)
        self._open_channel(connection)
