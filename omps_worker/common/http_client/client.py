# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP calls with limits: every call is limited in bytes and, as a whole, in seconds.

Used by everything that speaks HTTP. Koji's XML-RPC session uses parts of it (:func:`deadline`, :func:`new_session`,
:func:`body_of`, :func:`fault_of`).
"""

from __future__ import annotations

import contextlib
import http.client
import json as jsonlib
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from requests.structures import CaseInsensitiveDict

from omps_worker.common.addresses import address_of, not_followed, place_of, redirect_target
from omps_worker.common.http_client.faults import (
    FAILURES,
    PROXY_WANTS_CREDENTIALS,
    HttpFault,
    fault_of,
    refused_by_proxy,
)
from omps_worker.common.http_client.session import Deadline, Response, Session, deadline, new_session
from omps_worker.common.json_text import parse_json
from omps_worker.common.observer import NO_OBSERVER, Observer, status_label
from omps_worker.common.text import printable
from omps_worker.common.tracebacks import drop_tracebacks

__all__ = [
    "PROXY_WANTS_CREDENTIALS",
    "Answer",
    "HttpClient",
    "HttpFault",
    "address_of",
    "body_of",
    "deadline",
    "fault_of",
    "new_session",
    "not_followed",
    "parse_json",
    "place_of",
    "printable",
    "redirect_target",
    "refused_by_proxy",
]

MAX_BYTES = 4 * 1024 * 1024
"""The default maximum size of a response in bytes."""

ERROR_BYTES = 64 * 1024
"""How much of the body of a failed download is read, in bytes."""

MAX_REDIRECTS = 5
RETRY_AFTER_LIMIT = 24 * 3600.0
CHUNK = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


def is_failure(status: int) -> bool:
    """Return whether the status says that the server itself has a problem or is throttling the client."""
    return status >= 500 or status == 429


@dataclass(frozen=True)
class Answer:
    """A response of any status. ``headers`` ignores case. ``redirected``: it came from the target of a redirect."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    redirected: bool = False

    def json(self) -> Any:
        """Return the body as JSON, or None if it is not usable JSON."""
        return parse_json(self.body)

    def text(self, limit: int = 500) -> str:
        """Return the first ``limit`` characters of the body on one line, for an error message."""
        return printable(self.body[: 4 * limit].decode("utf-8", "replace"), limit)

    @property
    def retry_after(self) -> float | None:
        """The delay in seconds that the peer requests with ``Retry-After``, at most a day; None if there is none."""
        return seconds_of(self.headers.get("Retry-After"))


