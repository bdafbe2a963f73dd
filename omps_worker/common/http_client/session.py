# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP sessions whose calls end on time, whatever the peer does.

Socket timeouts apply to each operation: a peer that sends one byte per second never exceeds them. Here a call has a
deadline as a whole; see ``common.deadline``. The connections of :func:`new_session` register their socket with the
deadline of their thread. When the deadline passes, the sockets are shut down, which wakes the thread that waits for
them::

    with deadline(30) as clock:
        response = session.get(url)
    clock.expired, clock.sent
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Hashable, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import requests
import requests.adapters
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, check_header_validity, get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection
from urllib3.util.timeout import Timeout

from omps_worker.common.deadline import Deadline, current, deadline, watcher
from omps_worker.common.files.versions import version_of
from omps_worker.common.machine import AbandonableCalls
from omps_worker.common.tracebacks import drop_tracebacks

__all__ = [
    "CONNECT_SECONDS",
    "Deadline",
    "Response",
    "Session",
    "UnusableCertificates",
    "current",
    "deadline",
    "new_session",
    "prepare",
]

CONNECT_SECONDS = 10.0
"""The timeout in seconds for connecting to one address, within the deadline of the call."""

IDLE_SECONDS = 30.0
"""The maximum idle time of a kept connection in seconds.

An older one is not used again: a firewall on the way may have forgotten it.
"""

_resolvers = AbandonableCalls("resolver")

_PLAIN_URL = re.compile(
    r"(?P<host>(?P<scheme>https?://)[a-z0-9.-]+(?::[0-9]{1,5})?)(?P<target>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~+=-]*)*)"
)


class _Connection(HTTPConnection):
    """A connection that registers its socket with the deadline of its thread."""

    _used_at = 0.0

    def _new_conn(self) -> socket.socket:
        clock = current()
        if clock is None:
            return super()._new_conn()
        failure: OSError | None = None
        for address in self._resolve(clock):
            if clock.expired:
                break
            seconds = min(CONNECT_SECONDS, clock.remaining())
            try:
                sock = create_connection((address, self.port), seconds, self.source_address, self.socket_options)
            except OSError as error:
                drop_tracebacks(error)
                failure = error
            else:
                clock.watch(sock)
                return sock
        if failure is None or isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"Connecting to {self.host} timed out")
        raise NewConnectionError(self, f"Connecting to {self.host} failed: {failure}") from failure

    def _resolve(self, clock: Deadline) -> list[str]:
        """Return the addresses of the host. Runs in a thread, because a resolver cannot be interrupted."""
        host = self.host.strip("[]")
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]

        def resolve() -> list[str]:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(entry[4][0]) for entry in found))

        try:
            return _resolvers.call(resolve, clock.remaining())
        except TimeoutError:
            raise ConnectTimeoutError(self, f"Looking up {host} timed out") from None
        except socket.gaierror as error:
            raise NameResolutionError(host, self, error) from error
        except Exception as error:
            raise NewConnectionError(self, f"{host} cannot be looked up") from error

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            # The request may have reached a proxy, but not the peer.
            if (clock := current()) and not clock.expired:
                clock.sent = False

    @property
    def is_connected(self) -> bool:
        """Whether the kept connection can be used: not closed by the peer and not idle for too long."""
        return time.monotonic() - self._used_at < IDLE_SECONDS and super().is_connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        if clock := current():
            clock.reused = self.sock is not None and self._used_at > 0
            if clock.reused:
                clock.watch(self.sock)
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        if clock := current():
            clock.sent = True
        super().send(data)

    def getresponse(self) -> Any:
        self._used_at = time.monotonic()
        return super().getresponse()

    def close(self) -> None:
        self._used_at = 0.0
        super().close()


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class UnusableCertificates(OSError):
    """The configured file of certificates is unusable."""


