# SPDX-License-Identifier: GPL-3.0-or-later
"""``Outbox``: a publisher's messages that are still to be sent, or that are sent and not confirmed yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pika.spec import Basic, BasicProperties

from omps_worker.broker import copies
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable
from omps_worker.common.text import one_line


@dataclass(frozen=True)
class OutgoingMessage:
    """A message to publish. If it is ``mandatory``, it is an error if no queue takes it."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    properties: BasicProperties = field(repr=False)
    mandatory: bool = False

    def check(self, frame_max: int) -> None:
        """Raise BrokerRefused if the message cannot be sent: each attempt would end the connection."""
        try:
            Basic.Publish(exchange=self.exchange, routing_key=self.routing_key).encode()
            size = sum(map(len, self.properties.encode()))
        except Exception as error:
            to, reason = one_line(self.routing_key)[:255], type(error).__name__
            raise BrokerRefused(f"A message to {to!r} cannot be encoded for AMQP: {reason}.") from error
        if size > frame_max - copies.FRAME_OVERHEAD:
            raise BrokerRefused(
                f"A message to {self.routing_key!r} has {size} bytes of headers, more than fit in a frame."
            )

    def refusal(self, returned: str | None, *, nacked: bool) -> BrokerRefused | None:
        """Return the error that the broker's answer means, or None if the broker accepted the message.

        ``returned`` is the broker's text if it returned the message.
        """
        to = f"{self.routing_key!r} through the exchange {self.exchange!r}"
        if nacked:
            return BrokerRefused(f"The broker does not take a message to {to}: a queue is full or not available.")
        if returned is not None:
            return BrokerRefused(f"No queue takes a message to {to}: {returned}.")
        return None


@dataclass(eq=False)
class UnconfirmedMessage:
    """A message that the broker has not confirmed yet."""

    outgoing: OutgoingMessage
    alone: bool
    """Whether it must be the only message under way, so that a refusal is known to be about it."""
    probe: bool = False
    """Whether it is a probe: no caller waits for it, and its answer shows whether the broker accepts messages."""
    done: threading.Event = field(default_factory=threading.Event)
    error: BrokerError | None = None
    abandoned: bool = False

    def finish(self, error: BrokerError | None = None) -> None:
        """Mark it as confirmed, or, with ``error``, as finally not confirmed."""
        self.error = error
        self.done.set()

    def raise_error(self) -> None:
        """Raise the error with which the message ended; return if the broker accepted it."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # the traceback of a raised error refers to the caller's frames and to this message


class Outbox:
    """The queue of a publisher's messages. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[UnconfirmedMessage] = deque()
        self._sent: dict[int, UnconfirmedMessage] = {}
        self._last_tag = 0
        self._closed = False

    def add(self, pending: UnconfirmedMessage) -> None:
        """Add a message that is sent after the others. Raises BrokerUnavailable once the outbox is closed."""
        with self._lock:
            if self._closed:
                raise BrokerUnavailable("The publisher is closed.")
            self._waiting.append(pending)

    def add_probe(self, probe: UnconfirmedMessage) -> None:
        """Add a probe that is sent before all messages, unless another probe is waiting or under way."""
        with self._lock:
            if not any(pending.probe for pending in (*self._waiting, *self._sent.values())):
                self._waiting.appendleft(probe)

    def next(self) -> UnconfirmedMessage | None:
        """Return the message that may be sent now, or None. The caller then calls ``sent`` or ``not_sent``."""
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

    def sent(self, pending: UnconfirmedMessage) -> None:
        """Record that the message was sent."""
        self._last_tag += 1
        with self._lock:
            self._sent[self._last_tag] = pending

    def not_sent(self, pending: UnconfirmedMessage) -> None:
        """Put back a message that could not be sent, as the next one to send."""
        with self._lock:
            self._waiting.appendleft(pending)

    def confirmed(self, last: int, *, multiple: bool) -> list[UnconfirmedMessage]:
        """Remove and return the messages to which the broker's ack or nack of this delivery tag applies."""
        with self._lock:
            tags = [tag for tag in self._sent if tag == last or (multiple and tag <= last)]
            return [self._sent.pop(tag) for tag in tags]

    def take_unconfirmed(self) -> list[UnconfirmedMessage]:
        """Remove and return the messages that are sent and not confirmed."""
        with self._lock:
            unconfirmed = list(self._sent.values())
            self._sent.clear()
            return unconfirmed

    def put_first(self, messages: Iterable[UnconfirmedMessage]) -> None:
        """Put these messages before all others."""
        with self._lock:
            self._waiting.extendleft(reversed(list(messages)))

    def new_channel(self) -> None:
        """Start counting delivery tags from the beginning, because a new channel does."""
        self._last_tag = 0

    def lost(self) -> None:
        """Prepare for a new connection: send unconfirmed messages again, before all others, and drop probes."""
        unconfirmed = self.take_unconfirmed()
        with self._lock:
            self._waiting = deque(pending for pending in (*unconfirmed, *self._waiting) if not pending.probe)

    def close(self, timeout: float) -> bool:
        """Wait until every message that a caller waits for is confirmed, then accept no more.

        Waits at most ``timeout`` seconds. Returns whether everything was confirmed.
        """
        with self._lock:
            flushed = self._idle.wait_for(lambda: not self._any_awaited(), timeout)
            self._closed = True
        return flushed

    def abandon(self, error: BrokerError) -> None:
        """Finish all remaining messages with ``error``."""
        with self._lock:
            remaining = [*self._sent.values(), *self._waiting]
            self._sent.clear()
            self._waiting.clear()
        for pending in remaining:
            pending.finish(error)

    def _any_awaited(self) -> bool:
        return any(not (pending.abandoned or pending.probe) for pending in (*self._waiting, *self._sent.values()))
