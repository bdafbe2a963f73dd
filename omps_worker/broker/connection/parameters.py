# SPDX-License-Identifier: GPL-3.0-or-later
"""pika's parameters for one attempt to connect to one node."""

from __future__ import annotations

import logging
from typing import Any

import pika

from omps_worker.broker.connection import header_values
from omps_worker.common.text import one_line

CONNECT_SECONDS = 15.0
"""Timeout in seconds of one attempt to connect, including name lookup, TLS and login."""

HEARTBEAT_SECONDS = 15
"""Default heartbeat interval in seconds, unless ``amqp_url`` sets another.

A side that is silent for two or three intervals counts as dead. All connections of a process have the same heartbeat,
so that a frozen worker loses its messages and its locks together.
"""


def prepared(node: pika.URLParameters, client_properties: dict[str, Any]) -> pika.URLParameters:
    """Return ``node``, set up for one attempt with a timeout, and make pika preserve header values.

    pika logs each failure to connect several times, with tracebacks. The caller reports a failure in one line, so
    pika's logger is silenced, unless the log level is DEBUG.
    """
    header_values.install()
    pika_log = logging.getLogger("pika")
    if pika_log.getEffectiveLevel() > logging.DEBUG:
        pika_log.setLevel(logging.CRITICAL)
    node.client_properties = client_properties
    node.connection_attempts = 1
    node.socket_timeout = CONNECT_SECONDS
    node.stack_timeout = CONNECT_SECONDS
    return node


def place(node: pika.URLParameters) -> str:
    """Return the address of a node for messages: host, port and virtual host, without a password."""
    return one_line(f"{node.host}:{node.port}, virtual host {node.virtual_host}")
