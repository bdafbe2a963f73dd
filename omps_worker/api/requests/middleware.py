# SPDX-License-Identifier: GPL-3.0-or-later
"""The middleware around every request: its ID, its line in the access log, and draining of unread bodies."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextvars import ContextVar
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omps_worker.api.replies import as_json, error_reply
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

ID_HEADER = "X-Request-ID"

DRAIN_BYTES = 64 * 2**20
"""How many bytes of an unread body are read and discarded after the reply to a request that was refused early.

Most clients read the reply only after they have sent everything; otherwise they would only see a reset connection.
"""

DRAIN_SECONDS = 10.0
"""How long draining may take."""

ROUTE = "omps_worker.route"
"""The key in the ASGI scope under which an endpoint stores the template of its path, for the metrics."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The ID of the current request; None outside of requests."""


class RequestIds(logging.Filter):
    """Adds the ID of the current request to log records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attribute ``request_id`` of the record; return True, so that no record is dropped."""
        current = request_id.get()
        if current is not None:
            record.request_id = current
        return True


class RequestMiddleware:
    """The ASGI middleware for request IDs, the access log, and draining.

    The ID is the client's X-Request-ID if that is short and plain, otherwise a new one; every reply carries it. The
    access log has method, path, status and duration, but neither headers nor the query. ``observer`` is notified of
    each request.
    """

    def __init__(self, app: ASGIApp, observer: Observer = NO_OBSERVER) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        proposed = headers.get(ID_HEADER, "")
        current_id = proposed if _ID.fullmatch(proposed) else uuid.uuid4().hex
        token = request_id.set(current_id)
        exchange = _Exchange(scope, headers, receive, send, current_id)
        app = _refuse if _is_ambiguous(scope, headers) else self._app
        start = time.monotonic()
        try:
            await app(scope, exchange.receive, exchange.send)
        finally:
            client = scope["client"][0] if scope.get("client") else "?"
            what = f"{scope['method']} {one_line(scope['path'][:500])}"
            seconds = time.monotonic() - start
            fields = {"method": scope["method"], "status": exchange.status, "seconds": round(seconds, 3)}
            log.info("%s: %s, %.3f s, from %s", what, exchange.status or "no reply", seconds, client, extra=fields)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._observer.http_request(method, scope.get(ROUTE, ""), exchange.status or 0, seconds)
            request_id.reset(token)


def _is_ambiguous(scope: Scope, headers: Headers) -> bool:
    """Return whether a proxy may disagree with this service about where the body of the request ends.

    Otherwise a client could smuggle a second request past a proxy that sees only one.
    """
    return "Transfer-Encoding" in headers and ("Content-Length" in headers or scope.get("http_version") == "1.0")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    message = "A request must not have both a Content-Length and a Transfer-Encoding, nor the latter before HTTP/1.1."
    reply = error_reply(HTTPStatus.BAD_REQUEST, "BadRequest", message)
    await JsonResponse(dict(reply.body), reply.status)(scope, receive, send)


class JsonResponse(JSONResponse):
    """A JSON response in UTF-8 in which control characters are escaped."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return as_json(content)


class _Exchange:
    """One request and its reply."""

    def __init__(self, scope: Scope, headers: Headers, receive: Receive, send: Send, own_id: str) -> None:
        self._receive = receive
        self._send = send
        self._id = own_id
        length = headers.get("Content-Length")
        self._unread = "Transfer-Encoding" in headers or length not in (None, "0")
        # A client that waits for "100 Continue" does not send the body if the request is refused.
        self._awaits_continue = headers.get("Expect", "").lower() == "100-continue"
        self._ambiguous = _is_ambiguous(scope, headers)
        self.status: int | None = None

    @property
    def _cannot_drain(self) -> bool:
        """Whether it is useless to wait for the rest of the request."""
        return self._awaits_continue or self._ambiguous or self.status == HTTPStatus.REQUEST_TIMEOUT

    async def receive(self) -> Message:
        """Return the next part of the request."""
        self._awaits_continue = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the reply; after its last part, drain the rest of the request."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[ID_HEADER] = self._id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cache-Control"] = "no-store"
            if self._unread:
                headers["Connection"] = "close"
        elif not message.get("more_body", False) and self._unread and not self._cannot_drain:
            await self._send({**message, "more_body": True})
            try:
                await asyncio.wait_for(self._drain(), DRAIN_SECONDS)
            except asyncio.TimeoutError:
                log.debug("a client keeps sending a request that is already answered")
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _drain(self) -> None:
        size = 0
        while self._unread and size <= DRAIN_BYTES:
            message = await self.receive()
            size += len(message.get("body", b""))
