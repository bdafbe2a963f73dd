# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: takes messages from the queue until it is told to stop.

One connection, used by one thread, which never does work itself, so that heartbeats go on. What
comes (``intake.py``) and concerns us goes to a thread; when its outcome is recorded on the broker, it is
acked here.

While the broker blocks publishers, no outcome can be recorded. Then nothing is begun: what has come
is kept, and not given back, which would only send it round in circles and count as deliveries. As
no more comes than may be un-acked, the consumer need not be cancelled; after a reconnect it is
not subscribed before the end of the alarm.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.connection.backoff import Backoff
from omps_worker.broker.consuming.delivery_worker import DeliveryWorker, MessageHandler
from omps_worker.broker.consuming.dispatcher import Dispatcher
from omps_worker.broker.consuming.final_refusals import FinalRefusals
from omps_worker.broker.consuming.housekeeping import Housekeeping
from omps_worker.broker.consuming.in_flight import InFlight
from omps_worker.broker.consuming.signals import Interrupted, Signals, StopNow
from omps_worker.broker.dead_letters.already_parked import AlreadyParked
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable, WorkerError
from omps_worker.common.text import one_line
from omps_worker.publishing.retry import RetrySchedule

log = logging.getLogger(__name__)

DONE, UNFINISHED = 0, 1
"""Exit codes of ``run``: everything in hand was finished and acked; something was left to the broker."""

TURN_SECONDS = 0.2
"""How long the connection waits for news before it looks around."""

ANSWER_SECONDS = 5.0
"""How long nothing is begun while the publisher does not know yet whether the broker takes messages."""

STEADY_SECONDS = 10.0
"""A connection that lived that long is no part of a series of failures."""


@dataclass
class _BrokerSession:
    """One connection to the broker, and what lives and dies with it."""

    connection: BlockingConnection
    channel: BlockingChannel
    begun: float
    cancelled: bool = False


