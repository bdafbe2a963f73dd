# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue's bindings, as RabbitMQ's management API lists them. AMQP itself cannot list bindings."""

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
"""How many bindings an error message names."""


def check_bindings(
    url: str, access: BrokerAccess, queue: str, bindings: Sequence[tuple[str, str]], ca_bundle: Path | None = None
) -> str:
    """Check that ``queue`` has no bindings except ``bindings``, pairs of exchange and routing key; return a sentence.

    Logs in with the user and password of ``access``. Raises Inconclusive, which names the other bindings, or says why
    they are not known, and BrokerUnavailable if the login cannot be read now.
    """
    found = _listed_bindings(url, access, queue, ca_bundle)
    others = [each for each in found if each[2] or each[:2] not in bindings]
    if not others:
        return f"{queue} has no bindings except those of the configuration"
    named = "; ".join(_description(*each) for each in others[:SHOWN])
    more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    raise Inconclusive(f"{queue} has bindings that are not in the configuration: {named}{more}")


def is_bound(
    url: str, access: BrokerAccess, queue: str, exchange: str, key: str, ca_bundle: Path | None = None
) -> bool:
    """Return whether ``queue`` has a binding without arguments to ``exchange`` with ``key``.

    Raises Inconclusive if that is not known, and BrokerUnavailable like ``check_bindings``.
    """
    return (exchange, key, False) in list(_listed_bindings(url, access, queue, ca_bundle))


def _description(exchange: str, key: str, has_arguments: bool) -> str:
    if has_arguments:
        return f"{one_line(exchange)} {key!r} with arguments (remove it with rabbitmqctl or the management plugin)"
    command = f"omps-worker unbind {shell_word(exchange)} {shell_word(key)}"
    return f"{one_line(exchange)} {key!r} (`{command}` removes it)"


def _listed_bindings(
    url: str, access: BrokerAccess, queue: str, ca_bundle: Path | None
) -> Iterator[tuple[str, str, bool]]:
    """Yield the exchange and the routing key of each binding, and whether it has arguments."""
    node = access.nodes()[0]
    login = node.credentials
    if not isinstance(login, PlainCredentials):
        raise Inconclusive("the management API needs a password, and amqp_url logs in by certificate")
    address = f"{url.rstrip('/')}/api/queues/{quote(node.virtual_host, safe='')}/{quote(queue, safe='')}/bindings"
    token = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    client = HttpClient(timeout=ANSWER_SECONDS, ca_bundle=ca_bundle)
    try:
        answer = client.request("GET", address, headers={"Authorization": f"Basic {token}"})
    except HttpFault as fault:
        raise Inconclusive(f"the management API cannot be reached: {fault}") from None
    if answer.status in (401, 403):
        raise Inconclusive(
            f"the management API refuses the user {one_line(login.username)!r}: the user needs the tag management "
            f"(rabbitmqctl set_user_tags {one_line(login.username)} management)"
        )
    found = answer.json()
    if answer.status != 200 or not isinstance(found, list):
        raise Inconclusive(
            f"{url} answers {answer.status} without a list of bindings: is it RabbitMQ's management API?"
        )
    for each in found:
        exchange, key, arguments = _fields(each)
        if exchange:
            yield exchange, key, bool(arguments)


def _fields(binding: Any) -> tuple[str, str, Any]:
    if isinstance(binding, dict):
        exchange, key = binding.get("source"), binding.get("routing_key")
        if isinstance(exchange, str) and isinstance(key, str):
            return exchange, key, binding.get("arguments")
    raise Inconclusive("the management API lists something that is not a binding")
