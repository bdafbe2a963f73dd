# SPDX-License-Identifier: GPL-3.0-or-later
"""``Dispatcher``: decide whether each message is acked, processed, or kept until it can be processed alone.

A message is decoded just enough to see whether it is relevant. Irrelevant messages are acked, many at once. A suspect
(``suspects.py``) is not even decoded before it is alone (``prefetch_window.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties

from omps_worker.broker import headers
from omps_worker.broker.consuming.acks import Acks
from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.consuming.in_flight import InFlight
from omps_worker.broker.consuming.prefetch_window import PrefetchWindow
from omps_worker.broker.consuming.relevance import read
from omps_worker.broker.consuming.subscription import Subscription
from omps_worker.broker.consuming.suspects import DeathLimits
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.broker.queues.bindings import UnconfiguredBindings
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.errors import WorkerError
from omps_worker.common.model import Ignored
from omps_worker.common.text import counted, one_line

log = logging.getLogger(__name__)


class Dispatcher:
    """Receives messages, acks irrelevant ones, and hands the others to ``InFlight``. Use it in the connection's thread.

    While ``may_begin`` returns False, there is no new subscription.
    """

    def __init__(
        self,
        handler: MessageHandler,
        in_flight_messages: InFlight,
        topology: Topology,
        prefetch: int,
        may_begin: Callable[[], bool],
    ) -> None:
        self._handler = handler
        self._in_flight = in_flight_messages
        self._queue = topology.queue
        self._prefetch = prefetch
        self._may_begin = may_begin
        self._limits = DeathLimits.below(None if topology.passive else topology.arguments.get("x-delivery-limit"))
        self._window: PrefetchWindow[Delivery] = PrefetchWindow(prefetch)
        self._unconfigured_bindings = UnconfiguredBindings(topology.queue, topology.bindings)
        self._generation = 0
        self._to_return: list[int] = []
        self._channel: BlockingChannel | None = None
        self._acks: Acks | None = None
        self._subscription: Subscription | None = None
        self.consuming = False
        """Whether messages that arrive now would be processed, possibly after one that is processed alone."""

    def open(self, channel: BlockingChannel) -> None:
        """Use this channel for the messages from now on. ``adjust`` subscribes."""
        self._generation += 1
        self._channel, self._acks = channel, Acks(channel, self._prefetch // 2)
        self._subscription = Subscription(channel, self._queue, self._on_message)
        self._in_flight.attach(self._acks, self._generation)
        self._to_return.clear()
        self._window.open(working=self._in_flight.alone)

    def detach(self) -> None:
        """Forget the channel, which is gone."""
        self._channel = self._acks = self._subscription = None
        self.consuming = False
        self._in_flight.detach()

    def adjust(self) -> bool:
        """Adjust the subscription to the window's size, and start the waiting suspect if nothing is in flight.

        Return True if this started consumption.
        """
        subscription = self._subscription
        if subscription is None:
            return False
        idle = self._in_flight.idle
        if idle:
            self._window.idle()
        wanted = self._window.wanted
        if wanted != subscription.size and (wanted == 0 or self._may_begin()):
            if subscription.size and not wanted:
                log.info("no more messages are taken until a message that may have killed workers was processed alone")
            subscription.resize(wanted)
        self._nack(self._to_return)
        if idle and (suspect := self._window.begin()) is not None:
            self.flush()
            self._begin_alone(suspect)
        begins = bool(subscription.size) and not self.consuming
        self.consuming = self.consuming or begins
        return begins

    def flush(self) -> None:
        """Ack what is finished."""
        if self._acks is not None:
            self._acks.flush()

    def close(self) -> None:
        """Take no more messages, and return to the broker what was not begun."""
        self.consuming = False
        if self._subscription is not None:
            self._subscription.resize(0)
        suspect = self._window.close()
        if suspect is not None:
            self._to_return.append(suspect.tag.number)
        self._nack([*self._in_flight.close(), *self._to_return])

    def _nack(self, tags: list[int]) -> None:
        for tag in tags:
            if self._channel is not None and self._acks is not None:
                self._acks.drop(tag)
                self._channel.basic_nack(tag, requeue=True)
        self._to_return.clear()

    def _on_message(
        self, channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        if self._channel is not channel:
            return
        self._handler.observer.received()
        self._unconfigured_bindings.record(headers.text(method.exchange), headers.text(method.routing_key))
        suspect = self._limits.suspect(properties.headers, bool(method.redelivered))
        if suspect is not None:
            delivery = self._delivery(method, properties, body)
            if not self._in_flight.knows(delivery):
                self._queue_suspect(delivery)
                return
        self._window.ordinary()
        event, found = read(self._handler, properties, body, headers.text(method.routing_key))
        if isinstance(found, Ignored):
            self._ignore(found, method.delivery_tag or 0)
        else:
            delivery = self._delivery(method, properties, body)
            delivery.event = event
            self._in_flight.take(delivery, found)

    def _queue_suspect(self, delivery: Delivery) -> None:
        tag = delivery.tag.number
        if self._acks is not None and self._subscription is not None:
            # Otherwise an ack for many deliveries could cover it.
            self._acks.hold(tag)
            if not self._window.suspect(delivery, self._subscription.size):
                self._to_return.append(tag)

    def _begin_alone(self, delivery: Delivery) -> None:
        suspect = self._limits.suspect(delivery.headers, delivery.redelivered)
        fault: WorkerError | None = None
        found: Ignored | WorkerError | None = None
        if suspect is None or suspect.readable:
            topic = delivery.routing_key
            delivery.event, found = read(self._handler, delivery.properties, delivery.body, topic)
        if isinstance(found, Ignored):
            self._ignore(found, delivery.tag.number)
            return
        if suspect is not None and suspect.to_be_parked:
            fault = suspect.error
            consequence = "it is parked"
        else:
            consequence = "it is processed alone"
        log.warning(
            "message %s was in flight %s when a worker died, or lost the broker: %s",
            one_line(delivery.message_id),
            counted(0 if suspect is None else suspect.total, "time"),
            consequence,
        )
        self._in_flight.take(delivery, fault or found, alone=True)

    def _ignore(self, ignored: Ignored, tag: int) -> None:
        self._in_flight.count_ignored(ignored)
        if self._acks is not None:
            self._acks.settle(tag)

    def _delivery(self, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Delivery:
        return Delivery(
            DeliveryTag(self._generation, method.delivery_tag or 0),
            headers.text(method.exchange),
            headers.text(method.routing_key),
            bool(method.redelivered),
            properties,
            body,
            None,
        )
