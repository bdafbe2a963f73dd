# SPDX-License-Identifier: GPL-3.0-or-later
"""The two queues that keep pushes to a package apart.

============================  =================================================================
``omps-worker.lock.<hash>``     exclusive: it belongs to one connection and dies with it. To declare
                              it is to take the lock; everybody else gets 405 RESOURCE_LOCKED
``omps-worker.pushing.<hash>``  the mark of a push under way: durable, so that it outlives its writer
                              and a restart of the broker, with x-expires
============================  =================================================================

Facts about RabbitMQ (3.10, measured) on which this rests: threads that share a connection all
"get" an exclusive queue. A passive declare counts as a use of a queue, so that who asks for it again and
again keeps it from expiring; and when the queue is gone, the broker writes an error into its log. A
mandatory message does neither: it is returned when there is no such queue, and else goes with it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from omps_worker.broker.connection.failures import declined
from omps_worker.common.errors import BrokerError

LOCK, MARK = "omps-worker.lock.", "omps-worker.pushing."
"""How the names of the two queues begin."""

_NOT_FOUND, _RESOURCE_LOCKED = 404, 405
_ADVICE = (
    f"To keep replicas from pushing at once, the user needs to declare and delete queues called {LOCK}* and {MARK}*, "
    'and to write to the default exchange. For a single replica, lock = "process" in [consumer_config] needs none.'
)


@dataclass(frozen=True)
class LockedPackage:
    """A package that can be locked; ``label`` is for people."""

    hash: str
    label: str = field(compare=False)

    @classmethod
    def of(cls, registry: str, organization: str, repository: str) -> LockedPackage:
        """The package; ``registry`` is the configured base URL."""
        name = f"{registry}/{organization}/{repository}"
        return cls(hashlib.sha256(name.encode()).hexdigest()[:32], f"{organization}/{repository}")

    @property
    def lock(self) -> str:
        """The name of its lock."""
        return LOCK + self.hash

    @property
    def mark(self) -> str:
        """The name of the mark of a push to it."""
        return MARK + self.hash


class LockQueues:
    """The queues as seen from one connection, and to be used in its thread alone.

    Each call waits for the broker's answer. Raises BrokerRefused where the broker does not let us,
    BrokerUnavailable where it cannot for now, and AMQPError when the connection is lost, and with it every
    lock taken on it. ``marked`` and ``ask`` publish: in an alarm the broker then reads nothing more from
    the connection until it is over.
    """

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        self._last_channel: BlockingChannel | None = None
        self._last_asking_channel: BlockingChannel | None = None

    def take(self, package: LockedPackage) -> bool:
        """Take the lock; False if another connection has it."""
        try:
            self._channel.queue_declare(package.lock, exclusive=True)
        except ChannelClosedByBroker as error:
            # 404: in a cluster, its holder's node went away and the queue is not yet forgotten.
            if error.reply_code in (_RESOURCE_LOCKED, _NOT_FOUND):
                return False
            raise _refused(error, package.lock) from None
        return True

    def mark(self, package: LockedPackage, seconds: float) -> None:
        """Put up the mark, or renew it, for so many seconds from now."""
        arguments = {"x-expires": round(seconds * 1000)}
        try:
            self._channel.queue_declare(package.mark, durable=True, arguments=arguments)
        except ChannelClosedByBroker as error:
            raise _refused(error, package.mark) from None

    def marked(self, package: LockedPackage) -> bool:
        """Whether the mark stands. Asking does not prolong it."""
        try:
            self._asking_channel.basic_publish("", package.mark, b"", mandatory=True)
        except UnroutableError:
            return False
        except NackError:
            # In a cluster, while the queue's node is down: then nobody knows.
            return True
        except ChannelClosedByBroker as error:
            raise _refused(error, package.mark) from None
        return True

    def release(self, package: LockedPackage, *, unmark: bool) -> None:
        """Give up the lock, and with ``unmark`` take down the mark before."""
        if unmark:
            self._channel.queue_delete(package.mark)
        self._channel.queue_delete(package.lock)

    def ask(self) -> None:
        """Ask whether a mark stands that nobody puts up: whether the broker takes messages, and ours."""
        self.marked(LockedPackage(secrets.token_hex(16), "a probe"))

    def probe(self) -> None:
        """Do everything on names that nobody uses, except to ``ask``, which ends the connection in an alarm.

        Raises BrokerRefused if a lock cannot work here.
        """
        package = LockedPackage(secrets.token_hex(16), "a probe")
        try:
            self.take(package)
            self.mark(package, 1.0)
            self.release(package, unmark=True)
        except ChannelClosedByBroker as error:
            raise _refused(error, package.lock) from None

    @property
    def _asking_channel(self) -> BlockingChannel:
        channel = self._last_asking_channel
        if channel is None or not channel.is_open:
            channel = self._last_asking_channel = self._connection.channel()
            channel.confirm_delivery()
        return channel

    @property
    def _channel(self) -> BlockingChannel:
        # A refusal closes the channel, but not the connection, which is what locks belong to.
        channel = self._last_channel
        if channel is None or not channel.is_open:
            channel = self._last_channel = self._connection.channel()
        return channel


def _refused(error: ChannelClosedByBroker, queue: str) -> BrokerError:
    return declined(error, f"the queue {queue}", _ADVICE)
