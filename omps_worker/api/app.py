# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes and endpoints of the REST API, as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from omps_worker.api import openapi
from omps_worker.api.health import HealthEndpoint
from omps_worker.api.replies import Reply, error_reply, reply_to
from omps_worker.api.requests import uploads
from omps_worker.api.requests.clients import Client
from omps_worker.api.requests.idempotency import HEADER, IdempotencyKeys, checked
from omps_worker.api.requests.middleware import ROUTE, JsonResponse, RequestMiddleware
from omps_worker.api.scheduling.scheduler import PushScheduler
from omps_worker.api.service import Service
from omps_worker.common.errors import (
    InvalidOrganizationName,
    OMPSAuthorizationHeaderRequired,
    OMPSExpectedFileError,
    ServiceStopping,
)
from omps_worker.common.http_client.client import printable
from omps_worker.common.names import organization_name_fault
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.tracebacks import drop_tracebacks

Endpoint = Callable[[Request], Awaitable[Response]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Limits:
    """Limits of one request: its size in bytes, and the seconds in which its upload must arrive."""

    max_content_length: int
    upload_seconds: float


class Api:
    """The endpoints of the REST API."""

    def __init__(
        self,
        service: Service,
        scheduler: PushScheduler,
        keys: IdempotencyKeys,
        health: HealthEndpoint,
        limits: Limits,
        about: Mapping[str, str],
    ) -> None:
        self._service = service
        self._scheduler = scheduler
        self._keys = keys
        self._health = health
        self._limits = limits
        self._about = dict(about)

    async def push_archive(self, request: Request) -> Reply:
        """Handle POST …/zipfile. The upload is received before the push waits for its turn."""
        arguments = await self._push_arguments(request)
        limits = self._limits
        with self._scheduler.admitted(arguments.owner):
            upload = await uploads.receive(
                request.headers.get("Content-Type"),
                _body(request),
                max_bytes=limits.max_content_length,
                seconds=limits.upload_seconds,
            )
            try:
                push = self._service.push_archive(
                    upload.path, upload.archive, arguments.authorization, arguments.client, **request.path_params
                )
                part = request.path_params.get("repository") or upload.archive.sha256
            except BaseException:
                upload.close()
                raise
            work = self._scheduler.push(arguments.owner, part, push, upload.close)
            return Reply(200, await arguments.client.wait_for(work))

    async def push_build(self, request: Request) -> Reply:
        """Handle POST …/koji/NVR."""
        arguments = await self._push_arguments(request)
        push = self._service.push_build(
            authorization=arguments.authorization, caller=arguments.client, **request.path_params
        )
        part = request.path_params.get("repository") or request.path_params["nvr"].rsplit("-", 2)[0]
        with self._scheduler.admitted(arguments.owner):
            return Reply(200, await arguments.client.wait_for(self._scheduler.push(arguments.owner, part, push)))

    async def delete(self, request: Request) -> Reply:
        """Handle DELETE …/ORGANIZATION/REPOSITORY."""
        authorization = self._authorization(request)
        organization, repository = request.path_params["organization"], request.path_params["repository"]
        owner = await self._scheduler.owner_even_if_refused(organization, authorization)
        client = Client(request.receive, self._limits.max_content_length)
        work = partial(self._service.delete, authorization, **request.path_params)
        with self._scheduler.admitted(owner):
            return Reply(200, await client.wait_for(self._scheduler.alone(owner, f"{organization}/{repository}", work)))

    async def ping(self, _request: Request) -> Reply:
        """Handle GET …/health/ping."""
        return await self._health.look()

    async def about(self, _request: Request) -> Reply:
        """Handle GET …/about."""
        return Reply(200, self._about)

    async def describe(self, _request: Request) -> Reply:
        """Handle GET /openapi.json."""
        return Reply(200, openapi.document())

    def _authorization(self, request: Request) -> SecretStr:
        """Return the token for the registry, after the checks that need only the head of the request."""
        authorization = _authorization(request)
        _check_path(request)
        if fault := organization_name_fault(request.path_params["organization"]):
            raise InvalidOrganizationName(f"{printable(request.path_params['organization'], 200)} {fault}.")
        uploads.check_length(request.headers.get("Content-Length"), self._limits.max_content_length)
        return authorization

    async def _push_arguments(self, request: Request) -> _PushArguments:
        """Return the arguments of a push, after all checks that can be made before its body is read."""
        authorization = self._authorization(request)
        organization, repository = request.path_params["organization"], request.path_params.get("repository")
        key = checked(request.headers.get(HEADER))
        self._service.check(organization)
        if repository is not None:
            self._scheduler.check(f"{organization}/{repository}")
        owner = await self._scheduler.owner(organization, authorization)
        idempotency_key = None if key is None else self._keys.of(key, organization, authorization)
        client = Client(request.receive, self._limits.max_content_length, idempotency_key)
        return _PushArguments(owner, authorization, client)


@dataclass(frozen=True)
class _PushArguments:
    """What a push request brings in its head."""

    owner: Hashable
    authorization: SecretStr
    client: Client


def create_app(api: Api, lifespan: Lifespan | None = None, observer: Observer = NO_OBSERVER) -> ASGIApp:
    """Return the ASGI application. The server enters ``lifespan`` when it starts, and leaves it when it ends."""
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

    async def no_route(request: Request, _error: Exception) -> Response:
        try:
            _check_path(request)
        except InvalidOrganizationName as error:
            return _response(reply_to(error))
        return _no_route(request, routes)

    app = Starlette(routes=routes, exception_handlers={HTTPException: no_route}, lifespan=lifespan)
    app.router.redirect_slashes = False
    return RequestMiddleware(app, observer)


def _answering(endpoint: Callable[[Request], Awaitable[Reply]], path: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = path
        try:
            return _response(await endpoint(request))
        except asyncio.CancelledError:
            # The shutdown timeout is over; clients that still wait get this reply.
            stopping = ServiceStopping("The service is stopping. It is not known whether the request was carried out.")
            return _response(reply_to(stopping))
        except Exception as error:
            reply = reply_to(error)
            drop_tracebacks(error)
            return _response(reply)

    return answer


def _response(reply: Reply) -> Response:
    return JsonResponse(dict(reply.body), reply.status, dict(reply.headers))


async def _docs(_request: Request) -> Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    return HTMLResponse(openapi.PAGE, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


def _check_path(request: Request) -> None:
    """Raise InvalidOrganizationName for a path with an escaped slash."""
    if b"%2f" in request.scope.get("raw_path", b"").lower():
        # It is already decoded to a slash here; a proxy in front of the service may have seen a different path.
        raise InvalidOrganizationName(
            "The path contains an escaped slash: no organization, repository, build or version has a / in its name."
        )


def _no_route(request: Request, routes: list[Route]) -> Response:
    matches = [(route, route.matches(request.scope)[0]) for route in routes]
    allowed = {method for route, match in matches if match is not Match.NONE for method in route.methods or ()}
    if not allowed:
        return _response(error_reply(404, "NotFound", "This path does not exist; /docs lists the paths that do."))
    names = ", ".join(sorted(allowed))
    reply = error_reply(405, "MethodNotAllowed", f"This path does not support {request.method}, only {names}.")
    return _response(Reply(reply.status, reply.body, {"Allow": names}))


def _authorization(request: Request) -> SecretStr:
    """Return the token for the registry, exactly as the client sent it. Raises OMPSAuthorizationHeaderRequired."""
    value = request.headers.get("Authorization", "")
    if not value.strip():
        raise OMPSAuthorizationHeaderRequired("The header Authorization, with the token for the registry, is missing.")
    return SecretStr(value)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise OMPSExpectedFileError("The client disconnected before its request was complete.") from None
