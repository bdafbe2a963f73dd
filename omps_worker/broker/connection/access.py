# SPDX-License-Identifier: GPL-3.0-or-later
"""``BrokerAccess``: how to connect to the broker, with settings that are read again for each attempt.

Passwords and certificates are renewed while a worker runs, so no part of the worker stores the parameters of a
connection. A file that cannot be read at that moment, for example because it is being replaced, raises
BrokerUnavailable, like a broker that is away; the next attempt reads it again.

The nodes of a cluster are tried in turn, starting with the node that answered last.
"""

from __future__ import annotations

import copy
import logging
import platform
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pika
from pika.adapters.blocking_connection import BlockingConnection
from pika.credentials import ExternalCredentials
from pika.exceptions import AMQPError

from omps_worker import __version__
from omps_worker.broker.connection.failures import as_broker_error
from omps_worker.broker.connection.parameters import CONNECT_SECONDS, HEARTBEAT_SECONDS, place, prepared
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable, Fault, SettingsError
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from omps_worker.configuration.settings.broker import TlsSettings
    from omps_worker.configuration.settings.models import Settings

log = logging.getLogger(__name__)

Make = Callable[[pika.URLParameters], BlockingConnection]
"""Opens a connection to one node."""

SHORTEST_TRY = 3.0
"""Minimum time in seconds for an attempt to connect to one of many nodes."""


class BrokerAccess:
    """The parameters with which one part of the worker connects to the broker. Threads may share it.

    ``read`` returns pika's parameters for each node, as they are now. It raises BrokerUnavailable if something cannot
    be read now.
    """

    def __init__(self, read: Callable[[], Sequence[pika.URLParameters]]) -> None:
        self._read = read
        self._heartbeat: int | None = None
        self._last_node: pika.URLParameters | None = None

    @classmethod
    def of(cls, settings: Settings, purpose: str) -> BrokerAccess:
        """Return the access that the configuration describes.

        ``purpose`` distinguishes the connections in the broker's lists. Raises SettingsError if pika cannot use the
        URL.
        """
        _parsed(settings.broker_url)
        return cls(lambda: _as_configured(settings, purpose))

    @classmethod
    def at(cls, url: str, name: str) -> BrokerAccess:
        """Return access to a fixed URL, for connections that are called ``name``."""
        return cls(lambda: [prepared(pika.URLParameters(url), {"connection_name": name})])

    def with_heartbeat(self, seconds: int) -> BrokerAccess:
        """Return a copy whose heartbeat interval is at most ``seconds``."""
        other = copy.copy(self)
        other._heartbeat = seconds
        return other

    def nodes(self) -> list[pika.URLParameters]:
        """Return pika's parameters for one attempt at each node, the node that answered last first.

        Raises BrokerUnavailable if something cannot be read now; trying again helps.
        """
        found = list(self._read())
        for node in found:
            if self._heartbeat is not None:
                wanted = node.heartbeat if isinstance(node.heartbeat, int) else None
                node.heartbeat = min(wanted or self._heartbeat, self._heartbeat)
            # The attempts at all nodes together take no longer than an attempt at a single node.
            share = max(CONNECT_SECONDS / len(found), SHORTEST_TRY)
            node.stack_timeout = min(node.stack_timeout or share, share)
            node.socket_timeout = min(node.socket_timeout or share, share)
        names = [(node.host, node.port) for node in found]
        last = self._last_node
        if last is not None and (last.host, last.port) in names:
            first = names.index((last.host, last.port))
            found = found[first:] + found[:first]
        return found

    def connect(self, make: Make = BlockingConnection) -> BlockingConnection:
        """Return a connection to the first node that accepts one, opened by ``make``.

        Raises BrokerRefused if every node refuses, and BrokerUnavailable otherwise, because a node that is away may
        accept a connection later. BaseExceptions, such as those raised by a signal handler, pass through.
        """
        refusals: list[BrokerError] = []
        for node in self.nodes():
            try:
                connection = make(node)
            except Exception as error:
                refusals.append(as_broker_error(error, node))
            else:
                for refusal in refusals:
                    log.warning("using another node: %s", refusal.message)
                self.remember(node)
                return connection
        raise combined_error(refusals)

    def remember(self, node: pika.URLParameters) -> None:
        """Remember that this node answered, or at least was the last one to be tried."""
        self._last_node = node

    @property
    def place(self) -> str:
        """The address of the node that was used last, for messages: host, port and virtual host, without a password."""
        try:
            return place(self._last_node or self.nodes()[0])
        except BrokerError:
            return "at amqp_url"

    def as_broker_error(self, error: BaseException) -> BrokerError:
        """Return the BrokerError for the loss of a connection to the node that was used last."""
        if isinstance(error, BrokerError):
            return error
        try:
            return as_broker_error(error, self._last_node or self.nodes()[0])
        except BrokerError as unreadable:
            return unreadable.as_value()


