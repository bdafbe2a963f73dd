# SPDX-License-Identifier: GPL-3.0-or-later
"""Bindings of the queue that the configuration does not have (any more): what comes by them, and how they go.

A binding that is taken out of the configuration stays on the broker, for AMQP cannot list what is bound. What a
worker can see is what comes: a message whose topic no binding of the configuration matches. Which they are, the
broker's management API tells (``management.py``). Taking one away needs its exact routing key.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from pika.exceptions import ChannelClosedByBroker

from omps_worker.broker.connection.access import BrokerAccess, connected
from omps_worker.broker.connection.failures import declined
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

TOLD = 20
"""Of how many routes the log is told."""


def unbind(where: BrokerAccess, queue: str, exchange: str, key: str) -> None:
    """Take a binding without arguments away; one that is not there is taken for gone.

    Raises BrokerUnavailable, and BrokerRefused where the queue is missing or the user may not.
    """
    with connected(where) as connection:
        try:
            connection.channel().queue_unbind(queue, exchange, key)
        except ChannelClosedByBroker as error:
            raise declined(
                error,
                f"to take the binding of {queue} to the exchange {exchange} with {key!r} away",
                "If the queue or the exchange is missing, there is no such binding.",
                "The user needs to write to the queue and to read from the exchange, where topic permissions are set "
                "also this topic.",
            ) from None


def matches(pattern: str, key: str) -> bool:
    """Whether a topic exchange sends ``key`` along a binding with ``pattern``: ``*`` is one word, ``#`` any number."""
    words = key.split(".")
    # The beginnings of the key, by their number of words, that the pattern so far matches.
    ends = {0}
    for part in pattern.split("."):
        if part == "#":
            ends = set(range(min(ends), len(words) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if end < len(words) and part in ("*", words[end])}
    return len(words) in ends


class UnconfiguredBindings:
    """Tells the log, once for each, by which routes messages come that no binding of the configuration has.

    ``bindings`` are pairs of exchange and routing key; where there are none, others bind the queue. Belongs to one
    thread.
    """

    def __init__(self, queue: str, bindings: Sequence[tuple[str, str]]) -> None:
        self._queue = queue
        self._told: set[tuple[str, str]] = set()
        # What comes by a fanout or headers exchange has any key; such bindings have none.
        open_exchanges = {exchange for exchange, key in bindings if not key}
        patterns = {key for _, key in bindings}

        @lru_cache(1000)
        def known(exchange: str, key: str) -> bool:
            # Not only of this exchange: what it got from another one still bears that one's name.
            return exchange in open_exchanges or any(matches(pattern, key) for pattern in patterns)

        self._known = known if bindings else lambda _exchange, _key: True

    def saw(self, exchange: str, key: str) -> None:
        """A message came by this route. What came through the default exchange was sent to the queue itself."""
        if not exchange or self._known(exchange, key):
            return
        route = exchange, key
        if route not in self._told and len(self._told) < TOLD:
            self._told.add(route)
            log.warning(
                "a message came through the exchange %s with the routing key %s, which no [[bindings]] in the "
                "configuration matches: is the queue %s still bound as it was before? "
                "`omps-worker unbind` takes a binding away",
                one_line(exchange),
                one_line(key),
                self._queue,
            )
