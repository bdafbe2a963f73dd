# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a failure is parked already: asked before one is parked that may be (see ``doubles.py``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.dead_letters.duplicates import SeenFailures
from omps_worker.broker.dead_letters.failed_queue import FailedQueue
from omps_worker.broker.delivery import Delivery
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.errors import BrokerError
from omps_worker.common.text import one_line
from omps_worker.messages.dead_letter import FailureSelection

log = logging.getLogger(__name__)

MOST_LOOKED_AT = 1000
"""In a failed queue with more messages a double is not looked for, as that would take long."""

TURN_SECONDS = 5.0
"""How long to wait for others who look at failures."""


class AlreadyParked:
    """Asks whether a failure is parked already; from any thread."""

    def __init__(self, where: BrokerAccess, topology: Topology) -> None:
        self._where = where
        self._topology = topology

    def __call__(self, delivery: Delivery, error: str, targets: Sequence[str] | None) -> bool:
        """Whether a copy of this failure is seen in the failed queue. False where that cannot be found out."""
        if self._topology.passive:
            # Each look counts there, and may wear out a message in a queue that others declared.
            return False
        copies = SeenFailures()
        queue = FailedQueue(self._where, self._topology, take_turns=self._topology.locks, turn_seconds=TURN_SECONDS)
        try:
            with queue.look(FailureSelection(ids=frozenset({delivery.message_id}))) as look:
                if look.ready <= MOST_LOOKED_AT:
                    for message in look:
                        copies.add(message)
        except BrokerError as error_of_look:
            log.warning("it is not known whether a failure is parked already: %s", error_of_look.message)
            return False
        found = copies.has_failure(delivery, error, targets)
        if found:
            log.info("the failure of message %s is parked already", one_line(delivery.message_id))
        return found
