# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing that is sure: every message is confirmed by the broker, or the caller is told.

A connection and a thread of its own, because the broker stops reading from connections that
publish when it is short of memory or disk, and the consumer must not stop with it.
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
from omps_worker.broker.connection.failures import declined, may_write
from omps_worker.broker.connection.timed import reason_of, takes_nothing
from omps_worker.broker.outbox import Outbox, OutgoingMessage, UnconfirmedMessage
from omps_worker.common import machine
from omps_worker.common.errors import BrokerError, BrokerUnavailable
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

STEADY_SECONDS = 10.0
"""A connection that lived that long, or on which something was confirmed, is no part of a series of failures."""

ASK_SECONDS = 5.0
"""How often the broker is asked whether it takes messages. It tells of an alarm only who publishes."""

NOBODY = "omps-worker.nobody"
"""The name of no queue: what is sent to it through the default exchange is confirmed, and gone."""

PUBLISH_SECONDS = 30.0
"""How long a message may take until it is confirmed, reconnecting included."""

SOON_SECONDS = 5.0
"""How long an alarm of the broker may last until somebody who waits for an answer is told of it."""

LOOK_SECONDS = 0.25
"""How often to look for one."""


class Publisher:
    """Publishes from any thread. Reconnects by itself; what was not confirmed is sent again."""

    def __init__(self, where: BrokerAccess, *, timeout: float = PUBLISH_SECONDS, observer: Observer = SILENT) -> None:
        self._where = where
        self._timeout = timeout
        self._observer = observer
        self._ever_ready = False
        self._outbox = Outbox()
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._returned: str | None = None
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._backoff = Backoff()
        self._ready_at: float | None = None
        self._away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._answered = False
        self.refusal: BrokerError | None = None
        """Why no copy can be sent to our own queues: the broker does not take what goes to the default exchange."""
        self.blocked: str | None = None
        """Why the broker has stopped reading from us, while it has."""
        self.frame_max = copies.DEFAULT_FRAME
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
        """Whether the broker would take a message now: it has shown that it does, on the connection that there is."""
        connection = self._connection
        return connection is not None and connection.is_open and self._answered and self.blocked is None

    def trouble(self) -> str | None:
        """Why the broker would not take a message now; None: it would."""
        if self.blocked is not None:
            return f"the broker takes no messages: {self.blocked}"
        return None if self.connected else "not connected"

    def hurry(self) -> None:
        """The broker seems to be back: connect now, instead of after the pause. From any thread."""
        self._hurry.set()

    def publish(
        self, outgoing: OutgoingMessage, *, timeout: float | None = None, alarm_seconds: float = PUBLISH_SECONDS
    ) -> None:
        """Publish and return when the broker has confirmed that it keeps the message.

        Raises BrokerUnavailable when that does not happen in ``timeout`` seconds, and BrokerBlocked when
        it waited for the end of an alarm of the broker; the message may have arrived all the same. Raises
        BrokerRefused when the broker does not take it: the exchange is missing, the user may not, no
        queue takes it (``mandatory``; a queue that is full says so even without). Then it did not
        arrive, and trying again helps after somebody did something about it.

        ``alarm_seconds``: how long the broker may block publishers until that is told. With infinity that time does
        not count at all, so that one copy waits for the end of the alarm and not many.
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
                raise takes_nothing(self._where.place, blocked)
            raise BrokerUnavailable(
                f"The broker ({self._where.place}) has not confirmed a message within {seconds:g} s; "
                "see the log for its state."
            )
        pending.tell()

    def _confirmed(self, pending: UnconfirmedMessage, seconds: float, alarm_seconds: float) -> bool:
        """Whether the message is confirmed in time; see ``publish``."""
        left, blocked = seconds, 0.0
        while left > 0:
            begun = time.monotonic()
            if pending.done.wait(min(LOOK_SECONDS, left)):
                return True
            spent = time.monotonic() - begun
            blocked = blocked + spent if self.blocked is not None else 0.0
            if blocked >= alarm_seconds:
                return False
            if not blocked or alarm_seconds < math.inf:
                left -= spent
        return pending.done.is_set()

    def close(self, timeout: float = 5.0) -> bool:
        """Wait until everything that somebody waits for is confirmed, then disconnect.

        Takes at most ``timeout`` seconds, and a little to disconnect; returns whether all was confirmed.
        """
        deadline = time.monotonic() + timeout
        flushed = self._outbox.close(timeout)
        self._closing.set()
        self.hurry()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(max(deadline - time.monotonic(), 2.0))
        return flushed

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            # The connection may have ended in the meantime; its successor looks by itself.
            with contextlib.suppress(Exception):
                connection.ioloop.add_callback_threadsafe(self._turn)

    # From here on everything runs in the publisher's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            self._try_each_node()
            ready_at, self._ready_at = self._ready_at, None
            if ready_at is not None and time.monotonic() - ready_at > STEADY_SECONDS:
                self._backoff.reset()
            if not self._closing.is_set():
                self._hurry.wait(self._backoff.next())
                self._hurry.clear()
        self._outbox.abandon(BrokerUnavailable("The publisher was closed before the message was confirmed."))

    def _try_each_node(self) -> None:
        try:
            nodes = self._where.nodes()
        except BrokerError as error:
            self._say_lost(error)
            return
        for node in nodes:
            try:
                self._converse(node)
            except Exception:
                log.exception("the publisher's connection failed in an unforeseen way")
            self._forget_connection()
            if self._closing.is_set() or self._ready_at is not None:
                return

    def _converse(self, node: pika.URLParameters) -> None:
        self._where.used(node)
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
        self._answered = False
        self._outbox.lost()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.ioloop.close()

    def _on_lost(self, connection: pika.SelectConnection, error: BaseException) -> None:
        self._say_lost(self._where.named(error))
        self._channel = None
        connection.ioloop.stop()

    def _say_lost(self, error: BrokerError) -> None:
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
        self._ask(channel)
        self._turn()

    def _ask(self, channel: Channel) -> None:
        """Have the broker say whether it takes messages, now and again while ``channel`` is open."""
        connection = self._connection
        if connection is None or channel is not self._channel or not channel.is_open:
            return
        if self._answered and self.refusal is not None:
            return
        # Until the first answer nothing else is sent: what is sent to a broker that does not read is lost to us.
        question = UnconfirmedMessage(
            OutgoingMessage("", NOBODY, b"", BasicProperties()), alone=not self._answered, question=True
        )
        self._outbox.ask(question)
        connection.ioloop.call_later(ASK_SECONDS, lambda: self._ask(channel))
        self._turn()

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked = reason_of(frame)
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
        # Only mandatory messages are returned, and those are alone under way.
        self._returned = one_line(str(method.reply_text))

    def _on_confirmed(self, frame: Any) -> None:
        method = frame.method
        confirmed = self._outbox.confirmed(method.delivery_tag, multiple=method.multiple)
        self._backoff.reset()
        returned, self._returned = self._returned, None
        for pending in confirmed:
            if pending.question:
                self._answered, self.refusal = True, None
            pending.finish(pending.outgoing.verdict(returned, refused=isinstance(method, Basic.Nack)))
        self._turn()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        connection = self._connection
        if not isinstance(error, ChannelClosedByBroker) or connection is None or not connection.is_open:
            return
        unconfirmed = self._outbox.under_way()
        if len(unconfirmed) == 1:
            outgoing = unconfirmed[0].outgoing
            refusal = declined(
                error,
                f"a message to the exchange {outgoing.exchange!r}",
                may_write(outgoing.routing_key),
            )
            if unconfirmed[0].question:
                # What goes elsewhere may be taken all the same.
                self._answered, self.refusal = True, refusal
            unconfirmed[0].finish(refusal)
        else:
            # One of them is to blame: send each on its own to find out which.
            for pending in unconfirmed:
                pending.alone = True
            self._outbox.first(unconfirmed)
        self._open_channel(connection)
