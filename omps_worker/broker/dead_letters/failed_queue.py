# SPDX-License-Identifier: GPL-3.0-or-later
"""``FailedQueue``: scan the failed queue, ``<queue>.failed``, and remove the messages that an operator decided about.

A scan receives messages without acking them. When the channel closes, all of them return to the queue. This neither
loses messages nor wears them out: the queue's delivery limit is so high that scans cannot use it up.

* One scan at a time: a scan holds an exclusive queue as a lock, because a second scan would see only the messages that
  the first does not have in flight. The lock ends with its connection. A user who may not declare queues scans without
  the lock, and is told if another process scans, too.
* A scan ends with the last message that was there when it began (``scan.py``). Messages that are parked in the
  meantime, such as a replay that failed again, are left for the next scan.
* A scan that did not see everything reports this: it raises an exception, or ``incomplete`` has the reason.
* Duplicates (``duplicates.py``) are listed, replayed, exported and discarded as one message.
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
from omps_worker.broker.connection.failures import refusal_error
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
"""How long a scan waits for another scan to end, in seconds, before it begins anyway."""

SETTLE_SECONDS = 5.0
"""How long a scan waits at the beginning, in seconds, until earlier scans have returned their messages."""

MANY_DELIVERIES = 10
"""The number of deliveries of a message from which on a warning is given, if the queue's delivery limit is unknown."""

_NOT_FOUND, _ACCESS_REFUSED, _RESOURCE_LOCKED = 404, 403, 405


def _no_progress(_seen: int, _of: int) -> None:
    """Ignore the progress of a scan."""


