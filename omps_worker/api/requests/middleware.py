# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds every request: its id, its line in the log, and the end of a body that nobody wants."""

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
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

ID_HEADER = "X-Request-ID"

DRAIN_BYTES = 64 * 2**20
"""How much of a body is read and thrown away after the reply to a request that was refused before it was read.

Most clients look for the reply when they have sent everything, and would only see a broken connection else."""

DRAIN_SECONDS = 10.0
"""How long that may take."""

ROUTE = "omps_worker.route"
"""The key under which an endpoint leaves the template of its path in the scope."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is worked on; None outside of any."""


class RequestIds(logging.Filter):
    """Gives the lines of the log the id of the request that they are about."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attribute ``request_id``; lets every line pass."""
        current = request_id.get()
        if current is not None:
            record.request_id = current
        return True


class RequestMiddleware:
    """The ASGI layer around an application: ids, the access log, and draining.

    A client's X-Request-ID is taken over if it is short and plain; the reply has it in any case.
    The log has method, path, status and time, and neither headers nor query. ``observer`` hears of
    each request.
    """

    def __init__(self, app: ASGIApp, observer: Observer = SILENT) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        proposed = headers.get(ID_HEADER, "")
        own = proposed if _ID.fullmatch(proposed) else uuid.uuid4().hex
        token = request_id.set(own)
        exchange = _Exchange(scope, headers, receive, send, own)
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
    """Whether others may take another part of what comes for the body of this request.

    What stands in front of this service, and sees one request where here are two, lets pass what it should not.
    """
    return "Transfer-Encoding" in headers and ("Content-Length" in headers or scope.get("http_version") == "1.0")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    message = "A request has a Content-Length or, from HTTP/1.1 on, a Transfer-Encoding, and never both."
    reply = error_reply(HTTPStatus.BAD_REQUEST, "BadRequest", message)
    await JsonResponse(dict(reply.body), reply.status)(scope, receive, send)


class JsonResponse(JSONResponse):
    """JSON in which texts from outside move no cursor, and are always UTF-8."""

    def render(self, content: object) -> bytes:
        """The body."""
        return as_json(content)


class _Exchange:
    """One request and its reply."""

    def __init__(self, scope: Scope, headers: Headers, receive: Receive, send: Send, own_id: str) -> None:
        self._receive = receive
        self._send = send
        self._id = own_id
        length = headers.get("Content-Length")
        self._unread = "Transfer-Encoding" in headers or length not in (None, "0")
        # Who waits for leave to send the body does not send it once it is refused.
        self._awaits_leave = headers.get("Expect", "").lower() == "100-continue"
        self._ambiguous = _is_ambiguous(scope, headers)
        self.status: int | None = None

    @property
    def _hopeless(self) -> bool:
        """Whether there is no use in waiting for the rest of the request."""
        return self._awaits_leave or self._ambiguous or self.status == HTTPStatus.REQUEST_TIMEOUT

    async def receive(self) -> Message:
        """The next part of the request."""
        self._awaits_leave = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """A part of the reply; behind its end, what is left of the request is thrown away."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[ID_HEADER] = self._id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cache-Control"] = "no-store"
            if self._unread:
                headers["Connection"] = "close"
        elif not message.get("more_body", False) and self._unread and not self._hopeless:
            await self._send({**message, "more_body": True})
            try:
                await asyncio.wait_for(self._drain(), DRAIN_SECONDS)
            except asyncio.TimeoutError:
                log.debug("a client goes on sending a request that was answered")
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _drain(self) -> None:
        size = 0
        while self._unread and size <= DRAIN_BYTES:
            message = await self.receive()
            size += len(message.get("body", b""))
