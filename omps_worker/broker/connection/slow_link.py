# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that tolerate slow links and still detect dead ones.

pika considers a connection dead if no complete frame arrived between two heartbeat checks, although part of a large
message (128 KiB) may be on its way over a slow link. Here, every byte received counts as a sign of life.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import pika

from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.parameters import HEARTBEAT_SECONDS


class _SlowLinkConnection(pika.SelectConnection):
    bytes_received: int

    def _on_data_available(self, data_in: bytes) -> None:
        # The heartbeat checker compares this number. pika itself adds a frame only when it is complete.
        self.bytes_received += len(data_in)
        super()._on_data_available(data_in)  # type: ignore[misc]


def connected_over_slow_link(access: BrokerAccess) -> AbstractContextManager[pika.BlockingConnection]:
    """Provide a connection over a link that may be slow. Raises BrokerUnavailable or BrokerRefused."""
    return connected(access, _connect)


def _connect(node: pika.URLParameters) -> pika.BlockingConnection:
    if node.heartbeat is None:
        node.heartbeat = HEARTBEAT_SECONDS
    return pika.BlockingConnection(node, _impl_class=_SlowLinkConnection)  # type: ignore[arg-type]
