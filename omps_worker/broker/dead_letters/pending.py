# SPDX-License-Identifier: GPL-3.0-or-later
"""A look through the queues in which messages wait, or are parked: what may still publish something.

A look costs a message nothing: the failed queue has a limit that looks cannot use up, and a retry queue that
RabbitMQ 4 gives a limit of 20 hands over what reaches it to the worker, as it does when the time comes. The
worker's own queue is not looked at: what is handed over there counts as the death of a worker.
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
"""Whether a message about a build, for those targets, is meant: None if it may be."""


def look(
    where: BrokerAccess,
    topology: Topology,
    concerns: Concerns,
    *,
    take_turns: bool,
    notice: Callable[[str], object],
    missed: Callable[[str], object],
) -> list[PendingMessage]:
    """What waits and is parked of what is meant, the queue with the shortest delay first.

    ``take_turns`` and ``notice`` are as for ``FailedQueue``; ``missed`` is told why a look did not see everything.
    Raises BrokerError.
    """
    found = []
    for name in _filled(where, topology):
        queue = FailedQueue(where, topology, take_turns=take_turns, notice=notice, name=name)
        with queue.look(FailureSelection()) as messages:
            for message in messages:
                delivery = message.delivery
                event = event_in(message.properties, message.body)
                meant = concerns(event, headers.open_targets(delivery.headers))
                if meant is not False:
                    nvr = event.nvr if event else None
                    parked = name == failed_queue(topology.queue)
                    found.append(PendingMessage(delivery.message_id, name, nvr, parked, meant is True))
        if queue.incomplete:
            missed(queue.incomplete)
    return found


def _filled(where: BrokerAccess, topology: Topology) -> Iterator[str]:
    """The queues that hold something; one that is missing holds nothing."""
    names = [*(retry_queue(topology.queue, delay) for delay in topology.delays), failed_queue(topology.queue)]
    found = []
    with connected(where) as connection:
        for name in names:
            try:
                method = connection.channel().queue_declare(name, passive=True).method
            except ChannelClosedByBroker:
                continue
            if method.message_count or method.consumer_count:
                found.append(name)
    return iter(found)
