# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the parts for commands that need only the broker, such as those for parked messages.

``bootstrap`` adds the parts of a whole site.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker.common import logs
from omps_worker.configuration import loading
from omps_worker.configuration.settings.models import Settings
from omps_worker.messages.reporting import result_topic

if TYPE_CHECKING:
    from omps_worker.broker.dead_letters.failed_queue import FailedQueue
    from omps_worker.broker.dead_letters.replay import Replay
    from omps_worker.broker.queues.topology import Topology
    from omps_worker.broker.watch import Watch


class BrokerSite:
    """A configured site for commands that need only the broker, such as those for parked messages."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def from_file(cls, path: Path | None) -> BrokerSite:
        """Return the site that a configuration file describes, and set up logging. Raises SettingsError."""
        settings = loading.load_broker(path)
        logs.set_up(settings.worker.log_format, settings.worker.log_level)
        return cls(settings)

    @cached_property
    def topology(self) -> Topology:
        """The names and the bindings of the queues."""
        from omps_worker.broker.queues.topology import Topology

        return Topology.of(self.settings)

    def failed_queue(
        self,
        notice: Callable[[str], object],
        uninterrupted: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> FailedQueue:
        """Return the failed queue, with the parked messages.

        ``notice`` gets notes for the user. Each message is handled inside ``uninterrupted``.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters.failed_queue import FailedQueue

        take_turns = self.settings.worker.lock == "broker"
        access = BrokerAccess.of(self.settings, "failed")
        return FailedQueue(access, self.topology, take_turns=take_turns, notice=notice, whole=uninterrupted)

    def replay(self) -> Replay:
        """Return a context manager that sends messages to the worker's queue again."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters.replay import Replay

        return Replay(BrokerAccess.of(self.settings, "replay"), self.topology.queue)

    def unbind(self, exchange: str, routing_key: str) -> None:
        """Remove a binding of the worker's queue. Raises BrokerError."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.queues.bindings import unbind

        unbind(BrokerAccess.of(self.settings, "unbind"), self.topology.queue, exchange, routing_key)

    def is_bound(self, exchange: str, routing_key: str) -> bool | None:
        """Return whether the worker's queue has a binding; None if RabbitMQ's management API does not say.

        Raises BrokerUnavailable if the login cannot be read now.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.queues.management import is_bound
        from omps_worker.common.inconclusive import Inconclusive

        url = self.settings.worker.broker.management_url
        if url is None:
            return None
        ca_bundle = self.settings.tls.ca_cert or self.settings.worker.ca_bundle
        access, queue = BrokerAccess.of(self.settings, "unbind"), self.topology.queue
        try:
            return is_bound(url, access, queue, exchange, routing_key, ca_bundle)
        except Inconclusive:
            return None

    def watch(self, notice: Callable[[str], object]) -> Watch:
        """Return a subscription to the results on the bus. ``notice`` gets notes for the user."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.watch import Watch

        settings = self.settings
        return Watch(
            BrokerAccess.of(settings, "watch"),
            settings.publish_exchange,
            result_topic(settings.topic_prefix, "*"),
            notice=notice,
        )