class FailedQueue:
    """The failed queue of one site. Every method raises BrokerUnavailable and BrokerRefused.

    ``take_turns``: whether a lock may be declared. ``notice`` is called with texts for the user. ``name`` is another
    queue of the worker that is to be scanned in the same way. ``turn_seconds`` is how long a scan waits for another one
    before it begins anyway. ``whole`` returns the context in which steps run that must not be separated by an
    interrupt: a message is sent or written, removed, and reported to the caller.
    """

    def __init__(
        self,
        access: BrokerAccess,
        topology: Topology,
        *,
        take_turns: bool = True,
        notice: Callable[[str], object] = lambda _text: None,
        name: str | None = None,
        turn_seconds: float | None = None,
        whole: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._access = access
        self._topology = topology
        self._take_turns = take_turns
        self._notice = notice
        self._whole = whole
        self._turn_seconds = TURN_SECONDS if turn_seconds is None else turn_seconds
        self.name = name or failed_queue(topology.queue)
        self.incomplete: str | None = None
        """Why a completed scan did not see everything that was there; None: every scan did."""

    def records(self, selection: FailureSelection, seen: Seen = _no_progress) -> list[tuple[ParkedFailure, bytes]]:
        """Return what is parked, each with its fingerprint, in the order of the queue, without duplicates or bodies."""
        with self.scan(selection, seen) as scan:
            return [(message.parked, fingerprint(message)) for message in without_duplicates(scan)]

    def details(self, selection: FailureSelection, seen: Seen = _no_progress) -> list[dict[str, Any]]:
        """Return everything that is known about each message, as JSON."""
        with self.scan(selection, seen) as scan:
            return [dumps.details(message) for message in without_duplicates(scan)]

    def dumps(
        self, selection: FailureSelection, seen: Seen = _no_progress
    ) -> Iterator[tuple[ParkedFailure, dict[str, Any]]]:
        """Yield each message in fedora-messaging's dump format."""
        with self.scan(selection, seen) as scan:
            for message in without_duplicates(scan):
                with self._whole():
                    yield message.parked, dumps.dump(message)

    def replay(self, selection: FailureSelection, replay: Replay, seen: Seen = _no_progress) -> Iterator[ParkedFailure]:
        """Send each message to the main queue and remove it here; yield those that were sent.

        Duplicates are only removed. A message is removed here only after the broker confirmed its copy, so an
        interruption loses nothing. It may leave the last message in both queues.
        """
        with self.scan(selection, seen) as scan:
            sent = SeenFailures()
            for message in scan:
                with self._whole():
                    if sent.has(message):
                        scan.remove(message)
                        continue
                    replay.send(message.delivery)
                    scan.remove(message)
                    sent.add(message)
                    yield message.parked

    def discard(
        self, selection: FailureSelection, seen: Seen = _no_progress, only: frozenset[bytes] | None = None
    ) -> Iterator[ParkedFailure]:
        """Delete each message with its duplicates; yield those that are deleted.

        ``only`` restricts this to messages with these fingerprints.
        """
        with self.scan(selection, seen) as scan:
            deleted = SeenFailures()
            for message in scan:
                if deleted.has(message):
                    scan.remove(message)
                elif only is None or fingerprint(message) in only:
                    with self._whole():
                        scan.remove(message)
                        deleted.add(message)
                        yield message.parked

    @contextmanager
    def scan(self, selection: FailureSelection, seen: Seen = _no_progress) -> Iterator[Scan]:
        """Provide the parked messages one after the other; everything that is not removed returns to the queue.

        Messages that another process has in flight cannot be seen: then ``notice`` is called, and ``incomplete`` is
        set.
        """
        with slow_link.connected_over_slow_link(self._access) as connection:
            ready, others = self._state(connection)
            if self._take_turns:
                self._wait_for_turn(connection)
                ready, others = self._settled(connection, ready)
            if others:
                self._report_incomplete(
                    f"Another process is taking messages from {self.name}: those messages are not seen here."
                )
            scan = Scan(connection, self._topology, self.name, selection, ready, seen)
            try:
                yield scan
            except BaseException:
                # If the connection is gone, the broker has everything back already.
                with suppress(Exception):
                    scan.give_back()
                raise
            scan.give_back()
            if scan.missing:
                self._report_incomplete(
                    f"{scan.missing} of {ready} message(s) in {self.name} were not seen: another process took them "
                    "in the meantime. Try again to see what became of them."
                )
            if (
                self._topology.passive
                and self.name == failed_queue(self._topology.queue)
                and scan.most_deliveries >= MANY_DELIVERIES
            ):
                self._notice(
                    f"A message in {self.name} was delivered {scan.most_deliveries} times. Each query of the queue "
                    "counts: make sure that the queue has x-delivery-limit 1000000, or the broker may delete the "
                    "message."
                )

    def _report_incomplete(self, reason: str) -> None:
        self.incomplete = reason
        self._notice(reason)

    def _settled(self, connection: BlockingConnection, ready: int) -> tuple[int, int]:
        """Return the state once it no longer changes: an earlier scan may still be returning its messages."""
        end = time.monotonic() + SETTLE_SECONDS
        before, state = (ready, 0), self._state(connection)
        while state != before and time.monotonic() < end:
            connection.sleep(0.1)
            before, state = (state[0], 0), self._state(connection)
        return state

    def _state(self, connection: BlockingConnection) -> tuple[int, int]:
        """Return how many messages are ready, and how many consumers there are."""
        channel = connection.channel()
        try:
            found = channel.queue_declare(self.name, passive=True).method
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise refusal_error(error, f"the queue {self.name}", "The user needs permission to use it.") from None
            advice = (
                "With passive_declares you have to declare it."
                if self._topology.passive
                else "`omps-worker run` declares it."
            )
            raise BrokerRefused(f"The queue {self.name} does not exist. {advice}") from None
        channel.close()
        return found.message_count, found.consumer_count

    def _wait_for_turn(self, connection: BlockingConnection) -> None:
        """Take the lock, which ends with the connection; or do without it after a while."""
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
                    advice = "It is the lock that separates commands that read the failed queue."
                    raise refusal_error(error, f"the queue {lock}", advice) from None
            else:
                return
            if not waiting:
                self._notice(f"Another process is reading {self.name}; waiting for up to {self._turn_seconds:g} s.")
            waiting = True
            connection.sleep(0.1)


def without_duplicates(messages: Iterable[ParkedMessage]) -> Iterator[ParkedMessage]:
    """Yield ``messages`` without duplicates, the first of them for all."""
    seen = SeenFailures()
    for message in messages:
        if not seen.has(message):
            seen.add(message)
            yield message


def fingerprint(message: ParkedMessage) -> bytes:
    """Return a digest that is the same for a message in every scan, and different for every other message."""
    return hashlib.sha256(repr((message.delivery.key, message.deaths)).encode()).digest()
