# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: takes messages from the queue until it is told to stop.

One connection, used by one thread, which never does work itself, so that heartbeats go on. It
reads each message just far enough to see whether it can concern us. What cannot is acked, many
at once. What can goes to a thread; when its outcome is recorded on the broker, it is acked here.

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
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.acks import Acks
from omps_worker.broker.connection import Backoff, named, place
from omps_worker.broker.delivery import Delivery, Tag
from omps_worker.broker.in_hand import InHand
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.signals import Interrupted, Signals, StopNow
from omps_worker.broker.topology import Topology
from omps_worker.broker.work import Desk, Handler
from omps_worker.errors import BrokerError, BrokerRefused, BrokerUnavailable, MessageError, WorkerError, unforeseen
from omps_worker.model import BuildEvent, Ignored
from omps_worker.retry import Ladder
from omps_worker.text import one_line

log = logging.getLogger(__name__)

DONE, UNFINISHED = 0, 1
"""Exit codes of ``run``: everything in hand was finished and acked; something was left to the broker."""

TURN_SECONDS = 0.2
"""How long the connection waits for news before it looks around."""

STEADY_SECONDS = 10.0
"""A connection that lived that long is no part of a series of failures."""


@dataclass
class _Conversation:
    """One connection to the broker, and what lives and dies with it."""

    connection: BlockingConnection
    channel: BlockingChannel
    acks: Acks
    consumer_tag: str = ""
    cancelled: bool = False


