# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that nothing cuts off for being slow, and that a dead link does not hold up for long.

pika takes a connection for dead when no whole frame came between two of its looks, though 128 KiB of
a large message may well be on their way over a slow link. Here every byte is a sign of life.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import pika

from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.parameters import HEARTBEAT_SECONDS


class _SlowLinkConnection(pika.SelectConnection):
    bytes_received: int

    def _on_data_available(self, data_in: bytes) -> None:
        # This is what the heartbeat checker compares; pika itself adds a frame when it is whole.
        self.bytes_received += len(data_in)
        super()._on_data_available(data_in)  # type: ignore[misc]


def patiently_connected(where: BrokerAccess) -> AbstractContextManager[pika.BlockingConnection]:
    """A connection for a while. Raises BrokerUnavailable or BrokerRefused."""
    return connected(where, _patient)


def _patient(node: pika.URLParameters) -> pika.BlockingConnection:
    if node.heartbeat is None:
        node.heartbeat = HEARTBEAT_SECONDS
    return pika.BlockingConnection(node, _impl_class=_SlowLinkConnection)  # type: ignore[arg-type]
