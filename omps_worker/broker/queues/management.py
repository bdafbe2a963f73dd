# SPDX-License-Identifier: GPL-3.0-or-later
"""What only RabbitMQ's management API tells: how the queue is bound."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pika.credentials import PlainCredentials

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.common.http_client.client import HttpClient, HttpFault
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.text import one_line, shell_word

ANSWER_SECONDS = 10.0
SHOWN = 10
"""How many bindings are named."""


def look_at_bindings(
    url: str, where: BrokerAccess, queue: str, bindings: Sequence[tuple[str, str]], ca_bundle: Path | None = None
) -> str:
    """Whether ``queue`` is bound by nothing but ``bindings``, pairs of exchange and routing key; how many there are.

    The login is that of ``where``. Raises Inconclusive, which names the others, or why they are not known, and
    BrokerUnavailable where the login cannot be read now.
    """
    others = [(exchange, key, more) for exchange, key, more in _bound(url, where, queue, ca_bundle)]
    others = [each for each in others if each[2] or each[:2] not in bindings]
    if not others:
        return f"{queue} has no bindings but those of the configuration"
    named = "; ".join(_named(*each) for each in others[:SHOWN])
    more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    raise Inconclusive(f"{queue} has bindings that the configuration does not have: {named}{more}")


def _named(exchange: str, key: str, more: bool) -> str:
    if more:
        return f"{one_line(exchange)} {key!r} with arguments (rabbitmqctl or the management plugin take it away)"
    command = f"omps-worker unbind {shell_word(exchange)} {shell_word(key)}"
    return f"{one_line(exchange)} {key!r} (`{command}` takes it away)"


def _bound(url: str, where: BrokerAccess, queue: str, ca_bundle: Path | None) -> Iterator[tuple[str, str, bool]]:
    """The exchange and the key of each binding, and whether it has arguments."""
    node = where.nodes()[0]
    login = node.credentials
    if not isinstance(login, PlainCredentials):
        raise Inconclusive("the management API needs a password, and amqp_url logs in by certificate")
    place = f"{url.rstrip('/')}/api/queues/{quote(node.virtual_host, safe='')}/{quote(queue, safe='')}/bindings"
    token = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    client = HttpClient(timeout=ANSWER_SECONDS, ca_bundle=ca_bundle)
    try:
        answer = client.request("GET", place, headers={"Authorization": f"Basic {token}"})
    except HttpFault as fault:
        raise Inconclusive(f"the management API cannot be reached: {fault}") from None
    if answer.status in (401, 403):
        raise Inconclusive(
            f"the management API does not let the user {one_line(login.username)!r} in: it needs the tag management "
            f"(rabbitmqctl set_user_tags {one_line(login.username)} management)"
        )
    found = answer.json()
    if answer.status != 200 or not isinstance(found, list):
        raise Inconclusive(f"{url} answers {answer.status}, and no list of bindings: is it RabbitMQ's management API?")
    for each in found:
        exchange, key, arguments = _fields(each)
        if exchange:
            yield exchange, key, bool(arguments)


def _fields(binding: Any) -> tuple[str, str, Any]:
    if isinstance(binding, dict):
        exchange, key = binding.get("source"), binding.get("routing_key")
        if isinstance(exchange, str) and isinstance(key, str):
            return exchange, key, binding.get("arguments")
    raise Inconclusive("the management API lists something that is no binding")