@contextmanager
def connected(access: BrokerAccess, make: Make = BlockingConnection) -> Iterator[BlockingConnection]:
    """Provide a connection, opened by ``make``, for the duration of the block.

    Raises BrokerUnavailable or BrokerRefused.
    """
    connection = access.connect(make)
    try:
        yield connection
    except AMQPError as error:
        raise access.as_broker_error(error) from None
    finally:
        with suppress(AMQPError):
            connection.close()


def combined_error(refusals: Sequence[BrokerError]) -> BrokerError:
    """Return one error for the refusals of all nodes: BrokerRefused only if all of them are."""
    if len(refusals) == 1:
        return refusals[0]
    kind = BrokerRefused if all(isinstance(each, BrokerRefused) for each in refusals) else BrokerUnavailable
    return kind(" ".join(each.message for each in refusals))


def _parsed(url: str) -> pika.URLParameters:
    try:
        return pika.URLParameters(url)
    except (TypeError, ValueError):
        # The exception's text would show parts of the URL, which contains the password.
        fault = Fault(
            "configuration", "amqp_url", "must be like amqps://user:password@host:5671/virtual-host?heartbeat=60"
        )
        raise SettingsError([fault]) from None


def _as_configured(settings: Settings, purpose: str) -> list[pika.URLParameters]:
    client_properties = {
        **settings.client_properties,
        "product": "omps-worker",
        "version": __version__,
        "platform": f"Python {platform.python_version()}",
        "connection_name": f"omps-worker {settings.queue.name} {purpose}",
    }
    url = settings.broker_url
    first = _parsed(url)
    context = None if first.ssl_options is None else _context(settings.tls)
    found: dict[tuple[str, int], pika.URLParameters] = {}
    for host, port in ((first.host, first.port), *settings.further_hosts(first.port)):
        node = found[host, port] = prepared(_parsed(url), dict(client_properties))
        node.host, node.port = host, port
        if node.heartbeat is None:
            node.heartbeat = HEARTBEAT_SECONDS
        if context is not None:
            # Each node presents a certificate for its own host name.
            node.ssl_options = pika.SSLOptions(context, host)
            if settings.tls.certfile is not None:
                node.credentials = ExternalCredentials()
    return list(found.values())


def _context(tls: TlsSettings) -> ssl.SSLContext:
    trusted = tls.ca_cert
    try:
        if trusted is None:
            context = ssl.create_default_context()
        elif trusted.is_dir():
            context = ssl.create_default_context(capath=trusted)
        else:
            context = ssl.create_default_context(cafile=trusted)
    except OSError as error:
        raise _unreadable("ca_cert", error) from None
    if tls.certfile is not None and tls.keyfile is not None:
        try:
            # Without a password, OpenSSL would prompt for one on the terminal.
            context.load_cert_chain(tls.certfile, tls.keyfile, password=lambda: "-")
        except OSError as error:
            raise _unreadable("certfile and keyfile", error) from None
    return context


def _unreadable(keys: str, error: OSError) -> BrokerUnavailable:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return BrokerUnavailable(
        f"{keys} in [tls] cannot be used now ({one_line(str(reason or type(error).__name__))}). "
        "The files may be in the middle of a renewal; they are read again for the next attempt."
    )