def _tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Return a TLS context with the current certificates, so new connections use renewed ones."""
    if ca_bundle is not None:
        return _context_as_of(ca_bundle, version_of(ca_bundle))
    system = ssl.get_default_verify_paths()
    return _context_as_of(None, tuple(version_of(Path(path)) for path in (system.cafile, system.capath) if path))


@functools.lru_cache(maxsize=8)
def _context_as_of(ca_bundle: Path | None, _version: Hashable) -> ssl.SSLContext:
    """Return a context that all threads and connections share: reading the certificates takes about 20 ms."""
    try:
        if ca_bundle is not None:
            if ca_bundle.is_dir():
                return ssl.create_default_context(capath=str(ca_bundle))
            return ssl.create_default_context(cafile=str(ca_bundle))
        context = ssl.create_default_context()
        if not any(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))):
            # Some systems have no certificates installed.
            context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
        return context
    except OSError as error:
        raise UnusableCertificates(f"{ca_bundle} contains no readable certificates.") from error


class _Adapter(requests.adapters.HTTPAdapter):
    """An adapter that uses the connections of this module, verifies TLS with ``ca_bundle``, and never retries."""

    def __init__(self, ca_bundle: Path | None) -> None:
        self._ca_bundle = ca_bundle
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            raise requests.exceptions.InvalidSchema(errno.EPROTONOSUPPORT, "SOCKS proxies are not supported")
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ARG002
        host, options = super().build_connection_pool_key_attributes(request, True, cert)
        if host["scheme"] == "https":
            options["ssl_context"] = _tls_context(self._ca_bundle)
        return host, options

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
        # The context holds the certificates. If they were named again, each connection would load them.
        conn.cert_reqs = "CERT_REQUIRED"


class Response(Protocol):
    """The response of both ways to send a request. Its body is read from ``raw``."""

    @property
    def status_code(self) -> int:
        """The HTTP status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; the mapping ignores case."""
        ...

    @property
    def raw(self) -> Any:
        """The response of urllib3."""
        ...

    def close(self) -> None:
        """Stop reading. The connection is kept if the body was read to its end."""
        ...


class _Direct:
    """A urllib3 response with the interface of Response."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.status_code: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def close(self) -> None:
        self.raw.close()
        self.raw.release_conn()


class Session(requests.Session):
    """A requests session for one thread. It always verifies TLS, never follows a redirect and keeps no cookies."""

    def __init__(self, ca_bundle: Path | None) -> None:
        super().__init__()
        # With trust_env, netrc would override Authorization, and REQUESTS_CA_BUNDLE our bundle.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["Accept-Encoding"] = "identity"
        self._proxied: dict[str, bool] = {}
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(ca_bundle))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None. To find the target of a redirect, requests would read its body, however large."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request as requests does, within the deadline of this thread."""
        kwargs.update(allow_redirects=False, verify=True, proxies=get_environ_proxies(str(url)))
        if clock := current():
            kwargs["timeout"] = clock.remaining()
        return super().request(method, url, *args, **kwargs)

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        """Send the same request with urllib3 alone, in half the time, if requests would add nothing.

        That is the case without a proxy and with a plain URL: nothing in it must be quoted, resolved or taken for
        credentials.
        """
        plain = _PLAIN_URL.fullmatch(url)
        if plain is None or self._is_proxied(plain["host"], url):
            return self.request(method, url, headers=headers, data=body, stream=True)
        for header in headers.items():
            check_header_validity(header)
        wanted = CaseInsensitiveDict(self.headers)
        wanted.update(headers)
        if method not in ("GET", "HEAD"):
            wanted["Content-Length"] = str(len(body or b""))
        seconds = clock.remaining() if (clock := current()) else None
        adapter: Any = self.adapters[plain["scheme"]]
        pool = adapter.get_connection_with_tls_context(SimpleNamespace(url=url), True, {})
        adapter.cert_verify(pool, url, True, None)
        raw = pool.urlopen(
            method,
            plain["target"] or "/",
            body,
            wanted,
            adapter.max_retries,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=seconds, read=seconds),
            preload_content=False,
            decode_content=False,
        )
        return _Direct(raw)

    def _is_proxied(self, host: str, url: str) -> bool:
        """Return whether the environment, which does not change, has a proxy for ``host``."""
        known = self._proxied.get(host)
        if known is None:
            known = self._proxied[host] = bool(get_environ_proxies(url))
        return known


def prepare() -> None:
    """Start the threads that all calls of the process share, while threads are available. Raises ResourcesExhausted."""
    watcher.start()
    _resolvers.prepare()


def new_session(ca_bundle: Path | None = None) -> Session:
    """Return a session whose calls obey :func:`deadline`; for one thread only.

    TLS is verified with ``ca_bundle`` (a PEM file, or a directory with hashed names). Without it, the certificates of
    the system and of requests are used, or those that SSL_CERT_FILE and SSL_CERT_DIR name. Proxies come from the
    environment.
    """
    return Session(ca_bundle)
