# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries of the retry queues and the failed queue: which messages may still publish something.

A query does not harm a message. The failed queue's delivery limit is so high that queries cannot use it up. RabbitMQ 4
gives a retry queue a limit of 20, but a message that reaches it goes to the worker, as it does when its delay is over.
The worker's main queue is not queried: a delivery from it counts as the death of a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker import headers
from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.dead_letters.failed_queue import FailedQueue
from omps_worker.broker.dead_letters.message import event_in
from omps_worker.broker.queues.topology import Topology, failed_queue, retry_queue
from omps_worker.common.model import BuildEvent
from omps_worker.messages.dead_letter import FailureSelection
from omps_worker.publishing.pending import PendingMessage

Concerns = Callable[[BuildEvent | None, tuple[str, ...] | None], bool | None]
"""Returns whether a message about a build, for those targets, is relevant; None: it may be."""


def pending_messages(
    access: BrokerAccess,
    topology: Topology,
    concerns: Concerns,
    *,
    take_turns: bool,
    notice: Callable[[str], object],
    missed: Callable[[str], object],
) -> list[PendingMessage]:
    """Return the relevant messages that wait for a retry or are parked, the queue with the shortest delay first.

    ``take_turns`` and ``notice`` are as for ``FailedQueue``. ``missed`` is called with the reason if a query did not
    see everything. Raises BrokerError.
    """
    found = []
    for name in _non_empty_queues(access, topology):
        queue = FailedQueue(access, topology, take_turns=take_turns, notice=notice, name=name)
        with queue.scan(FailureSelection()) as messages:
            for message in messages:
                delivery = message.delivery
                event = event_in(message.properties, message.body)
                relevant = concerns(event, headers.open_targets(delivery.headers))
                if relevant is not False:
                    nvr = event.nvr if event else None
                    parked = name == failed_queue(topology.queue)
                    found.append(PendingMessage(delivery.message_id, name, nvr, parked, relevant is True))
        if queue.incomplete:
            missed(queue.incomplete)
    return found


def _non_empty_queues(access: BrokerAccess, topology: Topology) -> Iterator[str]:
    """Return the queues that are not empty. A missing queue counts as empty."""
    names = [*(retry_queue(topology.queue, delay) for delay in topology.delays), failed_queue(topology.queue)]
    found = []
    with connected(access) as connection:
        for name in names:
            try:
                method = connection.channel().queue_declare(name, passive=True).method
            except ChannelClosedByBroker:
                continue
            if method.message_count or method.consumer_count:
                found.append(name)
    return iter(found)
