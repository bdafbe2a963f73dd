# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into the broker, as it is now: everything that may have been renewed is read again for each try.

Passwords and certificates expire and are renewed while a worker runs. What a try to connect
needs is therefore not kept: each asks here. What cannot be read at that moment, because it is just being
replaced, is BrokerUnavailable like a broker that is away, and the next try finds it whole.

The nodes of a cluster are tried in turn, beginning with the one that answered last.
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
from omps_worker.broker.connection.failures import named
from omps_worker.broker.connection.parameters import CONNECT_SECONDS, HEARTBEAT_SECONDS, place, prepared
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable, Fault, SettingsError
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from omps_worker.configuration.settings import Settings
    from omps_worker.configuration.settings.broker import TlsSettings

log = logging.getLogger(__name__)

Make = Callable[[pika.URLParameters], BlockingConnection]
"""Connects to one node."""

SHORTEST_TRY = 3.0
"""How long a try to reach one of many nodes may take at least, in seconds."""


class BrokerAccess:
    """How one part of the worker gets into the broker. May be shared by threads.

    ``read`` gives what pika needs for each node, as it is now, and raises BrokerUnavailable for what
    cannot be read now.
    """

    def __init__(self, read: Callable[[], Sequence[pika.URLParameters]]) -> None:
        self._read = read
        self._heartbeat: int | None = None
        self._last: pika.URLParameters | None = None

    @classmethod
    def of(cls, settings: Settings, purpose: str) -> BrokerAccess:
        """As the configuration says; ``purpose`` tells the connections apart in the broker's lists.

        Raises SettingsError for a URL that pika cannot use.
        """
        _parsed(settings.broker_url)
        return cls(lambda: _as_configured(settings, purpose))

    @classmethod
    def at(cls, url: str, name: str) -> BrokerAccess:
        """That of a URL which never changes, as clients called ``name``."""
        return cls(lambda: [prepared(pika.URLParameters(url), {"connection_name": name})])

    def with_heartbeat(self, seconds: int) -> BrokerAccess:
        """The same with a heartbeat that is not slower."""
        other = copy.copy(self)
        other._heartbeat = seconds
        return other

    def nodes(self) -> list[pika.URLParameters]:
        """What pika needs for one try at each node, the one that answered last first. Raises BrokerUnavailable."""
        found = list(self._read())
        for node in found:
            if self._heartbeat is not None:
                wanted = node.heartbeat if isinstance(node.heartbeat, int) else None
                node.heartbeat = min(wanted or self._heartbeat, self._heartbeat)
            # All tries together take no longer than one does elsewhere.
            share = max(CONNECT_SECONDS / len(found), SHORTEST_TRY)
            node.stack_timeout = min(node.stack_timeout or share, share)
            node.socket_timeout = min(node.socket_timeout or share, share)
        names = [(node.host, node.port) for node in found]
        last = self._last
        if last is not None and (last.host, last.port) in names:
            first = names.index((last.host, last.port))
            found = found[first:] + found[:first]
        return found

    def connect(self, make: Make = BlockingConnection) -> BlockingConnection:
        """A connection to the first node that takes us, as ``make`` makes it.

        Raises BrokerRefused where every node refuses, and BrokerUnavailable otherwise, as one that is away
        might take us later. What is raised by nobody of ours, such as a signal, passes through.
        """
        refusals: list[BrokerError] = []
        for node in self.nodes():
            try:
                connection = make(node)
            except Exception as error:
                refusals.append(named(error, node))
            else:
                for refusal in refusals:
                    log.warning("another node is used: %s", refusal.message)
                self.used(node)
                return connection
        raise together(refusals)

    def used(self, node: pika.URLParameters) -> None:
        """That node answered, or was at least the last to be tried."""
        self._last = node

    @property
    def place(self) -> str:
        """Where the broker is, for people: the node that was used last, without a password."""
        try:
            return place(self._last or self.nodes()[0])
        except BrokerError:
            return "at amqp_url"

    def named(self, error: BaseException) -> BrokerError:
        """The loss of a connection to the node that was used last, as an error of ours."""
        if isinstance(error, BrokerError):
            return error
        try:
            return named(error, self._last or self.nodes()[0])
        except BrokerError as unreadable:
            return unreadable.as_value()


@contextmanager
def connected(where: BrokerAccess, make: Make = BlockingConnection) -> Iterator[BlockingConnection]:
    """A connection for a while, as ``make`` makes it. Raises BrokerUnavailable or BrokerRefused."""
    connection = where.connect(make)
    try:
        yield connection
    except AMQPError as error:
        raise where.named(error) from None
    finally:
        with suppress(AMQPError):
            connection.close()


def together(refusals: Sequence[BrokerError]) -> BrokerError:
    """What it means that no node took us: refused only where all refuse."""
    if len(refusals) == 1:
        return refusals[0]
    kind = BrokerRefused if all(isinstance(each, BrokerRefused) for each in refusals) else BrokerUnavailable
    return kind(" ".join(each.message for each in refusals))


def _parsed(url: str) -> pika.URLParameters:
    try:
        return pika.URLParameters(url)
    except (TypeError, ValueError):
        # The exception's text would show parts of the URL, which holds the password.
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
            # Each node shows a certificate of its own name.
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
            # Without a password it would ask a person for one.
            context.load_cert_chain(tls.certfile, tls.keyfile, password=lambda: "-")
        except OSError as error:
            raise _unreadable("certfile and keyfile", error) from None
    return context


def _unreadable(keys: str, error: OSError) -> BrokerUnavailable:
    what = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return BrokerUnavailable(
        f"What {keys} in [tls] name cannot be used now ({one_line(str(what or type(error).__name__))}): "
        "is it just being renewed? It is read again at the next try."
    )
