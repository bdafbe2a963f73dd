# SPDX-License-Identifier: GPL-3.0-or-later
"""The parking queue, ``<queue>.failed``: look through it, and take out what somebody decided about.

To look is to receive without an ack; when the channel closes, everything comes back. That neither
loses nor wears out anything: the queue's delivery limit is one that looks cannot use up.

* One look at a time: who looks holds an exclusive queue as a lock, because a second look would
  see only what the first has not in hand. It dies with its connection. A user who may not declare
  queues looks all the same, and is told if somebody else does.
* Messages come in windows, a channel with one consumer each, so that neither side ever has more
  than a window on its way. The order survives, too: RabbitMQ 3.10 gives back what one consumer
  held in order, but what was got one by one (``basic.get``), or nacked, in any order (measured).
* A look ends with the last message that was there when it began. What is parked meanwhile, such as
  a replay that failed again, waits for the next.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker
from pika.spec import Basic, BasicProperties

from omps_worker.broker import dumps, inspection, parked_message
from omps_worker.broker.access import Access
from omps_worker.broker.connection import declined
from omps_worker.broker.lock_queues import LOCK
from omps_worker.broker.parked_message import ParkedMessage
from omps_worker.broker.replay import Replay
from omps_worker.broker.topology import Topology, failed_queue
from omps_worker.errors import BrokerRefused, BrokerUnavailable
from omps_worker.parked import Parked, Selection

FIRST_WINDOW, LARGEST_WINDOW = 250, 4000
"""How many messages are on their way at once. Windows grow, so that a huge queue needs few channels."""

TURN_SECONDS = 60.0
"""How long a look waits for its turn before it begins all the same."""

QUIET_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
"""After how long without a message to ask whether somebody else took the rest; and until when to wait if not."""

RETURN_SECONDS = 5.0
"""How long to wait until the broker has everything back; it has it sooner or later in any case."""

WORN = 10
"""As many looks at a message are a reason to warn where the queue's delivery limit is not known."""

_NOT_FOUND, _ACCESS_REFUSED, _RESOURCE_LOCKED = 404, 403, 405

Seen = Callable[[int, int], object]
"""Called with how many messages were seen, and of how many."""


def _unseen(_seen: int, _of: int) -> None:
    """Nobody watches."""


class FailedQueue:
    """The failed queue of one site. Every method raises BrokerUnavailable and BrokerRefused.

    ``take_turns``: whether a lock may be declared. ``notice`` is told what a person should know.
    """

    def __init__(
        self,
        where: Access,
        topology: Topology,
        *,
        take_turns: bool = True,
        notice: Callable[[str], object] = lambda _text: None,
    ) -> None:
        self._where = where
        self._topology = topology
        self._take_turns = take_turns
        self._notice = notice
        self.name = failed_queue(topology.queue)

    def records(self, selection: Selection, seen: Seen = _unseen) -> list[tuple[Parked, bytes]]:
        """What is parked, each with its mark, in the order of the queue; bodies are not kept."""
        with self.look(selection, seen) as look:
            return [(message.parked, mark(message)) for message in look]

    def details(self, selection: Selection, seen: Seen = _unseen) -> list[dict[str, Any]]:
        """Everything about each, as JSON."""
        with self.look(selection, seen) as look:
            return [dumps.details(message) for message in look]

    def dumps(self, selection: Selection, seen: Seen = _unseen) -> Iterator[tuple[Parked, dict[str, Any]]]:
        """Each in fedora-messaging's dump format."""
        with self.look(selection, seen) as look:
            for message in look:
                yield message.parked, dumps.dump(message)

    def replay(self, selection: Selection, replay: Replay, seen: Seen = _unseen) -> Iterator[Parked]:
        """Send each to the queue again and take it out here; yields those that were.

        Only what is confirmed to be there is taken out here, so an interruption loses nothing; it
        may leave the last one in both queues.
        """
        with self.look(selection, seen) as look:
            for message in look:
                replay.send(message.delivery)
                look.remove(message)
                yield message.parked

    def discard(
        self, selection: Selection, seen: Seen = _unseen, only: frozenset[bytes] | None = None
    ) -> Iterator[Parked]:
        """Destroy each; yields those that are gone. ``only`` restricts it to those with these marks."""
        with self.look(selection, seen) as look:
            for message in look:
                if only is None or mark(message) in only:
                    look.remove(message)
                    yield message.parked

    @contextmanager
    def look(self, selection: Selection, seen: Seen = _unseen) -> Iterator[Look]:
        """What is parked, one after the other; everything that is not removed is given back."""
        with inspection.connected(self._where) as connection:
            ready, others = self._state(connection)
            if self._take_turns:
                self._wait_for_turn(connection)
                ready, others = self._state(connection)
            if others:
                self._notice(f"Somebody else takes messages from {self.name} now: those are not seen here.")
            look = Look(connection, self._topology, selection, ready, seen)
            try:
                yield look
            except BaseException:
                # A connection that is gone has given everything back by itself.
                with suppress(AMQPError):
                    look.give_back()
                raise
            look.give_back()
            if self._topology.passive and look.most_looks >= WORN:
                self._notice(
                    f"A message in {self.name} was delivered {look.most_looks} times. Each look counts: "
                    "make sure that the queue has x-delivery-limit 1000000, or the broker may delete it."
                )

    def _state(self, connection: BlockingConnection) -> tuple[int, int]:
        """How many messages are ready, and how many consumers there are."""
        channel = connection.channel()
        try:
            found = channel.queue_declare(self.name, passive=True).method
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise declined(error, f"the queue {self.name}", "The user needs the right to use it.") from None
            who = "somebody has to (passive_declares is set)" if self._topology.passive else "`omps-worker run` does"
            raise BrokerRefused(f"There is no queue {self.name}: nobody has declared it yet; {who}.") from None
        channel.close()
        return found.message_count, found.consumer_count

    def _wait_for_turn(self, connection: BlockingConnection) -> None:
        """Take the lock, which is given back with the connection; or do without, after a while."""
        lock = LOCK + hashlib.sha256(self.name.encode()).hexdigest()[:32]
        end = time.monotonic() + TURN_SECONDS
        waiting = False
        while time.monotonic() < end:
            try:
                connection.channel().queue_declare(lock, exclusive=True)
            except ChannelClosedByBroker as error:
                if error.reply_code == _ACCESS_REFUSED:
                    return
                if error.reply_code != _RESOURCE_LOCKED:
                    advice = "It is the lock of those who look at failures."
                    raise declined(error, f"the queue {lock}", advice) from None
            else:
                return
            if not waiting:
                self._notice(f"Somebody else looks at {self.name}; waiting for up to {TURN_SECONDS:g} s.")
            waiting = True
            connection.sleep(0.1)


