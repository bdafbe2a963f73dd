# SPDX-License-Identifier: GPL-3.0-or-later
"""What pika is told for one attempt to connect to one node."""

from __future__ import annotations

import logging
from typing import Any

import pika

from omps_worker.broker.connection import header_values
from omps_worker.common.text import one_line

CONNECT_SECONDS = 15.0
"""How long one try to connect may take, name look-up, TLS and login included."""

HEARTBEAT_SECONDS = 15
"""How often both sides show that they live, where ``amqp_url`` does not say; who is silent for two or three times as
long counts as dead. One for all connections of a process: a worker that is frozen gives up its messages and its
locks together."""


def prepared(found: pika.URLParameters, client_properties: dict[str, Any]) -> pika.URLParameters:
    """``found`` with one bounded try to connect, and header values that survive.

    pika logs each failure to connect several times, with tracebacks; who connects says it in one
    line. So pika is kept quiet, unless everything is being debugged.
    """
    header_values.install()
    chatter = logging.getLogger("pika")
    if chatter.getEffectiveLevel() > logging.DEBUG:
        chatter.setLevel(logging.CRITICAL)
    found.client_properties = client_properties
    found.connection_attempts = 1
    found.socket_timeout = CONNECT_SECONDS
    found.stack_timeout = CONNECT_SECONDS
    return found


def place(where: pika.URLParameters) -> str:
    """Where that is, for people: host, port and virtual host, no password."""
    return one_line(f"{where.host}:{where.port}, virtual host {where.virtual_host}")