class Consumer:
    """``run`` it once. ``where`` and ``topology`` say what to consume, ``handler`` what to do."""

    def __init__(
        self,
        where: pika.URLParameters,
        topology: Topology,
        handler: Handler,
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
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._signals = Signals(shutdown_timeout)
        self._desk = Desk(
            handler,
            publisher,
            queue=topology.queue,
            publish_exchange=topology.publish_exchange,
            publish_priority=publish_priority,
            ladder=Ladder(topology.delays, give_up_after if topology.delays else 0.0),
            restore=self._want_topology,
        )
        self._in_hand = InHand(
            self._desk.perform, concurrency, self._wake, lambda: publisher.blocked is None, handler.observer
        )
        self._conversation: _Conversation | None = None
        self._generation = 0
        self._topology_wanted = threading.Event()
        self._next_housekeeping = 0.0
        self._ever_consumed = False
        self._turned_at = time.monotonic()
        self._hurry = threading.Event()

    @property
    def still_for(self) -> float:
        """Seconds since the loop last turned: while all is well, never much more than a connect takes."""
        return time.monotonic() - self._turned_at

    @property
    def consuming(self) -> bool:
        """Whether messages that come now would be taken."""
        conversation = self._conversation
        return conversation is not None and bool(conversation.consumer_tag) and not self._signals.stopping

    @property
    def counts(self) -> Counter[str]:
        """How many messages ended as ``ignored:<reason>``, and how many outcomes had which status."""
        return self._in_hand.counts

    @property
    def in_hand(self) -> tuple[int, int, float]:
        """How many messages are being worked on, how many wait for a thread, and for how many seconds the oldest is."""
        return self._in_hand.running, self._in_hand.waiting, self._in_hand.oldest

    @property
    def desk(self) -> Desk:
        """Where work is done and its outcome recorded; it knows how that goes."""
        return self._desk

    def hurry(self) -> None:
        """The broker seems to be back: connect now, instead of after the pause. From any thread."""
        self._hurry.set()

    def stop(self) -> None:
        """What SIGTERM does: finish the work in hand, then return from ``run``. From any thread."""
        self._signals.stop()

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT; returns the exit code.

        A broker that is away is waited for. Raises BrokerRefused when it refuses the login, a queue
        or an exchange at the start; later the same is logged and tried again. SIGTERM, SIGINT and
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
            self._desk.abandon()
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
        try:
            with self._signals.interrupting():
                return BlockingConnection(self._where)
        except Exception as error:
            raise named(error, self._where) from error

    def _open(self, connection: BlockingConnection) -> _Conversation:
        self._in_hand.collect()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        self._generation += 1
        conversation = _Conversation(connection, channel, Acks(channel, self._prefetch // 2))
        channel.add_on_cancel_callback(lambda _frame: self._on_cancelled(conversation))
        self._in_hand.attach(conversation.acks, self._generation)
        self._conversation = conversation
        return conversation

    def _subscribe(self, conversation: _Conversation) -> None:
        conversation.consumer_tag = conversation.channel.basic_consume(self._topology.queue, self._on_message)
        log.info("consuming from the queue %s on %s", self._topology.queue, place(self._where))
        if self._ever_consumed:
            self._handler.observer.reconnected("consumer")
        self._ever_consumed = True

    def _turn(self, conversation: _Conversation) -> None:
        """Take what has come, ack what is done, and look around. Raises when the channel is gone."""
        if not conversation.consumer_tag and self._publisher.blocked is None:
            self._subscribe(conversation)
        conversation.connection.process_data_events(time_limit=TURN_SECONDS)
        self._in_hand.collect()
        if not conversation.channel.is_open:
            raise BrokerUnavailable(
                f"The broker closed the channel of the consumer: {_closing_reason(conversation.channel)}"
            )
        conversation.acks.flush()
        if conversation.cancelled:
            raise BrokerUnavailable(f"The broker cancelled the consumer: is the queue {self._topology.queue} deleted?")
        if self._topology_wanted.is_set():
            self._restore_topology(conversation)
        self._keep_house()

    def _keep_house(self) -> None:
        self._turned_at = time.monotonic()
        if self._signals.reload_wanted:
            self._signals.reload_wanted = False
            log.info("reloading, as SIGHUP asks")
            _call(self._handler.reload, "reloading")
        if time.monotonic() >= self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + 1.0
            _call(self._handler.housekeeping, "housekeeping")

    # Messages come in.

    def _on_message(
        self, channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        conversation = self._conversation
        if conversation is None or conversation.channel is not channel:
            return
        self._handler.observer.received()
        number = method.delivery_tag or 0
        event: BuildEvent | None = None
        fault: WorkerError | None = None
        try:
            found = self._handler.decode(
                body,
                headers=properties.headers,
                content_type=_text_or_none(properties.content_type),
                content_encoding=_text_or_none(properties.content_encoding),
                message_type=_text_or_none(properties.type),
                topic=headers.text(method.routing_key),
            )
            if not isinstance(found, Ignored):
                event = found
                dismissed = self._handler.dismiss(event.facts)
                if dismissed is not None:
                    found = dismissed
            if isinstance(found, Ignored):
                self._ignore(found)
                conversation.acks.settle(number)
                return
        except AMQPError:
            raise
        except MessageError as error:
            fault = error
        except Exception as error:
            log.exception("a message cannot be looked at")
            fault = unforeseen(error)
        delivery = Delivery(
            Tag(self._generation, number),
            headers.text(method.exchange),
            headers.text(method.routing_key),
            bool(method.redelivered),
            properties,
            body,
            event,
        )
        self._in_hand.take(delivery, fault)

    def _ignore(self, ignored: Ignored) -> None:
        self._in_hand.counts[f"ignored:{ignored.reason}"] += 1
        self._handler.observer.ignored(ignored.reason)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("ignored: %s %s", ignored.reason, one_line(ignored.detail))

    def _on_cancelled(self, conversation: _Conversation) -> None:
        conversation.cancelled = True

    def _wake(self) -> None:
        conversation = self._conversation
        if conversation is not None:
            # A connection that has ended needs no waking.
            with contextlib.suppress(Exception):
                conversation.connection.add_callback_threadsafe(_nothing)

    def _end_conversation(self) -> None:
        self._conversation = None
        self._in_hand.detach()

    def _explain(self, error: Exception) -> None:
        if isinstance(error, AMQPError | OSError | BrokerError):
            found = named(error, self._where)
            if isinstance(found, BrokerRefused) and not self._ever_consumed:
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

    def _restore_topology(self, conversation: _Conversation) -> None:
        self._topology_wanted.clear()
        try:
            self._topology.set_up(conversation.connection)
        except BrokerRefused as error:
            log.error("%s", error.message)

    def _finish(self, conversation: _Conversation) -> None:
        """Give back what was not begun, wait for the work in hand, ack it."""
        log.info("stopping: %d message(s) in hand", self._in_hand.running)
        if conversation.consumer_tag:
            conversation.channel.basic_cancel(conversation.consumer_tag)
        for tag in self._in_hand.close():
            conversation.channel.basic_nack(tag, requeue=True)
        while self._in_hand.running and not self._signals.overdue:
            self._turned_at = time.monotonic()
            conversation.connection.process_data_events(time_limit=TURN_SECONDS)
            self._in_hand.collect()
            conversation.acks.flush()
        conversation.acks.flush()

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


def _call(act: Any, what: str) -> None:
    try:
        act()
    except Exception:
        log.exception("%s failed", what)


def _text_or_none(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else headers.text(value)


def _closing_reason(channel: BlockingChannel) -> str:
    # pika keeps it, but has no public name for it.
    return one_line(str(getattr(channel, "_closing_reason", None) or "it did not say why"))
