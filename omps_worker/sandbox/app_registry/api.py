# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's implementation of the API of Quay's app registry.

Statuses and bodies were recorded from Quay's own code. Code that finds a fault raises a ``Refusal`` with the error
response.
"""

from __future__ import annotations

import base64
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

from omps_worker.sandbox.app_registry.accounts import Account, Accounts
from omps_worker.sandbox.app_registry.store import (
    Repository,
    StoredRelease,
    listed,
    rfc_date,
    same,
    tar_digest,
    version_fault,
)
from omps_worker.sandbox.http_server import Request, Response

CAP = 100
"""The most packages that the listing of a namespace contains for a caller with credentials."""

RACE_WINDOW = 0.05
"""Seconds between the check and the write of a push, if the registry is racy."""

_MEDIA_TYPES = frozenset({"helm", "kpm", "docker-compose"})
_REPOSITORY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}")
_IMAGE_REPOSITORY = "Cannot push an application to an image repository with the same name"
_BAD_VISIBILITY = """{0!r} is not one of ['public', 'private']

Failed validating 'enum' in schema['properties']['visibility']:
    {{'description': 'Visibility which the repository will start with',
     'enum': ['public', 'private'],
     'type': 'string'}}

On instance['visibility']:
    {0!r}"""


class Refusal(Exception):
    """An error response, raised by the code that finds the fault."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class RegistryApi:
    """Answers requests from ``accounts`` and ``repositories``. Safe to use from several threads."""

    def __init__(self, accounts: Accounts, *, racy: bool) -> None:
        self.accounts = accounts
        self.racy = racy
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lock = threading.RLock()
        self.stopping = threading.Event()

    def answer(self, request: Request) -> Response:
        """Return the response to one request."""
        # As under WSGI, the path is decoded before it is split.
        segments = tuple(unquote(request.path).split("/")[1:])
        try:
            return self._route(request, segments)
        except Refusal as refusal:
            return refusal.response

    def _route(self, request: Request, segments: tuple[str, ...]) -> Response:
        method, authorization = request.method, request.headers.get("authorization", "")
        if segments[:2] == ("api", "v1"):
            if segments[2:3] == ("repository",) and len(segments) == 5 and method == "GET":
                return self._show_repository(request, authorization, *segments[3:])
            if segments[2:3] == ("repository",) and segments[5:] == ("changevisibility",) and method == "POST":
                return self._change_visibility(request, authorization, *segments[3:5])
            return Response.html(404, "404 Not Found")
        if segments == ("cnr", "version") and method == "GET":
            return Response.json({"cnr-api": "0.2.7"})
        if segments == ("cnr", "api", "v1", "users", "login") and method == "POST":
            return self._login(request)
        if segments[:4] == ("cnr", "api", "v1", "packages"):
            caller = self.accounts.by_basic(authorization)
            return self._packages(request, caller, segments[4:])
        return Response.html(404, "404 Not Found")

    def _packages(self, request: Request, caller: Account | None, rest: tuple[str, ...]) -> Response:
        method = request.method
        if not rest and method == "GET":
            return self._list(caller, request.query)
        if len(rest) >= 2:
            found = self.repositories.get((rest[0], rest[1]))
            if found and found.image:
                raise Refusal(_image_repository(caller if method == "GET" else None))
        if len(rest) == 2 and method == "POST":
            return self._push(request, caller, *rest)
        if len(rest) in (2, 3) and method == "GET":
            return self._show(caller, rest, request.query.get("media_type"))
        if len(rest) == 4 and method == "GET":
            return self._show_one(caller, *rest)
        if len(rest) == 5 and rest[4] == "pull" and method == "GET":
            return self._pull(caller, *rest[:4])
        if len(rest) == 4 and method == "DELETE":
            return self._delete(caller, *rest)
        return Response.html(404, "404 Not Found")

    def _login(self, request: Request) -> Response:
        try:
            user = request.json()["user"]
            name, password = user["username"], user["password"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "invalid-usage", "Missing username or password")
        account = self.accounts.login(str(name), str(password))
        if account is None:
            return _error(401, "unauthorized-access", "Invalid Username or Password")
        return Response.json({"token": account.authorization})

    def _list(self, caller: Account | None, query: Mapping[str, str]) -> Response:
        with self.lock:
            visible = sorted(self._visible(caller, query.get("namespace")), key=lambda found: found[1].created_at)
            wanted = [found for found in visible if found[1].stored and query.get("query", "") in "/".join(found[0])]
            shown = wanted if caller is None else wanted[:CAP]
            return Response.json([listed(key, repository) for key, repository in shown])

    def _visible(self, caller: Account | None, namespace: str | None) -> Iterator[tuple[tuple[str, str], Repository]]:
        for key, repository in self.repositories.items():
            if not repository.image and namespace in (None, key[0]) and self._may_read(caller, key, repository):
                yield key, repository

    def _may_read(self, caller: Account | None, key: tuple[str, str], repository: Repository | None) -> bool:
        return bool(repository and repository.public) or self._may_write(caller, key, repository)

    def _may_write(self, caller: Account | None, key: tuple[str, str], repository: Repository | None) -> bool:
        if caller and repository and caller.name in repository.owners:
            return True
        return self.accounts.owns(caller, key[0])

    def _readable(self, caller: Account | None, namespace: str, name: str, scopes: tuple[str, ...]) -> Repository:
        key = (namespace, name)
        repository = self.repositories.get(key)
        allowed = self._may_write if "push" in scopes else self._may_read
        if not allowed(caller, key, repository):
            raise Refusal(_forbidden(key, scopes))
        if repository is None:
            raise Refusal(_not_found(key))
        return repository

    def _push(self, request: Request, caller: Account | None, namespace: str, name: str) -> Response:
        if not _REPOSITORY_NAME.fullmatch(name):
            return _error(400, "invalid-usage", f"invalid repository name: {namespace}/{name}")
        try:
            values = dict(request.json())
            # As on Quay, the repository is created first, and stays if the release is refused.
            repository = self._repository_for_push(caller, (namespace, name), values)
            for wanted in ("release", "media_type", "blob"):
                if wanted not in values:
                    return _error(400, "invalid-usage", f"Missing {wanted}")
            version, media_type = str(values["release"]), values["media_type"]
            fault = version_fault(version)
            if fault is not None:
                return _error(422, "invalid-release", fault, {"version": version})
            # As on Quay, characters that are not base64 are skipped, and an empty blob is a valid release.
            blob = base64.b64decode(values["blob"])
            if media_type not in _MEDIA_TYPES:
                raise ValueError(media_type)
            release = StoredRelease(version, media_type, tar_digest(blob), blob, datetime.now(timezone.utc))
        except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error):
            return Response.html(500, "500 Internal Server Error")
        return self._store(repository, release, force=request.query.get("force") == "true")

    def _repository_for_push(
        self, caller: Account | None, key: tuple[str, str], values: Mapping[str, Any]
    ) -> Repository:
        with self.lock:
            repository = self.repositories.get(key)
            if repository is None:
                if caller is None or not self.accounts.may_create(caller, key[0]):
                    raise Refusal(_forbidden(key, ("create",)))
                public = {"private": False, "public": True}[values.get("visibility", "private")]
                repository = self.repositories[key] = Repository(public, owners={caller.name})
            if not self._may_write(caller, key, repository):
                raise Refusal(_forbidden(key, ("push",)))
            return repository

    def _store(self, repository: Repository, release: StoredRelease, *, force: bool) -> Response:
        with self.lock:
            replaced = [known for known in repository.stored if same(known, release.version, release.media_type)]
            if replaced and not force:
                return _error(409, "package-exists", "package exists already")
            if not self.racy:
                repository.replace(replaced, release)
                return Response.json({"status": "ok"})
        self.stopping.wait(RACE_WINDOW)
        with self.lock:
            repository.replace(replaced, release)
        return Response.json({"status": "ok"})

    def _show(self, caller: Account | None, rest: tuple[str, ...], media_type: str | None) -> Response:
        with self.lock:
            repository = self._readable(caller, rest[0], rest[1], ("pull",))
            shown = [
                {**release.manifest, "package": f"{rest[0]}/{rest[1]}", "release": release.version}
                for release in repository.stored
                if rest[2:] in ((), (release.version,)) and media_type in (None, release.media_type)
            ]
        return Response.json(shown)

    def _one(self, caller: Account | None, namespace: str, name: str, version: str, media_type: str) -> StoredRelease:
        key = (namespace, name)
        with self.lock:
            repository = self._readable(caller, namespace, name, ("pull",))
            for release in repository.stored:
                if same(release, version, media_type):
                    return release
            if any(release.version == version for release in repository.stored):
                raise Refusal(_not_found(key, version, media_type))
        message = f"No release match '{version}' for package '{namespace}/{name}'"
        details = {"package": f"{namespace}/{name}", "release_query": version}
        raise Refusal(_error(404, "package-release-not-found", message, details))

    def _show_one(self, caller: Account | None, namespace: str, name: str, version: str, media_type: str) -> Response:
        release = self._one(caller, namespace, name, version, media_type)
        package = {"package": f"{namespace}/{name}", "release": version}
        return Response.json({"channels": [], **release.manifest, **package})

    def _pull(self, caller: Account | None, namespace: str, name: str, version: str, media_type: str) -> Response:
        release = self._one(caller, namespace, name, version, media_type)
        file_name = f"{namespace}_{name}_{version}.tar.gz"
        return Response(200, release.blob, "application/x-gzip", {"Content-Disposition": file_name})

    def _delete(self, caller: Account | None, namespace: str, name: str, version: str, media_type: str) -> Response:
        with self.lock:
            repository = self._readable(caller, namespace, name, ("pull", "push"))
            remaining = [release for release in repository.stored if not same(release, version, media_type)]
            if len(remaining) == len(repository.stored):
                full = f"application/vnd.cnr.package-manifest.{media_type}.v0.json"
                return _not_found((namespace, name), version, full)
            repository.stored = remaining
        return Response.json({"package": f"{namespace}/{name}", "release": version, "status": "deleted"})

    def _show_repository(self, request: Request, authorization: str, namespace: str, name: str) -> Response:
        token = self.accounts.by_bearer(authorization)
        with self.lock:
            repository = self.repositories.get((namespace, name))
            account = token.account if token else None
            if not self._may_read(account, (namespace, name), repository):
                return _api_error(request, 401 if token is None else 403, "insufficient_scope", "Unauthorized")
            if repository is None:
                return _api_error(request, 404, "not_found", "Not Found")
            releases = [
                {"name": stored.version, "last_modified": rfc_date(stored.created_at), "channels": []}
                for stored in repository.stored
            ]
        admin = self._may_write(account, (namespace, name), repository)
        return Response.json(
            {
                "namespace": namespace,
                "name": name,
                "kind": "image" if repository.image else "application",
                "description": None,
                "is_public": repository.public,
                "is_organization": self.accounts.organization(namespace) is not None,
                "is_starred": False,
                "channels": [],
                "releases": releases,
                "state": "NORMAL",
                "is_free_account": True,
                "can_write": admin,
                "can_admin": admin,
            }
        )

    def _change_visibility(self, request: Request, authorization: str, namespace: str, name: str) -> Response:
        token = self.accounts.by_bearer(authorization)
        if token is None:
            return Response.json({"error": "CSRF token was invalid or missing."}, 403, "text/html; charset=utf-8")
        with self.lock:
            repository = self.repositories.get((namespace, name))
            if "repo:admin" not in token.scopes or not self._may_write(token.account, (namespace, name), repository):
                return _api_error(request, 403, "insufficient_scope", "Unauthorized")
            try:
                wanted = request.json()["visibility"]
            except (ValueError, KeyError, TypeError):
                return _api_error(request, 400, "invalid_request", "Missing JSON body")
            if wanted not in ("public", "private"):
                return _api_error(request, 400, "invalid_request", _BAD_VISIBILITY.format(wanted))
            if repository is None:
                return Response.json(None)
            if wanted == "private":
                return _api_error(request, 402, "exceeds_license", "Payment Required")
            repository.public = True
        return Response.json({"success": True})


