# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that a publisher has on hand: those to send, and those that are sent and not confirmed yet."""

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
    """A message to publish. ``mandatory``: it is an error if no queue takes it."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    properties: BasicProperties = field(repr=False)
    mandatory: bool = False

    def check(self, frame_max: int) -> None:
        """Raise BrokerRefused for what cannot be sent: it would end the connection each time it is tried."""
        try:
            Basic.Publish(exchange=self.exchange, routing_key=self.routing_key).encode()
            size = sum(map(len, self.properties.encode()))
        except Exception as error:
            to, why = one_line(self.routing_key)[:255], type(error).__name__
            raise BrokerRefused(f"A message to {to!r} cannot be encoded for AMQP: {why}.") from error
        if size > frame_max - copies.FRAME_OVERHEAD:
            raise BrokerRefused(
                f"A message to {self.routing_key!r} has {size} bytes of headers, more than a frame holds."
            )

    def verdict(self, returned: str | None, *, refused: bool) -> BrokerRefused | None:
        """What the broker's answer means; None: it keeps the message."""
        to = f"{self.routing_key!r} through the exchange {self.exchange!r}"
        if refused:
            return BrokerRefused(f"The broker does not take a message to {to}: a queue is full or not available.")
        if returned is not None:
            return BrokerRefused(f"No queue takes a message to {to}: {returned}.")
        return None


@dataclass(eq=False)
class UnconfirmedMessage:
    """A message that is not confirmed yet."""

    outgoing: OutgoingMessage
    alone: bool
    """Nothing else is under way meanwhile, so that a refusal is known to be about this one."""
    question: bool = False
    """Nobody waits for it: its answer shows whether the broker takes messages."""
    done: threading.Event = field(default_factory=threading.Event)
    error: BrokerError | None = None
    abandoned: bool = False

    def finish(self, error: BrokerError | None = None) -> None:
        """It is confirmed, or will never be."""
        self.error = error
        self.done.set()

    def tell(self) -> None:
        """Return if the broker has taken the message, else raise why not."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # an error that is raised refers to whoever waits here, and to the message


class Outbox:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[UnconfirmedMessage] = deque()
        self._sent: dict[int, UnconfirmedMessage] = {}
        self._last_tag = 0
        self._closed = False

    def add(self, pending: UnconfirmedMessage) -> None:
        """To be sent after the others. Raises BrokerUnavailable once it is closed."""
        with self._lock:
            if self._closed:
                raise BrokerUnavailable("The publisher is closed.")
            self._waiting.append(pending)

    def ask(self, question: UnconfirmedMessage) -> None:
        """To be sent before all others, unless a question is under way."""
        with self._lock:
            if not any(pending.question for pending in (*self._waiting, *self._sent.values())):
                self._waiting.appendleft(question)

    def next(self) -> UnconfirmedMessage | None:
        """What may be sent now, to be told ``sent`` or ``not_sent``."""
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
        """It is under way now."""
        self._last_tag += 1
        with self._lock:
            self._sent[self._last_tag] = pending

    def not_sent(self, pending: UnconfirmedMessage) -> None:
        """It is still the first to be sent."""
        with self._lock:
            self._waiting.appendleft(pending)

    def confirmed(self, last: int, *, multiple: bool) -> list[UnconfirmedMessage]:
        """Those that the broker confirmed, or refused, with this tag."""
        with self._lock:
            tags = [tag for tag in self._sent if tag == last or (multiple and tag <= last)]
            return [self._sent.pop(tag) for tag in tags]

    def under_way(self) -> list[UnconfirmedMessage]:
        """Take out what is sent and not confirmed."""
        with self._lock:
            unconfirmed = list(self._sent.values())
            self._sent.clear()
            return unconfirmed

    def first(self, again: Iterable[UnconfirmedMessage]) -> None:
        """To be sent before all others."""
        with self._lock:
            self._waiting.extendleft(reversed(list(again)))

    def new_channel(self) -> None:
        """Tags begin anew."""
        self._last_tag = 0

    def lost(self) -> None:
        """The connection is gone: what was not confirmed is to be sent again, before anything else."""
        unconfirmed = self.under_way()
        with self._lock:
            again = (pending for pending in (*unconfirmed, *self._waiting) if not pending.question)
            self._waiting = deque(again)

    def close(self, timeout: float) -> bool:
        """Take nothing more once all that somebody waits for is confirmed, at most ``timeout`` seconds from now."""
        with self._lock:
            flushed = self._idle.wait_for(lambda: not self._awaited(), timeout)
            self._closed = True
        return flushed

    def abandon(self, error: BrokerError) -> None:
        """Finish everything that is left."""
        with self._lock:
            left = [*self._sent.values(), *self._waiting]
            self._sent.clear()
            self._waiting.clear()
        for pending in left:
            pending.finish(error)

    def _awaited(self) -> bool:
        return any(not (pending.abandoned or pending.question) for pending in (*self._waiting, *self._sent.values()))
