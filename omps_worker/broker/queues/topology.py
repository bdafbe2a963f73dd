# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's queues: declared as documented, or only checked.

====================  =========================================================================
``<queue>``           quorum, x-delivery-limit 20, dead letters through '' to ``<queue>.failed``,
                      at-least-once, overflow reject-publish
``<queue>.retry.…``   one for each delay, as written: quorum, x-message-ttl, dead letters through ''
                      to ``<queue>``, at-least-once, overflow reject-publish
``<queue>.failed``    quorum, x-delivery-limit 1000000, no TTL
====================  =========================================================================

The delivery limit of the failed queue is so high that scans cannot use it up. Without a limit, RabbitMQ 4 deletes a
message after 20 deliveries; with -1, RabbitMQ 3.10 deletes it at the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.connection.failures import refusal_error
from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.configuration.settings.broker import contract_arguments
from omps_worker.publishing.retry import RetryDelay

if TYPE_CHECKING:
    from omps_worker.configuration.settings.models import Settings

FAILED_ARGUMENTS: Mapping[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


def failed_queue(queue: str) -> str:
    """Return the name of the queue where failures are parked."""
    return f"{queue}.failed"


def retry_queue(queue: str, delay: RetryDelay) -> str:
    """Return the name of the queue where retries wait for ``delay``."""
    return f"{queue}.retry.{delay.text}"


def retry_arguments(queue: str, delay: RetryDelay) -> dict[str, Any]:
    """Return the arguments of a queue that holds each message for ``delay`` and then returns it to ``queue``."""
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
    """What must exist on the broker. ``bindings`` are pairs of exchange and routing key."""

    queue: str
    arguments: Mapping[str, Any]
    bindings: tuple[tuple[str, str], ...] = ()
    publish_exchange: str = ""
    topic_prefix: str = ""
    passive: bool = False
    delays: tuple[RetryDelay, ...] = ()
    locks: bool = False
    """Whether packages are locked with queues, so that the user must be able to declare these."""
    failed_arguments: Mapping[str, Any] = field(default_factory=lambda: FAILED_ARGUMENTS)

    @classmethod
    def of(cls, settings: Settings) -> Topology:
        """Return the topology that the configuration describes."""
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
        """Return the default topology for a queue of that name."""
        return cls(queue=queue, arguments=contract_arguments(queue), **more)

    def set_up(self, connection: BlockingConnection) -> None:
        """Declare queues and bindings; if passive, only check that the queues exist.

        Exchanges are only checked, because they belong to others. Nothing is published, because that would make the
        connection unusable during an alarm. Raises BrokerRefused, which says what is wrong and what to do; trying again
        does not help before the cause is fixed. Raises BrokerUnavailable for conditions that pass.
        """
        channel = connection.channel()
        try:
            self._set_up_queue(channel, failed_queue(self.queue), self.failed_arguments)
            self._set_up_queue(channel, self.queue, self.arguments)
            for delay in self.delays:
                self._set_up_queue(channel, retry_queue(self.queue, delay), retry_arguments(self.queue, delay))
            if self.publish_exchange:
                with _explained(
                    f"access to the exchange {self.publish_exchange} (publish_exchange)",
                    "Declare it, or name another exchange.",
                ):
                    channel.exchange_declare(self.publish_exchange, passive=True)
            if not self.passive:
                for exchange, key in self.bindings:
                    with _explained(
                        f"to bind the queue {self.queue} to the exchange {exchange} with {key!r} ([[bindings]])",
                        "The exchange must exist, and the user needs permission to write to the queue and to read from "
                        "the exchange. If topic permissions are set, they must allow this topic.",
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
                f"access to the queue {name}",
                "With passive_declares the queue must exist: declare it, or set passive_declares = false.",
            ):
                channel.queue_declare(name, passive=True)
        else:
            with _explained(
                f"to declare the queue {name} with {_formatted(arguments)}",
                "The arguments of a queue cannot be changed: drain and delete the queue, so that it is declared anew, "
                "or set passive_declares = true to use it as it is.",
                "The user needs permission to configure this queue, to write to the default exchange and to read the "
                "queue. With passive_declares = true and a queue that others declare, configuring is not needed.",
            ):
                channel.queue_declare(name, durable=True, arguments=dict(arguments))


@contextmanager
def _explained(what: str, advice: str, missing_permission_advice: str | None = None) -> Iterator[None]:
    try:
        yield
    except ChannelClosedByBroker as error:
        raise refusal_error(error, what, advice, missing_permission_advice) from error


def _formatted(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())