def _api_error(request: Request, status: int, kind: str, message: str) -> Response:
    # The errors of Quay's own API differ in form from those of its app registry.
    body = {
        "detail": message,
        "error_message": message,
        "error_type": kind,
        "title": kind,
        "type": f"http://{request.headers.get('host', '')}/api/v1/error/{kind}",
        "status": status,
    }
    return Response.json(body, status)


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    return Response.json({"error": {"code": code, "details": details or {}, "message": message}}, status)


def _forbidden(key: tuple[str, str], scopes: tuple[str, ...]) -> Response:
    package = "/".join(key)
    details = {"package": package, "scopes": list(scopes)}
    return _error(403, "forbidden", f"Unauthorized access for: {package}", details)


def _not_found(key: tuple[str, str], version: str | None = None, media_type: str | None = None) -> Response:
    package = "/".join(key)
    message = f"package {package} doesn't exist, v: {version}, type: {media_type}"
    details = {"media_type": media_type, "package": package, "release": version}
    return _error(404, "package-not-found", message, details)


def _image_repository(caller: Account | None) -> Response:
    message = f"{_IMAGE_REPOSITORY} (authorized: {caller.description})" if caller else _IMAGE_REPOSITORY
    return Response.json({"error": message}, 405, "text/html; charset=utf-8")
