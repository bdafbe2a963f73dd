# SPDX-License-Identifier: GPL-3.0-or-later
"""The two queues that separate pushes to a package.

============================  =================================================================
``omps-worker.lock.<hash>``     exclusive: it belongs to one connection and disappears with it. Declaring it
                              takes the lock; every other connection gets 405 RESOURCE_LOCKED
``omps-worker.pushing.<hash>``  the mark of a push under way: durable, so that it survives its writer
                              and a restart of the broker, with x-expires
============================  =================================================================

This relies on the following facts about RabbitMQ (measured on 3.10). Threads that share a connection all "get" an
exclusive queue. A passive declare counts as a use of a queue, so repeated checks would keep a mark from expiring; and
if the queue is gone, the broker writes an error to its log. A mandatory message does neither: it is returned if there
is no such queue, and otherwise expires with the queue.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from omps_worker.broker.connection.failures import refusal_error
from omps_worker.common.errors import BrokerError
from omps_worker.common.locks.package_lock import Lockable

LOCK, MARK = "omps-worker.lock.", "omps-worker.pushing."
"""The prefixes of the names of the two queues."""

_NOT_FOUND, _RESOURCE_LOCKED = 404, 405
_ADVICE = (
    "To keep replicas from pushing at the same time, the user needs permission to declare and delete queues named "
    f'{LOCK}* and {MARK}*, and to write to the default exchange. For a single replica, lock = "process" in '
    "[consumer_config] needs no such queues."
)


@dataclass(frozen=True)
class LockedPackage:
    """A package or a catalog that can be locked. ``label`` is its name in messages."""

    hash: str
    label: str = field(compare=False)

    @classmethod
    def of(cls, registry: str, organization: str, repository: str) -> LockedPackage:
        """Return the package. ``registry`` is the configured base URL."""
        return cls.named(Lockable.package(registry, organization, repository))

    @classmethod
    def named(cls, lockable: Lockable) -> LockedPackage:
        """Return what ``lockable`` is to the broker."""
        return cls(lockable.key, lockable.label)

    @property
    def lock(self) -> str:
        """The name of the package's lock queue."""
        return LOCK + self.hash

    @property
    def mark(self) -> str:
        """The name of the queue that marks a push to the package."""
        return MARK + self.hash


class LockQueues:
    """The lock queues as seen from one connection. Use it in the connection's thread only.

    Each call waits for the broker's answer. Raises BrokerRefused if the broker refuses, BrokerUnavailable if it cannot
    answer for now, and AMQPError if the connection is lost, and with it every lock taken on it. ``marked`` and
    ``check_publishing`` publish: during an alarm, the broker then reads nothing more from the connection until the
    alarm ends.
    """

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        self._last_channel: BlockingChannel | None = None
        self._last_publishing_channel: BlockingChannel | None = None

    def take(self, package: LockedPackage) -> bool:
        """Take the lock; return False if another connection has it."""
        try:
            self._channel.queue_declare(package.lock, exclusive=True)
        except ChannelClosedByBroker as error:
            # 404: in a cluster, the holder's node went away, and the cluster has not removed the queue yet.
            if error.reply_code in (_RESOURCE_LOCKED, _NOT_FOUND):
                return False
            raise _refused(error, package.lock) from None
        return True

    def mark(self, package: LockedPackage, seconds: float) -> None:
        """Set the mark, or renew it, so that it expires this number of seconds from now."""
        arguments = {"x-expires": round(seconds * 1000)}
        try:
            self._channel.queue_declare(package.mark, durable=True, arguments=arguments)
        except ChannelClosedByBroker as error:
            raise _refused(error, package.mark) from None

    def marked(self, package: LockedPackage) -> bool:
        """Return whether the mark is set. This does not extend it."""
        try:
            self._publishing_channel.basic_publish("", package.mark, b"", mandatory=True)
        except UnroutableError:
            return False
        except NackError:
            # In a cluster, while the queue's node is down: the mark may exist.
            return True
        except ChannelClosedByBroker as error:
            raise _refused(error, package.mark) from None
        return True

    def release(self, package: LockedPackage, *, unmark: bool) -> None:
        """Release the lock; with ``unmark``, remove the mark first."""
        if unmark:
            self._channel.queue_delete(package.mark)
        self._channel.queue_delete(package.lock)

    def check_publishing(self) -> None:
        """Check that the broker accepts messages and that this user may publish.

        It looks for a mark that is never set.
        """
        self.marked(LockedPackage(secrets.token_hex(16), "a probe"))

    def probe(self) -> None:
        """Try everything but ``check_publishing`` on names that nothing else uses.

        ``check_publishing`` is left out because it would make the connection unusable during an alarm. Raises
        BrokerRefused if a lock cannot work here.
        """
        package = LockedPackage(secrets.token_hex(16), "a probe")
        try:
            self.take(package)
            self.mark(package, 1.0)
            self.release(package, unmark=True)
        except ChannelClosedByBroker as error:
            raise _refused(error, package.lock) from None

    @property
    def _publishing_channel(self) -> BlockingChannel:
        channel = self._last_publishing_channel
        if channel is None or not channel.is_open:
            channel = self._last_publishing_channel = self._connection.channel()
            channel.confirm_delivery()
        return channel

    @property
    def _channel(self) -> BlockingChannel:
        # A refusal closes the channel, but not the connection, to which the locks belong.
        channel = self._last_channel
        if channel is None or not channel.is_open:
            channel = self._last_channel = self._connection.channel()
        return channel


def _refused(error: ChannelClosedByBroker, queue: str) -> BrokerError:
    return refusal_error(error, f"the queue {queue}", _ADVICE)
