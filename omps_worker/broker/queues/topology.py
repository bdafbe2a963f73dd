# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues of the worker: made as the contract says, or only checked.

====================  =========================================================================
``<queue>``           quorum, x-delivery-limit 20, dead letters through '' to ``<queue>.failed``,
                      at-least-once, overflow reject-publish
``<queue>.retry.…``   one for each delay, as written: quorum, x-message-ttl, dead letters through ''
                      to ``<queue>``, at-least-once, overflow reject-publish
``<queue>.failed``    quorum, x-delivery-limit 1000000, no TTL
====================  =========================================================================

The failed queue has a limit that looking cannot use up: without one RabbitMQ 4 deletes a message
after 20 looks, and with -1 RabbitMQ 3.10 deletes it at the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.connection.failures import declined
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.configuration.settings.broker import contract_arguments
from omps_worker.publishing.retry import RetryDelay

if TYPE_CHECKING:
    from omps_worker.configuration.settings import Settings

FAILED_ARGUMENTS: Mapping[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


def failed_queue(queue: str) -> str:
    """The name of the queue where failures are parked."""
    return f"{queue}.failed"


def retry_queue(queue: str, delay: RetryDelay) -> str:
    """The name of the queue where retries wait for ``delay``."""
    return f"{queue}.retry.{delay.text}"


def retry_arguments(queue: str, delay: RetryDelay) -> dict[str, Any]:
    """A queue that holds each message for ``delay`` and then sends it back to ``queue``."""
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": max(round(delay.seconds * 1000), 1),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


@dataclass(frozen=True)
class Topology:
    """What must be on the broker. ``bindings`` are pairs of exchange and routing key."""

    queue: str
    arguments: Mapping[str, Any]
    bindings: tuple[tuple[str, str], ...] = ()
    publish_exchange: str = ""
    topic_prefix: str = ""
    passive: bool = False
    delays: tuple[RetryDelay, ...] = ()
    locks: bool = False
    """Whether packages are locked by queues, which then must be possible."""
    failed_arguments: Mapping[str, Any] = field(default_factory=lambda: FAILED_ARGUMENTS)

    @classmethod
    def of(cls, settings: Settings) -> Topology:
        """As the configuration says."""
        return cls(
            queue=settings.queue.name,
            arguments=settings.queue.arguments,
            bindings=tuple((binding.exchange, key) for binding in settings.bindings for key in binding.routing_keys),
            publish_exchange=settings.publish_exchange,
            topic_prefix=settings.topic_prefix,
            passive=settings.passive_declares,
            delays=tuple(RetryDelay(delay.text, delay.seconds) for delay in settings.worker.retry.delays),
            locks=settings.worker.lock == "broker",
        )

    @classmethod
    def named(cls, queue: str, **more: Any) -> Topology:
        """The contract's topology for a queue of that name."""
        return cls(queue=queue, arguments=contract_arguments(queue), **more)

    def set_up(self, connection: BlockingConnection) -> None:
        """Declare queues and bindings; when passive, only check that the queues are there.

        Exchanges are only checked: they belong to others. Nothing is published, as that would end the use of
        the connection in an alarm. Raises BrokerRefused, which names what is wrong and what to do; trying again
        does not help until somebody did it. Raises BrokerUnavailable for what passes.
        """
        channel = connection.channel()
        try:
            self._set_up_queue(channel, failed_queue(self.queue), self.failed_arguments)
            self._set_up_queue(channel, self.queue, self.arguments)
            for delay in self.delays:
                self._set_up_queue(channel, retry_queue(self.queue, delay), retry_arguments(self.queue, delay))
            if self.publish_exchange:
                with _explained(
                    f"to let us publish to the exchange {self.publish_exchange} (publish_exchange)",
                    "Have it declared, or name another one.",
                ):
                    channel.exchange_declare(self.publish_exchange, passive=True)
            if not self.passive:
                for exchange, key in self.bindings:
                    with _explained(
                        f"to bind the queue {self.queue} to the exchange {exchange} with {key!r} ([[bindings]])",
                        "The exchange must exist; the user needs to write to the queue and to read from the exchange, "
                        "where topic permissions are set also this topic.",
                    ):
                        channel.queue_bind(self.queue, exchange, key)
        finally:
            if channel.is_open:
                channel.close()
        if self.locks:
            LockQueues(connection).probe()

    def _set_up_queue(self, channel: BlockingChannel, name: str, arguments: Mapping[str, Any]) -> None:
        if self.passive:
            with _explained(
                f"to let us use the queue {name}",
                "With passive_declares it must exist: have it declared, or set passive_declares = false.",
            ):
                channel.queue_declare(name, passive=True)
        else:
            with _explained(
                f"to declare the queue {name} with {_shown(arguments)}",
                "A queue's arguments cannot be changed: drain and delete the queue so that it is declared anew, "
                "or set passive_declares = true to use it as it is.",
                "The user needs the right to configure this queue, to write to the default exchange and to read the "
                "queue; with passive_declares = true and a queue that others declare, it need not configure it.",
            ):
                channel.queue_declare(name, durable=True, arguments=dict(arguments))


@contextmanager
def _explained(what: str, advice: str, rights: str | None = None) -> Iterator[None]:
    try:
        yield
    except ChannelClosedByBroker as error:
        raise declined(error, what, advice, rights) from error


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())
