# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker as tests use it: publish build messages, read results and parked messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pika.exceptions import AMQPError, ChannelClosedByBroker
from pika.spec import BasicProperties

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.queues.topology import Topology
from tests.support.waiting import wait_until

TOPIC = "org.fedoraproject.prod.buildsys.build.state.change"
PREFIX = "org.example.test"
RESULTS = "everybody-elses-results"


@dataclass(frozen=True)
class Got:
    topic: str
    properties: BasicProperties
    body: bytes
    redelivered: bool

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


def build_body(build_id: int = 1, name: str = "published", **more: Any) -> bytes:
    """Return a message body in Fedora's dialect. The name tells ``tests.support.workers`` what to do."""
    body = {"attribute": "state", "old": 0, "new": 1, "build_id": build_id, "name": name, "version": "1.0"}
    return json.dumps({**body, "release": "1", "owner": "jdoe", **more}).encode()


def where(url: str) -> BrokerAccess:
    """Return the access to the broker at ``url``, as the project connects to it."""
    return BrokerAccess.at(url, "test")


def topology(queue: str = "omps-worker", **more: Any) -> Topology:
    """Return the worker's topology, bound to Koji's topic."""
    return Topology.named(queue, **{"bindings": (("amq.topic", TOPIC),), "publish_exchange": "amq.topic", **more})


class Bus:
    """The broker at ``url``. Each method opens its own connection, so a lost connection does not matter."""

    def __init__(self, url: str, queue: str = "omps-worker") -> None:
        self.url, self.queue, self.failed_queue = url, queue, f"{queue}.failed"

    @contextmanager
    def channel(self) -> Iterator[Any]:
        link = where(self.url).connect()
        try:
            yield link.channel()
        finally:
            with suppress(AMQPError):
                link.close()

    def listen(self) -> Bus:
        """Collect all results from now on."""
        with self.channel() as channel:
            channel.queue_declare(RESULTS, durable=True)
            channel.queue_bind(RESULTS, "amq.topic", f"{PREFIX}.#")
        return self

    def set_up(self, **more: Any) -> Bus:
        """Declare the worker's queues before the worker does."""
        link = where(self.url).connect()
        topology(self.queue, **more).set_up(link)
        link.close()
        return self

    def publish(
        self,
        *bodies: bytes,
        topic: str = TOPIC,
        exchange: str = "amq.topic",
        routed: bool = True,
        **properties: Any,
    ) -> None:
        """Publish messages. With ``routed``, fail if a message reaches no queue; a test would wait for it forever."""
        with self.channel() as channel:
            channel.confirm_delivery()
            for body in bodies:
                channel.basic_publish(exchange, topic, body, BasicProperties(**properties), mandatory=routed)

    def depth(self, queue: str | None = None) -> int:
        """Return how many messages of ``queue`` are ready, without those in flight."""
        with self.channel() as channel:
            return channel.queue_declare(queue or self.queue, passive=True).method.message_count

    def exists(self, queue: str) -> bool:
        with self.channel() as channel:
            try:
                channel.queue_declare(queue, passive=True)
            except ChannelClosedByBroker:
                return False
            return True

    def consumers(self, queue: str | None = None) -> int:
        with self.channel() as channel:
            return channel.queue_declare(queue or self.queue, passive=True).method.consumer_count

    def take_all(self, queue: str) -> list[Got]:
        """Take all ready messages."""
        taken = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return taken
                taken.append(Got(method.routing_key, properties, body, method.redelivered))

    def take(self, queue: str, count: int, seconds: float = 30) -> list[Got]:
        """Wait for ``count`` messages, and take them."""
        taken: list[Got] = []

        def enough() -> bool:
            taken.extend(self.take_all(queue))
            return len(taken) >= count

        wait_until(enough, seconds, f"{count} message(s) in {queue}")
        assert len(taken) == count
        return taken

    def results(self, count: int, seconds: float = 30) -> list[Got]:
        return self.take(RESULTS, count, seconds)

    def parked(self, count: int, seconds: float = 30) -> list[Got]:
        return self.take(self.failed_queue, count, seconds)

    def wait_until_empty(self) -> None:
        """Check that no message is left, ready or in flight. Call this after the worker has stopped."""
        wait_until(lambda: self.consumers() == 0, what="the end of the consumer")
        assert self.take_all(self.queue) == []