class Consumer:
    """``run`` it once. ``where`` and ``topology`` say what to consume, ``handler`` what to do."""

    def __init__(
        self,
        where: BrokerAccess,
        topology: Topology,
        handler: MessageHandler,
        publisher: Publisher,
        *,
        concurrency: int = 4,
        prefetch: int = 8,
        shutdown_timeout: float = 60.0,
        publish_priority: int | None = None,
        give_up_after: float = 86400.0,
    ) -> None:
        self._where = where
        self._topology = topology
        self._handler = handler
        self._publisher = publisher
        self._signals = Signals(shutdown_timeout)
        self._deliveries = DeliveryWorker(
            handler,
            publisher,
            queue=topology.queue,
            publish_exchange=topology.publish_exchange,
            publish_priority=publish_priority,
            ladder=RetrySchedule(topology.delays, give_up_after if topology.delays else 0.0),
            restore=self._want_topology,
            parked_before=AlreadyParked(where, topology),
        )
        self._in_hand = InFlight(
            self._deliveries.perform, concurrency, self._wake, lambda: publisher.blocked is None, handler.observer
        )
        self._intake = Dispatcher(handler, self._in_hand, topology, prefetch, self._may_begin)
        self._conversation: _BrokerSession | None = None
        self._topology_wanted = threading.Event()
        self._housekeeping = Housekeeping(handler, self._signals)
        self._ever_consumed = False
        self._refusals = FinalRefusals()
        self._turned_at = time.monotonic()
        self._hurry = threading.Event()

    @property
    def still_for(self) -> float:
        """Seconds since the loop last turned: while all is well, never much more than a connect takes."""
        return time.monotonic() - self._turned_at

    @property
    def consuming(self) -> bool:
        """Whether messages that come now would be taken, if need be after one that is worked on alone."""
        return self._intake.consuming and not self._signals.stopping

    @property
    def counts(self) -> Counter[str]:
        """How many messages ended as ``ignored:<reason>``, and how many outcomes had which status."""
        return self._in_hand.counts

    @property
    def in_hand(self) -> tuple[int, int, float]:
        """How many messages are being worked on, how many wait for a thread, and for how many seconds the oldest is."""
        return self._in_hand.running, self._in_hand.waiting, self._in_hand.oldest

    @property
    def deliveries(self) -> DeliveryWorker:
        """Where work is done and its outcome recorded; it knows how that goes."""
        return self._deliveries

    def hurry(self) -> None:
        """The broker seems to be back: connect now, instead of after the pause. From any thread."""
        self._hurry.set()

    def stop(self) -> None:
        """What SIGTERM does: finish the work in hand, then return from ``run``. From any thread."""
        self._signals.stop()

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT; returns the exit code.

        A broker that is away is waited for. Raises BrokerRefused when it refuses the login, a queue
        or an exchange before that ever worked; later the same is logged and tried again. SIGTERM, SIGINT and
        SIGHUP are handled meanwhile, if this is the main thread; a second SIGTERM stops at once.
        """
        try:
            with self._signals:
                self._run()
                return UNFINISHED if self._in_hand.left_to_broker else DONE
        except StopNow:
            log.warning("stopped at once: the broker redelivers what was in hand")
            return UNFINISHED
        finally:
            self._deliveries.abandon()
            self._in_hand.end_threads()
            self._publisher.close(1.0)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._signals.stopping:
            begun = time.monotonic()
            try:
                try:
                    self._converse()
                finally:
                    self._end_conversation()
            except Interrupted:
                break
            except Exception as error:
                if time.monotonic() - begun > STEADY_SECONDS:
                    backoff.reset()
                self._explain(error)
                self._pause(backoff.next())
        self._finish_without_broker()

    def _converse(self) -> None:
        connection = self._connect()
        try:
            with self._refusals.step("declare"):
                self._topology.set_up(connection)
            self._topology_wanted.clear()
            self._publisher.start()
            conversation = self._open(connection)
            while not self._signals.stopping:
                self._turn(conversation)
            self._finish(conversation)
        except StopNow:
            raise  # saying goodbye to a broker may take as long as the broker likes
        except BaseException:
            _close(connection)
            raise
        _close(connection)

    def _connect(self) -> BlockingConnection:
        with self._refusals.step("log in"), self._signals.interrupting():
            return self._where.connect()

    def _open(self, connection: BlockingConnection) -> _BrokerSession:
        self._in_hand.collect()
        channel = connection.channel()
        conversation = _BrokerSession(connection, channel, time.monotonic())
        channel.add_on_cancel_callback(lambda _frame: self._on_cancelled(conversation))
        self._intake.open(channel)
        self._conversation = conversation
        return conversation

    def _may_begin(self) -> bool:
        """Whether the outcome of work could be recorded, as far as anybody knows."""
        publisher, conversation = self._publisher, self._conversation
        if publisher.refusal is not None and self._topology.locks:
            with self._refusals.step("publish"):
                raise publisher.refusal
        if publisher.blocked is not None or conversation is None:
            return False
        return publisher.connected or time.monotonic() > conversation.begun + ANSWER_SECONDS

    def _begins_to_consume(self) -> None:
        log.info("consuming from the queue %s on %s", self._topology.queue, self._where.place)
        if self._ever_consumed:
            self._handler.observer.reconnected("consumer")
        self._ever_consumed = True

    def _turn(self, conversation: _BrokerSession) -> None:
        """Take what has come, ack what is done, and look around. Raises when the channel is gone."""
        if self._intake.adjust():
            self._begins_to_consume()
        conversation.connection.process_data_events(time_limit=TURN_SECONDS)
        self._in_hand.collect()
        if not conversation.channel.is_open:
            raise BrokerUnavailable(
                f"The broker closed the channel of the consumer: {_closing_reason(conversation.channel)}"
            )
        self._intake.flush()
        if conversation.cancelled:
            raise BrokerUnavailable(f"The broker cancelled the consumer: is the queue {self._topology.queue} deleted?")
        if self._topology_wanted.is_set():
            self._restore_topology(conversation)
        self._keep_house()

    def _keep_house(self) -> None:
        self._turned_at = time.monotonic()
        self._housekeeping.turn()

    def _on_cancelled(self, conversation: _BrokerSession) -> None:
        conversation.cancelled = True

    def _wake(self) -> None:
        conversation = self._conversation
        if conversation is not None:
            # A connection that has ended needs no waking.
            with contextlib.suppress(Exception):
                conversation.connection.add_callback_threadsafe(_nothing)

    def _end_conversation(self) -> None:
        self._conversation = None
        self._intake.detach()

    def _explain(self, error: Exception) -> None:
        if isinstance(error, AMQPError | OSError | BrokerError):
            found = self._where.named(error)
            if self._refusals.is_final(found):
                raise found
            log.warning("not consuming, trying again: %s", found.message)
        elif isinstance(error, WorkerError) and not error.transient:
            raise error
        elif isinstance(error, WorkerError):
            log.warning("not consuming, trying again: %s", error.message)
        else:
            log.exception("not consuming, trying again after an exception that nobody thought of")

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._signals.stopping and (left := end - time.monotonic()) > 0:
            if self._hurry.wait(min(left, TURN_SECONDS)):
                break
            self._keep_house()
        self._hurry.clear()

    def _want_topology(self) -> None:
        self._topology_wanted.set()
        self._wake()

    def _restore_topology(self, conversation: _BrokerSession) -> None:
        self._topology_wanted.clear()
        try:
            self._topology.set_up(conversation.connection)
        except BrokerRefused as error:
            log.error("%s", error.message)

    def _finish(self, conversation: _BrokerSession) -> None:
        """Give back what was not begun, wait for the work in hand, ack it."""
        log.info("stopping: %d message(s) in hand", self._in_hand.running)
        self._intake.close()
        while self._in_hand.running and not self._signals.overdue:
            self._turned_at = time.monotonic()
            conversation.connection.process_data_events(time_limit=TURN_SECONDS)
            self._in_hand.collect()
            self._intake.flush()
        self._intake.flush()

    def _finish_without_broker(self) -> None:
        """The connection is gone while stopping: at least let the work in hand end and be told."""
        if not self._in_hand.closing:
            log.info("stopping without the broker: %d message(s) in hand", self._in_hand.running)
        self._in_hand.close()
        while self._in_hand.running and not self._signals.overdue:
            self._turned_at = time.monotonic()
            time.sleep(0.02)
            self._in_hand.collect()
        if self._in_hand.running:
            self._in_hand.left_to_broker = True
            log.warning("the shutdown timeout has passed: the broker redelivers %d message(s)", self._in_hand.running)


def _close(connection: BlockingConnection) -> None:
    with contextlib.suppress(Exception):
        connection.close()


def _nothing() -> None:
    """Called to end a wait."""


def _closing_reason(channel: BlockingChannel) -> str:
    # pika keeps it, but has no public name for it.
    return one_line(str(getattr(channel, "_closing_reason", None) or "it did not say why"))
