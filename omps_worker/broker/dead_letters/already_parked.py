# SPDX-License-Identifier: GPL-3.0-or-later
"""``AlreadyParked``: check whether a failure is parked already, before it is parked again (see ``duplicates.py``)."""

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

LARGEST_SCAN = 1000
"""If the failed queue has more messages than this, it is not searched, because that would take too long."""

TURN_SECONDS = 5.0
"""How long to wait for other scans of the failed queue, in seconds."""


class AlreadyParked:
    """Checks whether a failure is parked already, in any thread."""

    def __init__(self, access: BrokerAccess, topology: Topology) -> None:
        self._access = access
        self._topology = topology

    def __call__(self, delivery: Delivery, error: str, targets: Sequence[str] | None) -> bool:
        """Return whether a copy of this failure is found in the failed queue. False if that cannot be determined."""
        if self._topology.passive:
            # Each scan counts as a delivery, and the delivery limit of a queue that others declared is unknown.
            return False
        copies = SeenFailures()
        queue = FailedQueue(self._access, self._topology, take_turns=self._topology.locks, turn_seconds=TURN_SECONDS)
        try:
            with queue.scan(FailureSelection(ids=frozenset({delivery.message_id}))) as scan:
                if scan.ready <= LARGEST_SCAN:
                    for message in scan:
                        copies.add(message)
        except BrokerError as scan_error:
            log.warning("cannot find out whether a failure is parked already: %s", scan_error.message)
            return False
        found = copies.has_failure(delivery, error, targets)
        if found:
            log.info("the failure of message %s is parked already", one_line(delivery.message_id))
        return found
