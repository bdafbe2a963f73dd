# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes: what comes in by HTTP, and who answers it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from omps_worker.api import openapi, uploads
from omps_worker.api.health import Health
from omps_worker.api.replies import Reply, error_reply, reply_to
from omps_worker.api.requests import ROUTE, Surroundings
from omps_worker.api.service import Service
from omps_worker.errors import (
    InvalidOrganizationName,
    OMPSAuthorizationHeaderRequired,
    OMPSExpectedFileError,
    ServiceStopping,
)
from omps_worker.http import printable
from omps_worker.machine import Threads
from omps_worker.names import organization_name_fault
from omps_worker.observer import SILENT, Observer
from omps_worker.tracebacks import let_go
from omps_worker.under_way import UnderWay

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Limits:
    """What one request may bring: bytes in all, and seconds until it is here."""

    max_content_length: int
    upload_seconds: float


class Pool:
    """The threads that push: so many at a time, and whoever comes meanwhile waits in line."""

    def __init__(self, size: int) -> None:
        self._threads = Threads(size, "push").begin()
        self._waiting: set[Future[Any]] = set()
        self._closed = False
        self._under_way = 0
        self._works = UnderWay()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nobody waits."""
        return self._under_way == 0

    @property
    def longest(self) -> float:
        """For how many seconds the slowest piece of work goes on, waiting in line not included. 0: none does."""
        return self._works.longest

    async def run(self, work: Callable[[], T], finally_do: Callable[[], object] = lambda: None) -> T:
        """What ``work`` returns. It is finished even if nobody waits for it any more, and then comes ``finally_do``."""
        self._under_way += 1
        loop = asyncio.get_running_loop()

        def done(_: object) -> None:
            finally_do()
            # The loop may be gone: the process ends, and nobody counts any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._one_less)

        future: Future[T] = Future()
        self._waiting.add(future)
        future.add_done_callback(done)
        if self._closed:
            future.cancel()
        else:
            self._threads.submit(partial(self._perform, future, contextvars.copy_context(), work))
        return await asyncio.wrap_future(future)

    def _perform(self, future: Future[T], context: contextvars.Context, work: Callable[[], T]) -> None:
        self._waiting.discard(future)
        if not future.set_running_or_notify_cancel():
            return
        try:
            with self._works.one():
                result = context.run(work)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _one_less(self) -> None:
        self._under_way -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for future in tuple(self._waiting):
            future.cancel()
        self._threads.close()


class Api:
    """The endpoints."""

    def __init__(self, service: Service, health: Health, pool: Pool, limits: Limits, about: Mapping[str, str]) -> None:
        self._service = service
        self._health = health
        self._pool = pool
        self._limits = limits
        self._about = dict(about)

    async def push_archive(self, request: Request) -> Reply:
        """POST …/zipfile: the upload is read before it waits for a thread."""
        authorization = self._judged(request)
        limits = self._limits
        upload = await uploads.receive(
            request.headers.get("Content-Type"),
            _body(request),
            most=limits.max_content_length,
            seconds=limits.upload_seconds,
        )
        work = partial(self._service.push_archive, upload.path, upload.archive, authorization, **request.path_params)
        return Reply(200, await self._pool.run(work, upload.close))

    async def push_build(self, request: Request) -> Reply:
        """POST …/koji/NVR."""
        authorization = self._judged(request)
        return await self._run(partial(self._service.push_build, authorization=authorization, **request.path_params))

    async def delete(self, request: Request) -> Reply:
        """DELETE …/ORGANIZATION/REPOSITORY."""
        authorization = self._judged(request)
        return await self._run(partial(self._service.delete, authorization, **request.path_params))

    async def ping(self, _request: Request) -> Reply:
        """GET …/health/ping."""
        return await self._health.look()

    async def about(self, _request: Request) -> Reply:
        """GET …/about."""
        return Reply(200, self._about)

    async def describe(self, _request: Request) -> Reply:
        """GET /openapi.json."""
        return Reply(200, openapi.document())

    def _judged(self, request: Request) -> SecretStr:
        """The token for the registry, if nothing is wrong with the request at first sight."""
        authorization = _authorization(request)
        if b"%2f" in request.scope.get("raw_path", b"").lower():
            # It is a / by now: what stands in front of this service may have seen another path.
            raise InvalidOrganizationName("No organization, repository, build or version has a / in its name.")
        if fault := organization_name_fault(request.path_params["organization"]):
            raise InvalidOrganizationName(f"{printable(request.path_params['organization'], 200)} {fault}.")
        uploads.check_length(request.headers.get("Content-Length"), self._limits.max_content_length)
        return authorization

    async def _run(self, work: Callable[[], dict[str, Any]]) -> Reply:
        return Reply(200, await self._pool.run(work))


def create_app(api: Api, lifespan: Lifespan | None = None, observer: Observer = SILENT) -> ASGIApp:
    """The ASGI application; ``lifespan`` is entered when a server starts with it, and left at its end."""
    table = (
        ("GET", openapi.ABOUT, api.about),
        ("GET", openapi.PING, api.ping),
        ("POST", openapi.PUSH_ARCHIVE, api.push_archive),
        ("POST", openapi.PUSH_BUILD, api.push_build),
        ("DELETE", openapi.DELETE, api.delete),
        ("GET", ("/openapi.json",), api.describe),
    )
    routes = [
        Route(path, _answering(endpoint, path), methods=[method]) for method, paths, endpoint in table for path in paths
    ]
    routes.append(Route("/docs", _docs, methods=["GET"]))

    async def not_there(request: Request, _error: Exception) -> Response:
        return _not_there(request, routes)

    app = Starlette(routes=routes, exception_handlers={HTTPException: not_there}, lifespan=lifespan)
    app.router.redirect_slashes = False
    return Surroundings(app, observer)


def _answering(endpoint: Callable[[Request], Awaitable[Reply]], path: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = path
        try:
            return _response(await endpoint(request))
        except asyncio.CancelledError:
            # The server has no more time. Whoever waits is told, as far as there is something to tell.
            return _response(reply_to(ServiceStopping("The service is stopping: whether this was done is not known.")))
        except Exception as error:
            reply = reply_to(error)
            let_go(error)
            return _response(reply)

    return answer


def _response(reply: Reply) -> Response:
    return JSONResponse(dict(reply.body), reply.status, dict(reply.headers))


async def _docs(_request: Request) -> Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    return HTMLResponse(openapi.PAGE, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


def _not_there(request: Request, routes: list[Route]) -> Response:
    matches = [(route, route.matches(request.scope)[0]) for route in routes]
    allowed = {method for route, match in matches if match is not Match.NONE for method in route.methods or ()}
    if not allowed:
        return _response(error_reply(404, "NotFound", "There is nothing at this path; /docs lists what there is."))
    names = ", ".join(sorted(allowed))
    reply = error_reply(405, "MethodNotAllowed", f"{request.method} cannot be done here, but {names} can.")
    return _response(Reply(reply.status, reply.body, {"Allow": names}))


def _authorization(request: Request) -> SecretStr:
    """The token for the registry, as the client wrote it."""
    value = request.headers.get("Authorization", "")
    if not value.strip():
        raise OMPSAuthorizationHeaderRequired("The header Authorization is missing: it is the token for the registry.")
    return SecretStr(value)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise OMPSExpectedFileError("The client went away before its request was complete.") from None
