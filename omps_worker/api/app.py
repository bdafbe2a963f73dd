# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes: what comes in by HTTP, and who answers it."""

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
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.tracebacks import let_go

Endpoint = Callable[[Request], Awaitable[Response]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Limits:
    """What one request may bring: bytes in all, and seconds until it is here."""

    max_content_length: int
    upload_seconds: float


class Api:
    """The endpoints."""

    def __init__(
        self,
        service: Service,
        flow: PushScheduler,
        keys: IdempotencyKeys,
        health: HealthEndpoint,
        limits: Limits,
        about: Mapping[str, str],
    ) -> None:
        self._service = service
        self._flow = flow
        self._keys = keys
        self._health = health
        self._limits = limits
        self._about = dict(about)

    async def push_archive(self, request: Request) -> Reply:
        """POST …/zipfile: the upload is read before it waits for its turn."""
        asked = await self._asked(request)
        limits = self._limits
        with self._flow.admitted(asked.owner):
            upload = await uploads.receive(
                request.headers.get("Content-Type"),
                _body(request),
                most=limits.max_content_length,
                seconds=limits.upload_seconds,
            )
            try:
                push = self._service.push_archive(
                    upload.path, upload.archive, asked.authorization, asked.client, **request.path_params
                )
                part = request.path_params.get("repository") or upload.archive.sha256
            except BaseException:
                upload.close()
                raise
            return Reply(200, await asked.client.wait_for(self._flow.push(asked.owner, part, push, upload.close)))

    async def push_build(self, request: Request) -> Reply:
        """POST …/koji/NVR."""
        asked = await self._asked(request)
        push = self._service.push_build(authorization=asked.authorization, caller=asked.client, **request.path_params)
        part = request.path_params.get("repository") or request.path_params["nvr"].rsplit("-", 2)[0]
        with self._flow.admitted(asked.owner):
            return Reply(200, await asked.client.wait_for(self._flow.push(asked.owner, part, push)))

    async def delete(self, request: Request) -> Reply:
        """DELETE …/ORGANIZATION/REPOSITORY."""
        authorization = self._judged(request)
        organization, repository = request.path_params["organization"], request.path_params["repository"]
        owner = await self._flow.owner_or_stranger(organization, authorization)
        client = Client(request.receive, self._limits.max_content_length)
        work = partial(self._service.delete, authorization, **request.path_params)
        with self._flow.admitted(owner):
            return Reply(200, await client.wait_for(self._flow.alone(owner, f"{organization}/{repository}", work)))

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
        _check_path(request)
        if fault := organization_name_fault(request.path_params["organization"]):
            raise InvalidOrganizationName(f"{printable(request.path_params['organization'], 200)} {fault}.")
        uploads.check_length(request.headers.get("Content-Length"), self._limits.max_content_length)
        return authorization

    async def _asked(self, request: Request) -> _PushArguments:
        """Who wants a push, if nothing is wrong with them and with the request at first sight."""
        authorization = self._judged(request)
        organization, repository = request.path_params["organization"], request.path_params.get("repository")
        key = checked(request.headers.get(HEADER))
        self._service.check(organization)
        if repository is not None:
            self._flow.check(f"{organization}/{repository}")
        owner = await self._flow.owner(organization, authorization)
        told = None if key is None else self._keys.of(key, organization, authorization)
        return _PushArguments(owner, authorization, Client(request.receive, self._limits.max_content_length, told))


@dataclass(frozen=True)
class _PushArguments:
    """A push that somebody asked for."""

    owner: Hashable
    authorization: SecretStr
    client: Client


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
        try:
            _check_path(request)
        except InvalidOrganizationName as error:
            return _response(reply_to(error))
        return _not_there(request, routes)

    app = Starlette(routes=routes, exception_handlers={HTTPException: not_there}, lifespan=lifespan)
    app.router.redirect_slashes = False
    return RequestMiddleware(app, observer)


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
    return JsonResponse(dict(reply.body), reply.status, dict(reply.headers))


async def _docs(_request: Request) -> Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    return HTMLResponse(openapi.PAGE, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


def _check_path(request: Request) -> None:
    """Refuse a path with an escaped slash: InvalidOrganizationName."""
    if b"%2f" in request.scope.get("raw_path", b"").lower():
        # It is a / by now: what stands in front of this service may have seen another path.
        raise InvalidOrganizationName("No organization, repository, build or version has a / in its name.")


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
