# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket

import pika
import pytest

from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.parameters import prepared
from omps_worker.common.errors import BrokerUnavailable


def test_a_port_where_nobody_speaks_amqp_is_a_broker_that_is_away():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = prepared(pika.URLParameters(f"amqp://127.0.0.1:{silent.getsockname()[1]}/"), {})
        node.stack_timeout = 0.3
        with pytest.raises(BrokerUnavailable, match="no answer in AMQP"), connected(BrokerAccess(lambda: [node])):
            pass
