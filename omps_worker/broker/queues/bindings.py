# SPDX-License-Identifier: GPL-3.0-or-later
"""Bindings of the queue that are not in the configuration: detect the messages that they bring, and remove them.

A binding that is deleted from the configuration stays on the broker, because AMQP cannot list bindings. A worker can
only see their effect: a message whose topic matches no binding of the configuration. RabbitMQ's management API lists
the bindings (``management.py``). Removing one requires its exact routing key.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.failures import refusal_error
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

MOST_WARNINGS = 20
"""For how many different routes a warning is logged."""


def unbind(access: BrokerAccess, queue: str, exchange: str, key: str) -> None:
    """Remove a binding without arguments. It is no error if there is no such binding.

    Raises BrokerUnavailable, and BrokerRefused if the queue is missing or the user lacks a permission.
    """
    with connected(access) as connection:
        try:
            connection.channel().queue_unbind(queue, exchange, key)
        except ChannelClosedByBroker as error:
            raise refusal_error(
                error,
                f"to remove the binding of the queue {queue} to the exchange {exchange} with {key!r}",
                "If the queue or the exchange is missing, there is no such binding.",
                "The user needs permission to write to the queue and to read from the exchange. If topic permissions "
                "are set, they must allow this topic.",
            ) from None


def matches(pattern: str, key: str) -> bool:
    """Return whether a topic exchange routes ``key`` along a binding with ``pattern``.

    ``*`` matches one word, ``#`` any number of words.
    """
    words = key.split(".")
    # How many words at the beginning of the key the pattern so far may match.
    ends = {0}
    for part in pattern.split("."):
        if part == "#":
            ends = set(range(min(ends), len(words) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if end < len(words) and part in ("*", words[end])}
    return len(words) in ends


class UnconfiguredBindings:
    """Logs a warning, once per route, for messages whose route matches no binding of the configuration.

    ``bindings`` are pairs of exchange and routing key. If there are none, the site binds the queue itself, and nothing
    is logged. Use it in one thread.
    """

    def __init__(self, queue: str, bindings: Sequence[tuple[str, str]]) -> None:
        self._queue = queue
        self._warned: set[tuple[str, str]] = set()
        # Bindings to fanout and headers exchanges have no key, and their messages may have any.
        open_exchanges = {exchange for exchange, key in bindings if not key}
        patterns = {key for _, key in bindings}

        @lru_cache(1000)
        def known(exchange: str, key: str) -> bool:
            # Patterns of all exchanges: a message from an exchange-to-exchange binding has the first exchange's name.
            return exchange in open_exchanges or any(matches(pattern, key) for pattern in patterns)

        self._known = known if bindings else lambda _exchange, _key: True

    def record(self, exchange: str, key: str) -> None:
        """Record the route of a message, and log a warning if it is new and unknown.

        An empty ``exchange`` is the default exchange: the message was sent to the queue directly.
        """
        if not exchange or self._known(exchange, key):
            return
        route = exchange, key
        if route not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(route)
            log.warning(
                "a message came through the exchange %s with the routing key %s, which no [[bindings]] in the "
                "configuration matches: does the queue %s still have a binding that was removed from the "
                "configuration? `omps-worker unbind` removes it from the broker",
                one_line(exchange),
                one_line(key),
                self._queue,
            )
