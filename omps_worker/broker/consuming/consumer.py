# SPDX-License-Identifier: GPL-3.0-or-later
"""``Consumer``: a worker's main loop, which consumes messages until it is told to stop.

One thread uses the connection and never processes messages itself, so heartbeats continue. Relevant messages
(``dispatcher.py``) go to a worker thread. When the broker has their outcome, this thread acks them.

While the broker blocks publishers, no outcome can be recorded, so no work is begun. Messages that were received are
kept, not returned: returning them would only make them circulate, and would count as deliveries. The broker never sends
more than ``prefetch`` un-acked messages, so there is no need to cancel the consumer. After a reconnect it does not
subscribe before the alarm has ended.
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
from omps_worker.broker.consuming.housekeeping import Housekeeping
from omps_worker.broker.consuming.in_flight import InFlight
from omps_worker.broker.consuming.signals import Interrupted, Signals, StopNow
from omps_worker.broker.consuming.startup_refusals import StartupRefusals
from omps_worker.broker.dead_letters.already_parked import AlreadyParked
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable, WorkerError
from omps_worker.common.text import one_line
from omps_worker.publishing.retry import RetrySchedule

log = logging.getLogger(__name__)

DONE, UNFINISHED = 0, 1
"""Exit codes of ``run``: everything in flight was finished and acked; something was left to the broker."""

TURN_SECONDS = 0.2
"""How long the loop waits for data from the broker at a time, in seconds."""

ANSWER_SECONDS = 5.0
"""How long no work is begun while it is unknown whether the broker accepts messages, in seconds."""

STEADY_SECONDS = 10.0
"""A connection that lasts this many seconds resets the backoff."""


@dataclass
class _BrokerSession:
    """One connection to the broker, and what ends with it."""

    connection: BlockingConnection
    channel: BlockingChannel
    started_at: float
    cancelled: bool = False


class Consumer:
    """A worker's main loop; call ``run`` once.

    ``access`` and ``topology`` say what to consume, ``handler`` what to do with messages.
    """

    def __init__(
        self,
        access: BrokerAccess,
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
        self._access = access
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
            schedule=RetrySchedule(topology.delays, give_up_after if topology.delays else 0.0),
            restore_topology=self._request_topology,
            already_parked=AlreadyParked(access, topology),
        )
        self._in_flight = InFlight(
            self._deliveries.perform, concurrency, self._wake, lambda: publisher.blocked is None, handler.observer
        )
        self._dispatcher = Dispatcher(handler, self._in_flight, topology, prefetch, self._may_begin)
        self._session: _BrokerSession | None = None
        self._topology_requested = threading.Event()
        self._housekeeping = Housekeeping(handler, self._signals)
        self._ever_consumed = False
        self._startup_refusals = StartupRefusals()
        self._turned_at = time.monotonic()
        self._reconnect_now = threading.Event()

    @property
    def seconds_since_turn(self) -> float:
        """Seconds since the loop last turned.

        In normal operation this is never much more than a connection attempt takes.
        """
        return time.monotonic() - self._turned_at

    @property
    def consuming(self) -> bool:
        """Whether messages that arrive now would be processed, possibly after one that is processed alone."""
        return self._dispatcher.consuming and not self._signals.stopping

    @property
    def counts(self) -> Counter[str]:
        """How many messages ended as ``ignored:<reason>``, and how many outcomes had which status."""
        return self._in_flight.counts

    @property
    def in_flight(self) -> tuple[int, int, float]:
        """How many messages are processed, how many wait for a thread, and the age of the oldest work in seconds."""
        return self._in_flight.running, self._in_flight.waiting, self._in_flight.oldest

    @property
    def deliveries(self) -> DeliveryWorker:
        """The part that does the work and records its outcome."""
        return self._deliveries

    def reconnect_now(self) -> None:
        """Connect now, instead of at the end of the pause, because the broker seems to be back.

        Any thread may call it.
        """
        self._reconnect_now.set()

    def stop(self) -> None:
        """Finish the work in flight, then return from ``run``, as after SIGTERM. Any thread may call it."""
        self._signals.stop()

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT, and return the exit code.

        If the broker is away, the worker waits for it. Raises BrokerRefused if the broker refuses the login, a queue or
        an exchange before that step has ever succeeded; later refusals are logged, and the step is tried again. If this
        is the main thread, SIGTERM, SIGINT and SIGHUP are handled; a second SIGTERM stops at once.
        """
        try:
            with self._signals:
                self._run()
                return UNFINISHED if self._in_flight.left_to_broker else DONE
        except StopNow:
            log.warning("stopped at once: the broker redelivers the messages that were in flight")
            return UNFINISHED
        finally:
            self._deliveries.abandon()
            self._in_flight.end_threads()
            self._publisher.close(1.0)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._signals.stopping:
            started_at = time.monotonic()
            try:
                try:
                    self._run_session()
                finally:
                    self._end_session()
            except Interrupted:
                break
            except Exception as error:
                if time.monotonic() - started_at > STEADY_SECONDS:
                    backoff.reset()
                self._log_or_raise(error)
                self._pause(backoff.next())
        self._finish_without_broker()

    def _run_session(self) -> None:
        connection = self._connect()
        try:
            with self._startup_refusals.step("declare"):
                self._topology.set_up(connection)
            self._topology_requested.clear()
            self._publisher.start()
            session = self._open(connection)
            while not self._signals.stopping:
                self._turn(session)
            self._finish(session)
        except StopNow:
            raise  # closing the connection could take as long as the broker does not answer
        except BaseException:
            _close(connection)
            raise
        _close(connection)

    def _connect(self) -> BlockingConnection:
        with self._startup_refusals.step("log in"), self._signals.interrupting():
            return self._access.connect()

    def _open(self, connection: BlockingConnection) -> _BrokerSession:
        self._in_flight.collect()
        channel = connection.channel()
        session = _BrokerSession(connection, channel, time.monotonic())
        channel.add_on_cancel_callback(lambda _frame: self._on_cancelled(session))
        self._dispatcher.open(channel)
        self._session = session
        return session

    def _may_begin(self) -> bool:
        """Return whether the outcome of work could probably be recorded now."""
        publisher, session = self._publisher, self._session
        if publisher.refusal is not None and self._topology.locks:
            with self._startup_refusals.step("publish"):
                raise publisher.refusal
        if publisher.blocked is not None or session is None:
            return False
        return publisher.connected or time.monotonic() > session.started_at + ANSWER_SECONDS

    def _begins_to_consume(self) -> None:
        log.info("consuming from the queue %s on %s", self._topology.queue, self._access.place)
        if self._ever_consumed:
            self._handler.observer.reconnected("consumer")
        self._ever_consumed = True

    def _turn(self, session: _BrokerSession) -> None:
        """Receive messages, ack what is finished, and do periodic work. Raises if the channel is gone."""
        if self._dispatcher.adjust():
            self._begins_to_consume()
        session.connection.process_data_events(time_limit=TURN_SECONDS)
        self._in_flight.collect()
        if not session.channel.is_open:
            raise BrokerUnavailable(
                f"The broker closed the channel of the consumer: {_closing_reason(session.channel)}"
            )
        self._dispatcher.flush()
        if session.cancelled:
            raise BrokerUnavailable(f"The broker cancelled the consumer: was the queue {self._topology.queue} deleted?")
        if self._topology_requested.is_set():
            self._restore_topology(session)
        self._do_housekeeping()

    def _do_housekeeping(self) -> None:
        self._turned_at = time.monotonic()
        self._housekeeping.turn()

    def _on_cancelled(self, session: _BrokerSession) -> None:
        session.cancelled = True

    def _wake(self) -> None:
        session = self._session
        if session is not None:
            # There is nothing to wake if the connection has ended.
            with contextlib.suppress(Exception):
                session.connection.add_callback_threadsafe(_nothing)

    def _end_session(self) -> None:
        self._session = None
        self._dispatcher.detach()

    def _log_or_raise(self, error: Exception) -> None:
        if isinstance(error, AMQPError | OSError | BrokerError):
            found = self._access.as_broker_error(error)
            if self._startup_refusals.is_final(found):
                raise found
            log.warning("not consuming, trying again: %s", found.message)
        elif isinstance(error, WorkerError) and not error.transient:
            raise error
        elif isinstance(error, WorkerError):
            log.warning("not consuming, trying again: %s", error.message)
        else:
            log.exception("not consuming, trying again after an unexpected exception")

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._signals.stopping and (left := end - time.monotonic()) > 0:
            if self._reconnect_now.wait(min(left, TURN_SECONDS)):
                break
            self._do_housekeeping()
        self._reconnect_now.clear()

    def _request_topology(self) -> None:
        self._topology_requested.set()
        self._wake()

    def _restore_topology(self, session: _BrokerSession) -> None:
        self._topology_requested.clear()
        try:
            self._topology.set_up(session.connection)
        except BrokerRefused as error:
            log.error("%s", error.message)

    def _finish(self, session: _BrokerSession) -> None:
        """Return what was not begun to the broker, wait for the work in flight, and ack it."""
        log.info("stopping: %d message(s) in flight", self._in_flight.running)
        self._dispatcher.close()
        while self._in_flight.running and not self._signals.overdue:
            self._turned_at = time.monotonic()
            session.connection.process_data_events(time_limit=TURN_SECONDS)
            self._in_flight.collect()
            self._dispatcher.flush()
        self._dispatcher.flush()

    def _finish_without_broker(self) -> None:
        """Wait for the work in flight, and for its results, after the connection was lost while stopping."""
        if not self._in_flight.closing:
            log.info("stopping without the broker: %d message(s) in flight", self._in_flight.running)
        self._in_flight.close()
        while self._in_flight.running and not self._signals.overdue:
            self._turned_at = time.monotonic()
            time.sleep(0.02)
            self._in_flight.collect()
        if self._in_flight.running:
            self._in_flight.left_to_broker = True
            log.warning("the shutdown timeout has passed: the broker redelivers %d message(s)", self._in_flight.running)


def _close(connection: BlockingConnection) -> None:
    with contextlib.suppress(Exception):
        connection.close()


def _nothing() -> None:
    """Do nothing: scheduling this call ends a wait."""


def _closing_reason(channel: BlockingChannel) -> str:
    # pika stores the reason, but has no public name for it.
    return one_line(str(getattr(channel, "_closing_reason", None) or "it gave no reason"))
