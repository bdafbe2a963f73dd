# SPDX-License-Identifier: GPL-3.0-or-later
"""The parking queue, ``<queue>.failed``: look through it, and take out what somebody decided about.

To look is to receive without an ack; when the channel closes, everything comes back. That neither
loses nor wears out anything: the queue's delivery limit is one that looks cannot use up.

* One look at a time: who looks holds an exclusive queue as a lock, because a second look would
  see only what the first has not in hand. It dies with its connection. A user who may not declare
  queues looks all the same, and is told if somebody else does.
* A look ends with the last message that was there when it began (``look.py``). What is parked
  meanwhile, such as a replay that failed again, waits for the next.
* A look that did not see everything says so: it raises, or ``incomplete`` tells why.
* What lies there twice (``doubles.py``) is told, sent, kept and destroyed as one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.connection import slow_link
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.failures import declined
from omps_worker.broker.dead_letters import dumps
from omps_worker.broker.dead_letters.duplicates import SeenFailures
from omps_worker.broker.dead_letters.message import ParkedMessage
from omps_worker.broker.dead_letters.replay import Replay
from omps_worker.broker.dead_letters.scan import Scan, Seen
from omps_worker.broker.locks.lock_queues import LOCK
from omps_worker.broker.queues.topology import Topology, failed_queue
from omps_worker.common.errors import BrokerRefused
from omps_worker.messages.dead_letter import FailureSelection, ParkedFailure

TURN_SECONDS = 60.0
"""How long a look waits for its turn before it begins all the same."""

SETTLE_SECONDS = 5.0
"""How long to wait at the beginning until everybody else who looked has given back what they had."""

WORN = 10
"""As many looks at a message are a reason to warn where the queue's delivery limit is not known."""

_NOT_FOUND, _ACCESS_REFUSED, _RESOURCE_LOCKED = 404, 403, 405


def _unseen(_seen: int, _of: int) -> None:
    """Nobody watches."""


class FailedQueue:
    """The failed queue of one site. Every method raises BrokerUnavailable and BrokerRefused.

    ``take_turns``: whether a lock may be declared. ``notice`` is told what a person should know. ``name`` is another
    queue of ours that is to be looked at in the same way; ``turn_seconds`` is how long a look waits for its turn before
    it begins all the same. Inside ``whole`` is done what is not to be torn apart: a
    message is sent or written, taken out, and handed to who counts.
    """

    def __init__(
        self,
        where: BrokerAccess,
        topology: Topology,
        *,
        take_turns: bool = True,
        notice: Callable[[str], object] = lambda _text: None,
        name: str | None = None,
        turn_seconds: float | None = None,
        whole: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._where = where
        self._topology = topology
        self._take_turns = take_turns
        self._notice = notice
        self._whole = whole
        self._turn_seconds = TURN_SECONDS if turn_seconds is None else turn_seconds
        self.name = name or failed_queue(topology.queue)
        self.incomplete: str | None = None
        """Why some look at it, that came to its end, did not see everything that was there; None: all did."""

    def records(self, selection: FailureSelection, seen: Seen = _unseen) -> list[tuple[ParkedFailure, bytes]]:
        """What is parked, each with its mark, in the order of the queue, without doubles; bodies are not kept."""
        with self.look(selection, seen) as look:
            return [(message.parked, mark(message)) for message in once(look)]

    def details(self, selection: FailureSelection, seen: Seen = _unseen) -> list[dict[str, Any]]:
        """Everything about each, as JSON."""
        with self.look(selection, seen) as look:
            return [dumps.details(message) for message in once(look)]

    def dumps(
        self, selection: FailureSelection, seen: Seen = _unseen
    ) -> Iterator[tuple[ParkedFailure, dict[str, Any]]]:
        """Each in fedora-messaging's dump format."""
        with self.look(selection, seen) as look:
            for message in once(look):
                with self._whole():
                    yield message.parked, dumps.dump(message)

    def replay(self, selection: FailureSelection, replay: Replay, seen: Seen = _unseen) -> Iterator[ParkedFailure]:
        """Send each to the queue again and take it out here; yields those that were. Doubles are only taken out.

        Only what is confirmed to be there is taken out here, so an interruption loses nothing; it
        may leave the last one in both queues.
        """
        with self.look(selection, seen) as look:
            sent = SeenFailures()
            for message in look:
                with self._whole():
                    if sent.has(message):
                        look.remove(message)
                        continue
                    replay.send(message.delivery)
                    look.remove(message)
                    sent.add(message)
                    yield message.parked

    def discard(
        self, selection: FailureSelection, seen: Seen = _unseen, only: frozenset[bytes] | None = None
    ) -> Iterator[ParkedFailure]:
        """Destroy each, with its doubles; yields those that are gone.

        ``only`` restricts it to those with these marks.
        """
        with self.look(selection, seen) as look:
            gone = SeenFailures()
            for message in look:
                if gone.has(message):
                    look.remove(message)
                elif only is None or mark(message) in only:
                    with self._whole():
                        look.remove(message)
                        gone.add(message)
                        yield message.parked

    @contextmanager
    def look(self, selection: FailureSelection, seen: Seen = _unseen) -> Iterator[Scan]:
        """What is parked, one after the other; everything that is not removed is given back.

        What others have in hand cannot be seen: then ``notice`` is told, and ``incomplete`` says so.
        """
        with slow_link.patiently_connected(self._where) as connection:
            ready, others = self._state(connection)
            if self._take_turns:
                self._wait_for_turn(connection)
                ready, others = self._settled(connection, ready)
            if others:
                self._not_all(f"Somebody else takes messages from {self.name} now: those are not seen here.")
            look = Scan(connection, self._topology, self.name, selection, ready, seen)
            try:
                yield look
            except BaseException:
                # A connection that is gone has given everything back by itself.
                with suppress(Exception):
                    look.give_back()
                raise
            look.give_back()
            if look.missing:
                self._not_all(
                    f"{look.missing} of {ready} message(s) in {self.name} were not seen: somebody else took them "
                    "meanwhile. Look again to see what became of them."
                )
            if self._topology.passive and self.name == failed_queue(self._topology.queue) and look.most_looks >= WORN:
                self._notice(
                    f"A message in {self.name} was delivered {look.most_looks} times. Each look counts: "
                    "make sure that the queue has x-delivery-limit 1000000, or the broker may delete it."
                )

    def _not_all(self, why: str) -> None:
        self.incomplete = why
        self._notice(why)

    def _settled(self, connection: BlockingConnection, ready: int) -> tuple[int, int]:
        """The state once it no longer changes: who looked before us may still be giving back."""
        end = time.monotonic() + SETTLE_SECONDS
        before, state = (ready, 0), self._state(connection)
        while state != before and time.monotonic() < end:
            connection.sleep(0.1)
            before, state = (state[0], 0), self._state(connection)
        return state

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
        end = time.monotonic() + self._turn_seconds
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
                self._notice(f"Somebody else looks at {self.name}; waiting for up to {self._turn_seconds:g} s.")
            waiting = True
            connection.sleep(0.1)


def once(messages: Iterable[ParkedMessage]) -> Iterator[ParkedMessage]:
    """``messages`` without doubles: the first of them stands for all."""
    seen = SeenFailures()
    for message in messages:
        if not seen.has(message):
            seen.add(message)
            yield message


def mark(message: ParkedMessage) -> bytes:
    """The same for a message at every look, and another for every other one."""
    return hashlib.sha256(repr((message.delivery.key, message.deaths)).encode()).digest()