class Look:
    """An iterator over the selected messages that were there when the look began."""

    def __init__(
        self, connection: BlockingConnection, topology: Topology, selection: Selection, ready: int, seen: Seen
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._selection = selection
        self._ready = ready
        self._report = seen
        limit = None if topology.passive else topology.arguments.get("x-delivery-limit")
        self._delivery_limit = limit if isinstance(limit, int) else None
        self._windows: list[_Window] = []
        self._arrived: deque[tuple[_Window, ParkedMessage]] = deque()
        self._at_hand: tuple[_Window, ParkedMessage] | None = None
        self._now = datetime.now(timezone.utc)
        self.seen = 0
        """How many messages were seen, selected or not."""
        self.most_looks = 0
        """How often the message was delivered before that was delivered most often."""

    def __iter__(self) -> Iterator[ParkedMessage]:
        while self.seen < self._ready:
            if not self._arrived and not self._receive():
                return
            self._at_hand = self._arrived.popleft()
            message = self._at_hand[1]
            self.seen += 1
            self.most_looks = max(self.most_looks, message.looks)
            self._report(self.seen, self._ready)
            if self._selection.means(message.parked, self._now):
                yield message

    def remove(self, message: ParkedMessage) -> None:
        """Take the message that was yielded last out of the queue."""
        if self._at_hand is None or self._at_hand[1] is not message:
            raise ValueError("only the message at hand can be removed")
        window = self._at_hand[0]
        window.channel.basic_ack(message.delivery.tag.number)
        window.removed += 1

    def give_back(self) -> None:
        """Return what was not removed, in order, and wait until the broker has it."""
        control = self._connection.channel()
        end = time.monotonic() + RETURN_SECONDS
        if self._windows:
            # Or it would be sent what the others give back, and so change the order.
            self._windows[-1].close_for_more()
        for window in self._windows:
            expected = self._depth(control) + window.kept
            window.channel.close()
            while self._depth(control) < expected and time.monotonic() < end:
                self._connection.sleep(0.01)

    def _depth(self, control: BlockingChannel) -> int:
        name = failed_queue(self._topology.queue)
        return control.queue_declare(name, passive=True).method.message_count

    def _receive(self) -> bool:
        """Wait for the next messages; False if none come."""
        if not self._windows or self._windows[-1].full:
            self._open_window()
        began = looked = time.monotonic()
        while not self._arrived:
            self._connection.process_data_events(time_limit=QUIET_SECONDS)
            if not self._windows[-1].channel.is_open:
                raise BrokerUnavailable("The broker closed the channel; everything that is parked is still there.")
            if self._arrived or time.monotonic() < looked + QUIET_SECONDS:
                continue
            looked = time.monotonic()
            if self._depth(self._connection.channel()) == 0:
                return False
            if looked > began + PATIENCE_SECONDS:
                raise BrokerUnavailable("The broker hands over nothing, though messages are parked; try again later.")
        return True

    def _open_window(self) -> None:
        size = min(FIRST_WINDOW * 2 ** len(self._windows), LARGEST_WINDOW, self._ready - self.seen)
        if self._windows:
            self._windows[-1].close_for_more()
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=size)
        window = _Window(channel, size)
        self._windows.append(window)

        def arrived(_channel: Any, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            window.arrived += 1
            message = parked_message.read(
                properties,
                body,
                self._topology.queue,
                tag=method.delivery_tag or 0,
                delivery_limit=self._delivery_limit,
            )
            self._arrived.append((window, message))

        window.consumer_tag = channel.basic_consume(failed_queue(self._topology.queue), arrived)


class _Window:
    """A channel on which so many messages are in hand, and no more."""

    def __init__(self, channel: BlockingChannel, size: int) -> None:
        self.channel = channel
        self.size = size
        self.arrived = 0
        self.removed = 0
        self.consumer_tag = ""

    def close_for_more(self) -> None:
        """Receive nothing more; what is in hand stays there."""
        self.channel.basic_cancel(self.consumer_tag)

    @property
    def kept(self) -> int:
        """How many are in hand."""
        return self.arrived - self.removed

    @property
    def full(self) -> bool:
        """Whether the broker sends no more on it."""
        return self.kept >= self.size


def mark(message: ParkedMessage) -> bytes:
    """The same for a message at every look, and another for every other one."""
    return hashlib.sha256(repr((message.delivery.key, message.deaths)).encode()).digest()
