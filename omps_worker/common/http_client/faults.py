# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means if an HTTP call gets no usable response."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from typing import Literal

import requests
import urllib3.exceptions

from omps_worker.common.addresses import route_to
from omps_worker.common.http_client.session import CONNECT_SECONDS, Deadline, UnusableCertificates
from omps_worker.common.text import printable, with_single_stops

PROXY_WANTS_CREDENTIALS = 407

Kind = Literal["timeout", "connection", "tls", "too_large", "redirect"]

_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
"""The text with which http.client reports that a proxy refused the tunnel."""

FAILURES = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""The exceptions that requests and the libraries below it raise if a call fails."""


class HttpFault(Exception):
    """A call got no usable response. The text is one sentence and contains no secret.

    ``kind``: ``timeout`` (the deadline passed), ``connection`` (refused, unknown host, dropped), ``tls`` (no trusted
    certificate), ``too_large``, or ``redirect`` (not followed). ``sent``: true if the peer may have received the
    request, so the requested change may have happened; false if it certainly has not.
    """

    def __init__(self, kind: Kind, message: str, *, sent: bool) -> None:
        super().__init__(with_single_stops(message))
        self.kind: Kind = kind
        self.sent = sent


def fault_of(error: BaseException, clock: Deadline, url: str) -> HttpFault:
    """Return the HttpFault for ``error``, which was raised while calling ``url`` under ``clock``."""
    place, causes = route_to(url), list(_chain(error))
    if clock.expired or any(map(_is_timeout, causes)):
        what = "did not finish its answer" if clock.sent else "could not be reached"
        seconds = clock.seconds if clock.expired or clock.sent else min(clock.seconds, CONNECT_SECONDS)
        return HttpFault("timeout", f"{place} {what} within {seconds:.3g} seconds.", sent=clock.sent)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = printable(cause.verify_message, 200)
            return HttpFault("tls", f"{place} has no trusted certificate: {reason}.", sent=clock.sent)
        if isinstance(cause, UnusableCertificates):
            return HttpFault("tls", f"ca_bundle: {cause}", sent=False)
    if any(isinstance(cause, (ssl.SSLError, urllib3.exceptions.SSLError)) for cause in causes):
        return HttpFault("tls", f"TLS with {place} failed.", sent=clock.sent)
    if clock.sent:
        return HttpFault("connection", f"{place} dropped the connection before its answer was complete.", sent=True)
    if any(isinstance(cause, (requests.exceptions.InvalidHeader, UnicodeError)) for cause in causes):
        return HttpFault("connection", f"The request to {place} cannot be sent: a header is malformed.", sent=False)
    for cause in causes:
        if isinstance(cause, requests.exceptions.InvalidProxyURL):
            message = f"{place} cannot be reached: the proxy's address must be of the form http://HOST:PORT."
            return HttpFault("connection", message, sent=False)
        if refusal := _REFUSED_BY_PROXY.search(str(cause)):
            # The rest of the proxy's text is not needed, and may repeat what was sent to it.
            return refused_by_proxy(url, refusal[1])
    reasons = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
    # Other texts may quote headers, and with them credentials.
    reason = printable(str(next(reasons, type(error).__name__)), 200)
    return HttpFault("connection", f"{place} cannot be reached: {reason}.", sent=False)


def refused_by_proxy(url: str, status: int | str) -> HttpFault:
    """Return the HttpFault for a call to ``url`` that a proxy answered with ``status`` itself."""
    hint = " (does it require a user name and a password?)" if str(status) == str(PROXY_WANTS_CREDENTIALS) else ""
    return HttpFault("connection", f"{route_to(url)} cannot be reached: the proxy answered {status}{hint}.", sent=False)


def _is_timeout(error: BaseException) -> bool:
    # urllib3 derives a refused connection from a timeout.
    timeouts = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
    return isinstance(error, timeouts) and not isinstance(error, urllib3.exceptions.NewConnectionError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
