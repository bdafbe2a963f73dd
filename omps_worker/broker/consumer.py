# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: takes messages from the queue until it is told to stop.

One connection, used by one thread, which never does work itself, so that heartbeats go on. It
reads each message just far enough to see whether it can concern us. What cannot is acked, many
at once. What can goes to a thread; when its outcome is recorded on the broker, it is acked here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.acks import Acks
from omps_worker.broker.connection import Backoff, named, place
from omps_worker.broker.delivery import Delivery, Tag
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.signals import Interrupted, Signals, StopNow
from omps_worker.broker.topology import Topology
from omps_worker.broker.work import Desk, Done, Handler, Threads
from omps_worker.errors import BrokerError, BrokerRefused, BrokerUnavailable, MessageError, UnexpectedError, WorkerError
from omps_worker.model import BuildEvent, Ignored
from omps_worker.text import one_line

log = logging.getLogger(__name__)

DONE, UNFINISHED = 0, 1
"""Exit codes of ``run``: everything in hand was finished and acked; something was left to the broker."""

TURN_SECONDS = 0.2
"""How long the connection waits for news before it looks around."""

STEADY_SECONDS = 10.0
"""A connection that lived that long is no part of a series of failures."""

REMEMBERED = 256
"""How many finished messages are remembered, to ack a redelivery of one whose ack was lost."""