class HttpClient:
    """An HTTP client with limits, one session per thread. Safe to use from several threads.

    ``timeout`` is the deadline of a whole call in seconds: connect, headers and body. Each call is reported to
    ``observer`` as a call to ``service``.
    """

    def __init__(
        self, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = NO_OBSERVER, service: str = ""
    ) -> None:
        self._timeout = timeout
        self._ca_bundle = ca_bundle
        self._observer = observer
        self._service = service
        self._thread = threading.local()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | None = None,
        max_bytes: int = MAX_BYTES,
        timeout: float | None = None,
        follow: bool = True,
    ) -> Answer:
        """Send a request and read the response, of any status, into memory.

        The request's body is ``json``, or ``data``, whose Content-Type is in ``headers``. Redirects are followed only
        for a GET without credentials, and only if ``follow`` is true. Only a GET or HEAD is sent again, once, if a kept
        connection turns out to be dead. Raises HttpFault.
        """
        headers, body = dict(headers or {}), bytearray()
        if json is not None:
            data = jsonlib.dumps(json).encode()
            headers["Content-Type"] = "application/json"
        redirects = MAX_REDIRECTS if follow and method == "GET" and _without_credentials(headers) == headers else 0
        answer = self._observed(method, url, headers, data, max_bytes, max_bytes, timeout, redirects, body.extend)
        return replace(answer, body=answer.body or bytes(body))

    def download(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        redirects: int = MAX_REDIRECTS,
        timeout: float | None = None,
    ) -> Answer:
        """GET ``url`` and pass its body in pieces to ``sink`` if the status is 200.

        At most ``redirects`` redirects are followed. Credentials in ``headers`` are sent to ``url`` only, never to the
        target of a redirect.

        The body of any other response is in ``Answer.body``, at most ``ERROR_BYTES`` of it. Raises HttpFault, possibly
        after ``sink`` has received a part, and whatever ``sink`` raises.
        """
        return self._observed("GET", url, dict(headers or {}), None, max_bytes, ERROR_BYTES, timeout, redirects, sink)

    def close(self) -> None:
        """Close the connection that this thread keeps, if there is one."""
        session: Session | None = getattr(self._thread, "session", None)
        if session is not None:
            session.close()

    def _session(self) -> Session:
        session: Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = new_session(self._ca_bundle)
        return session

    def _observed(self, *arguments: Any) -> Answer:
        with self._observer.call(self._service) as call:
            try:
                answer = self._call(*arguments)
            except HttpFault as fault:
                call.result = fault.kind
                raise
            call.result = status_label(answer.status)
            return answer

    def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        max_bytes: int,
        max_error_bytes: int,
        timeout: float | None,
        redirects: int,
        sink: Callable[[bytes], object],
    ) -> Answer:
        with deadline(self._timeout if timeout is None else timeout) as clock:
            for followed in range(redirects + 1):
                response = self._send(clock, method, url, headers, data)
                with contextlib.closing(response):
                    if response.status_code in REDIRECTS and "Location" in response.headers:
                        url = _redirected(url, response.headers["Location"], redirects > 0)
                        headers = _without_credentials(headers)
                        continue
                    if response.status_code == PROXY_WANTS_CREDENTIALS:
                        raise refused_by_proxy(url, response.status_code)
                    response_headers = CaseInsensitiveDict(response.headers)
                    if method == "HEAD":
                        return Answer(response.status_code, response_headers, b"")
                    if response.status_code == 200:
                        for piece in body_of(response, url, max_bytes, clock):
                            sink(piece)
                        return Answer(200, response_headers, b"", followed > 0)
                    body = bytearray()
                    try:
                        for piece in body_of(response, url, max_error_bytes, clock):
                            body += piece
                    except HttpFault as fault:
                        # Half an error message is better than none, unless the caller wants it whole.
                        if fault.kind != "too_large" or max_error_bytes == max_bytes:
                            raise
                    return Answer(response.status_code, response_headers, bytes(body), followed > 0)
        times = "once" if redirects == 1 else f"{redirects} times"
        raise HttpFault("redirect", f"{place_of(url)} redirects more than {times}.", sent=True)

    def _send(self, clock: Deadline, method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> Response:
        may_retry = method in ("GET", "HEAD")
        while True:
            try:
                return self._session().exchange(method, url, headers, data)
            except FAILURES as error:
                fault = fault_of(error, clock, url)
                drop_tracebacks(error)
                try:
                    if not (may_retry and clock.reused and fault.kind == "connection"):
                        raise fault from None
                finally:
                    del fault
                may_retry = False


def body_of(response: Response, url: str, max_bytes: int, clock: Deadline) -> Iterator[bytes]:
    """Yield the body in pieces, at most ``max_bytes`` bytes in total, after decompression.

    Raises HttpFault: ``too_large``, ``connection`` if the body ends too early, and ``timeout`` if the deadline of
    ``clock`` has passed.
    """
    announced = response.headers.get("Content-Length", "")
    if response.status_code == 200 and announced.isascii() and announced.isdigit() and float(announced) > max_bytes:
        raise _too_large(url, max_bytes)
    pieces = iter(lambda: response.raw.read(CHUNK, decode_content=False), b"")
    if "gzip" in response.headers.get("Content-Encoding", "").lower():
        # Some proxies compress without being asked. The limit of zlib keeps a bomb from unfolding.
        pieces = _inflated(pieces)
    received = 0
    while True:
        try:
            piece = next(pieces, None)
        except FAILURES as error:
            raise fault_of(error, clock, url) from None
        if piece is None:
            break
        received += len(piece)
        if received > max_bytes:
            raise _too_large(url, max_bytes)
        yield piece
    if clock.expired:
        raise fault_of(TimeoutError(), clock, url)
    if not (received or announced or "Transfer-Encoding" in response.headers) and response.status_code == 200:
        # If a connection ends among the headers, Python takes that for the end of the headers.
        raise fault_of(http.client.IncompleteRead(b""), clock, url)


def _too_large(url: str, max_bytes: int) -> HttpFault:
    return HttpFault("too_large", f"{place_of(url)} answered with more than {max_bytes} bytes.", sent=True)


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    empty = True
    try:
        for piece in pieces:
            empty = False
            while piece:
                yield inflate.decompress(piece, CHUNK)
                piece = inflate.unconsumed_tail
            if inflate.eof:
                return
    except zlib.error:
        raise http.client.HTTPException("the body is not gzip") from None
    if not empty:
        raise http.client.IncompleteRead(b"")


def _without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in CREDENTIALS}


def _redirected(url: str, location: str, follow: bool) -> str:
    """Return the target of a redirect. Raises HttpFault if it must not be followed."""
    target = redirect_target(url, location)
    allowed = {"https"} if url.lower().startswith("https:") else {"http", "https"}
    if follow and target.partition(":")[0].lower() in allowed:
        return target
    raise HttpFault("redirect", f"{not_followed(url, target)}; check the configured address.", sent=True)


def seconds_of(retry_after: str | None) -> float | None:
    """Return the value of a ``Retry-After`` header (seconds or a date) in seconds from now, at most a day."""
    if not retry_after:
        return None
    try:
        if retry_after.strip().isdigit():
            seconds = float(retry_after)
        else:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT)