@dataclass(eq=False)
class Work:
    """A relevant message in hand. ``delivery.tag`` is where to ack it, if its channel still lives."""

    delivery: Delivery
    fault: WorkerError | None
    started: bool = False
    done: Done | None = None
    followers: list[Delivery] = field(default_factory=list)
    """Further deliveries of the very same message, to be looked at when this one is finished."""


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
            restore=self._want_topology,
        )
        self._threads: Threads | None = None
        self._conversation: _Conversation | None = None
        self._generation = 0
        self._in_hand: dict[bytes, Work] = {}
        self._waiting: deque[Work] = deque()
        self._running = 0
        self._finished: SimpleQueue[Work] = SimpleQueue()
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._topology_wanted = threading.Event()
        self._next_housekeeping = 0.0
        self._left_to_broker = False
        self._ever_consumed = False
        self.counts: Counter[str] = Counter()
        """How many messages ended in which way: ``ignored:<reason>`` or a status of an outcome."""

    @property
    def consuming(self) -> bool:
        """Whether messages that come now would be taken."""
        return self._conversation is not None and not self._signals.stopping

    def stop(self) -> None:
        """What SIGTERM does: finish the work in hand, then return from ``run``. From any thread."""
        self._signals.stop()

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT; returns the exit code.

        A broker that is away is waited for. Raises BrokerRefused when it refuses the login, a queue
        or an exchange at the start; later the same is logged and tried again. SIGTERM, SIGINT and
        SIGHUP are handled meanwhile, if this is the main thread; a second SIGTERM stops at once.
        """
        self._threads = Threads(self._concurrency)
        try:
            with self._signals:
                self._run()
                return UNFINISHED if self._left_to_broker else DONE
        except StopNow:
            log.warning("stopped at once: the broker redelivers what was in hand")
            return UNFINISHED
        finally:
            self._desk.abandon()
            self._threads.close()
            self._publisher.close(1.0)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._signals.stopping:
            begun = time.monotonic()
            try:
                self._converse()
            except Interrupted:
                break
            except Exception as error:
                if time.monotonic() - begun > STEADY_SECONDS:
                    backoff.reset()
                self._explain(error)
                self._pause(backoff.next())
            finally:
                self._end_conversation()
        self._finish_without_broker()

    def _converse(self) -> None:
        connection = self._connect()
        try:
            self._topology.set_up(connection)
            self._topology_wanted.clear()
            self._publisher.start()
            conversation = self._subscribe(connection)
            log.info("consuming from the queue %s on %s", self._topology.queue, place(self._where))
            self._ever_consumed = True
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

    def _subscribe(self, connection: BlockingConnection) -> _Conversation:
        self._collect_finished()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        self._generation += 1
        conversation = _Conversation(connection, channel, Acks(channel, self._prefetch // 2))
        channel.add_on_cancel_callback(lambda _frame: self._on_cancelled(conversation))
        self._conversation = conversation
        conversation.consumer_tag = channel.basic_consume(self._topology.queue, self._on_message)
        return conversation

    def _turn(self, conversation: _Conversation) -> None:
        """Take what has come, ack what is done, and look around. Raises when the channel is gone."""
        conversation.connection.process_data_events(time_limit=TURN_SECONDS)
        self._collect_finished()
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
            fault = UnexpectedError.wrap(error)
        delivery = Delivery(
            Tag(self._generation, number),
            headers.text(method.exchange),
            headers.text(method.routing_key),
            bool(method.redelivered),
            properties,
            body,
            event,
        )
        self._take(conversation, delivery, fault)

    def _ignore(self, ignored: Ignored) -> None:
        self.counts[f"ignored:{ignored.reason}"] += 1
        if log.isEnabledFor(logging.DEBUG):
            log.debug("ignored: %s %s", ignored.reason, one_line(ignored.detail))

    def _take(self, conversation: _Conversation, delivery: Delivery, fault: WorkerError | None) -> None:
        number, key = delivery.tag.number, delivery.key
        known = self._in_hand.get(key)
        if known is not None:
            conversation.acks.hold(number)
            if known.delivery.tag.generation != self._generation:
                log.info("message %s came again and is still being worked on", one_line(delivery.message_id))
                known.delivery.tag = delivery.tag
            else:
                known.followers.append(delivery)
        elif delivery.redelivered and key in self._recent:
            log.info("message %s came again though its outcome is recorded", one_line(delivery.message_id))
            conversation.acks.settle(number)
        else:
            conversation.acks.hold(number)
            work = self._in_hand[key] = Work(delivery, fault)
            self._waiting.append(work)
            self._start_waiting()

    def _on_cancelled(self, conversation: _Conversation) -> None:
        conversation.cancelled = True

    # Work goes on, and ends.

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._concurrency and not self._signals.stopping:
            work = self._waiting.popleft()
            work.started = True
            self._running += 1
            assert self._threads is not None  # noqa: S101  run has made them
            self._threads.submit(partial(self._perform, work))

    def _perform(self, work: Work) -> None:
        """Runs in a thread of its own; everything else here in the connection's."""
        try:
            work.done = self._desk.perform(work.delivery, work.fault)
        except BaseException:
            log.exception("message %s stays un-acked", one_line(work.delivery.message_id))
        self._finished.put(work)
        self._wake()

    def _collect_finished(self) -> None:
        while True:
            try:
                work = self._finished.get_nowait()
            except Empty:
                break
            self._running -= 1
            del self._in_hand[work.delivery.key]
            self._account_for(work)
            conversation = self._conversation
            for delivery in work.followers:
                if conversation is not None and delivery.tag.generation == self._generation:
                    self._take(conversation, delivery, work.fault)
        self._start_waiting()

    def _account_for(self, work: Work) -> None:
        if work.done is None:
            self._left_to_broker = True
            return
        if work.done.ignored is not None:
            self._ignore(work.done.ignored)
        self.counts.update(str(status) for status in work.done.statuses)
        self._recent[work.delivery.key] = None
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        if self._conversation is not None and work.delivery.tag.generation == self._generation:
            self._conversation.acks.settle(work.delivery.tag.number)
        elif self._signals.stopping:
            self._left_to_broker = True

    def _wake(self) -> None:
        conversation = self._conversation
        if conversation is not None:
            # A connection that has ended needs no waking.
            with contextlib.suppress(Exception):
                conversation.connection.add_callback_threadsafe(_nothing)

    # Connections end.

    def _end_conversation(self) -> None:
        """What was not begun comes again, and is forgotten here."""
        self._conversation = None
        for work in self._waiting:
            del self._in_hand[work.delivery.key]
        self._waiting.clear()
        for work in self._in_hand.values():
            work.followers.clear()

    def _explain(self, error: Exception) -> None:
        if isinstance(error, AMQPError | OSError | BrokerError):
            found = named(error, self._where)
            if isinstance(found, BrokerRefused) and not self._ever_consumed:
                raise found
            log.warning("not consuming, trying again: %s", found.message)
        elif isinstance(error, WorkerError):
            raise error
        else:
            log.exception("not consuming, trying again after an exception that nobody thought of")

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._signals.stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TURN_SECONDS))
            self._keep_house()

    def _want_topology(self) -> None:
        self._topology_wanted.set()
        self._wake()

    def _restore_topology(self, conversation: _Conversation) -> None:
        self._topology_wanted.clear()
        try:
            self._topology.set_up(conversation.connection)
        except BrokerRefused as error:
            log.error("%s", error.message)

    # The end.

    def _finish(self, conversation: _Conversation) -> None:
        """Give back what was not begun, wait for the work in hand, ack it."""
        connection, channel = conversation.connection, conversation.channel
        log.info("stopping: %d message(s) in hand", self._running)
        channel.basic_cancel(conversation.consumer_tag)
        self._give_back(conversation)
        while self._running and not self._signals.overdue:
            connection.process_data_events(time_limit=TURN_SECONDS)
            self._collect_finished()
            conversation.acks.flush()
            self._give_back(conversation)
        conversation.acks.flush()
        if self._running:
            self._left_to_broker = True
        connection.process_data_events()

    def _give_back(self, conversation: _Conversation) -> None:
        untouched = [work.delivery for work in self._waiting]
        for work in self._in_hand.values():
            untouched += work.followers
            work.followers.clear()
        for work in self._waiting:
            del self._in_hand[work.delivery.key]
        self._waiting.clear()
        for delivery in untouched:
            if delivery.tag.generation == self._generation:
                conversation.acks.drop(delivery.tag.number)
                conversation.channel.basic_nack(delivery.tag.number, requeue=True)

    def _finish_without_broker(self) -> None:
        """The connection is gone while stopping: at least let the work in hand end and be told."""
        while self._running and not self._signals.overdue:
            time.sleep(0.02)
            self._collect_finished()
        if self._running:
            self._left_to_broker = True
            log.warning("the shutdown timeout has passed: the broker redelivers %d message(s)", self._running)


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
