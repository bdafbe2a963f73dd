# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of docker's registry API, version 2, as the sandbox answers them.

Statuses and bodies are those of the reference registry, 2.8, including that it answers 500 to reads of a tag while the
tag is being written (``slow_tags``), and null as the tags of a repository whose last tag was deleted.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

from omps_worker.sandbox.http_server import Request, Response
from omps_worker.sandbox.image_registry.accounts import SERVICE, Account, Accounts, TokenServer
from omps_worker.sandbox.image_registry.store import (
    DIGEST,
    StoredManifest,
    StoredRepository,
    digest_of,
    manifest_fault,
)

Login = Literal["none", "basic", "token"]

_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_ROUTE = re.compile(r"/v2/(?P<name>[^?]+?)/(?P<kind>manifests|blobs/uploads|blobs|tags)/(?P<rest>[^/]*)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


@dataclass
class Hook:
    """Something that is done before a request is answered."""

    pattern: re.Pattern[str]
    action: Callable[[], object]
    times: int | None
    after: int = 0

    def is_due(self, line: str) -> bool:
        """Return whether the hook is to be run before this request, and count that."""
        if self.times == 0 or not self.pattern.match(line):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Refusal(Exception):
    """Carries an error answer out of whatever found the fault."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class ImageApi:
    """Answers requests; from any number of threads. The attributes are the switches of the server."""

    def __init__(self, accounts: Accounts, tokens: TokenServer, login: Login) -> None:
        self.accounts = accounts
        self.tokens = tokens
        self.login = login
        self.url = ""
        self.realm = ""
        self.storage_url = ""
        self.relative_locations = False
        self.page = 0
        self.slow_tags = 0.0
        self.repositories: dict[str, StoredRepository] = {}
        self.lock = threading.RLock()
        self.hooks: list[Hook] = []
        self.pause: Callable[[float], object] = lambda _seconds: None
        self._uploads: dict[str, str] = {}
        self._being_written: list[tuple[str, str]] = []

    def answer(self, request: Request) -> Response:
        """Return the answer to one request."""
        line = f"{request.method} {unquote(request.path)}"
        with self.lock:
            due = [hook.action for hook in self.hooks if hook.is_due(line)]
        for action in due:
            action()
        try:
            response = self._route(request)
        except Refusal as refusal:
            response = refusal.response
        return _with_headers(response, {"Docker-Distribution-Api-Version": "registry/2.0"})

    def create(self, path: str) -> None:
        """Make an empty repository."""
        with self.lock:
            self.repositories.setdefault(path, StoredRepository()).known = True

    def stored_blob(self, request: Request) -> Response:
        """Return the answer of the storage to which downloads of blobs are led."""
        if "authorization" in request.headers:
            return Response.html(400, "Only one auth mechanism allowed")
        with self.lock:
            for repository in self.repositories.values():
                if request.path[1:] in repository.blobs and request.query.get("signature"):
                    return Response(200, repository.blobs[request.path[1:]], "application/octet-stream")
        return Response.html(403, "403 Forbidden")

    def _route(self, request: Request) -> Response:
        if request.path == "/v2/":
            self._check_login(request, None)
            return Response.json({})
        match = _ROUTE.fullmatch(request.path)
        if match is None or not _NAME.fullmatch(match["name"]):
            return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")
        name, kind, rest = match["name"], match["kind"], unquote(match["rest"])
        self._check_login(request, name)
        repository = self.repositories.get(name, StoredRepository())
        if kind == "tags" and rest == "list" and request.method == "GET":
            return self._tags(request, name, repository)
        if kind == "manifests":
            return self._manifests(request, name, rest, repository)
        if kind == "blobs/uploads":
            return self._upload(request, name, rest)
        if kind == "blobs" and request.method in ("GET", "HEAD"):
            return self._blob(request, rest, repository)
        return Response(405, b"Method not allowed\n", "text/plain; charset=utf-8")

    def _check_login(self, request: Request, name: str | None) -> None:
        """Raise Refusal if the caller may not do this."""
        authorization = request.headers.get("authorization", "")
        action = _ACTIONS.get(request.method, "push")
        if self.login == "none":
            return
        if self.login == "basic":
            account = self.accounts.by_basic(authorization)
            if account is None:
                raise Refusal(_unauthorized(f'Basic realm="{SERVICE}"', name))
            self._check_rights(account, name, action)
            return
        challenge = f'Bearer realm="{self.realm}",service="{SERVICE}"'
        wanted = [(name, "pull,push" if action == "push" else action)] if name else []
        if name and "mount" in request.query:
            wanted.append((request.query.get("from", ""), "pull"))
        if wanted:
            challenge += f',scope="{" ".join(f"repository:{path}:{actions}" for path, actions in wanted)}"'
        if not authorization.lower().startswith("bearer "):
            raise Refusal(_unauthorized(challenge, name))
        claims = self.tokens.claims(authorization)
        if claims is None:
            raise Refusal(_unauthorized(challenge + ',error="invalid_token"', name))
        granted = {(each["name"], action) for each in claims["access"] for action in each["actions"]}
        for path, actions in wanted:
            if not {(path, each) for each in actions.split(",")} <= granted:
                raise Refusal(_unauthorized(challenge + ',error="insufficient_scope"', name))

    def _check_rights(self, account: Account, name: str | None, action: str) -> None:
        if name is not None and not self.accounts.allowed(account, name, (action,)):
            raise Refusal(_error(403, "DENIED", "requested access to the resource is denied"))

    def _tags(self, request: Request, name: str, repository: StoredRepository) -> Response:
        with self.lock:
            if not repository.known:
                return _error(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
            tags = sorted(repository.tags)
        last = request.query.get("last")
        left = [tag for tag in tags if last is None or tag > last]
        if not self.page or len(left) <= self.page:
            return Response.json({"name": name, "tags": left or None})
        response = Response.json({"name": name, "tags": left[: self.page]})
        following = f"/v2/{name}/tags/list?last={quote(left[self.page - 1])}&n={self.page}"
        return _with_headers(response, {"Link": f'<{following}>; rel="next"'})

    def _manifests(self, request: Request, name: str, reference: str, repository: StoredRepository) -> Response:
        if request.method == "PUT":
            return self._put_manifest(request, name, reference)
        if request.method == "DELETE":
            return self._delete_manifest(reference, repository)
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"Method not allowed\n", "text/plain; charset=utf-8")
        with self.lock:
            if (name, reference) in self._being_written:
                return _error(500, "UNKNOWN", "unknown error", {})
            found = repository.manifest(reference)
        if found is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Tag": reference})
        if ".oci." in found.media_type and found.media_type not in request.headers.get("accept", ""):
            message = "OCI manifest found, but accept header does not support OCI manifests"
            return _error(404, "MANIFEST_UNKNOWN", message)
        return Response(200, found.body, found.media_type, {"Docker-Content-Digest": found.digest})

    def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        manifest = StoredManifest(request.headers.get("content-type", ""), request.body)
        if not DIGEST.fullmatch(reference) and not _TAG.fullmatch(reference):
            return _error(400, "TAG_INVALID", "manifest tag did not match URI")
        if manifest_fault(manifest.body, manifest.media_type) is not None:
            return _error(400, "MANIFEST_INVALID", "manifest invalid", {})
        if DIGEST.fullmatch(reference) and reference != manifest.digest:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        with self.lock:
            repository = self.repositories.setdefault(name, StoredRepository())
            missing = repository.missing(json.loads(manifest.body))
            self._being_written.append((name, reference))
        try:
            if missing:
                what = {"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}
                errors = [{**what, "detail": each} for each in missing]
                return Response.json({"errors": errors}, 400)
            if self.slow_tags:
                self.pause(self.slow_tags)
            with self.lock:
                repository.put(reference, manifest)
        finally:
            with self.lock:
                self._being_written.remove((name, reference))
        headers = {"Docker-Content-Digest": manifest.digest, "Location": f"/v2/{name}/manifests/{manifest.digest}"}
        return Response(201, headers=headers)

    def _delete_manifest(self, reference: str, repository: StoredRepository) -> Response:
        if not DIGEST.fullmatch(reference):
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        with self.lock:
            if not repository.delete(reference):
                return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return Response(202)

    def _blob(self, request: Request, digest: str, repository: StoredRepository) -> Response:
        with self.lock:
            content = repository.blobs.get(digest)
        if content is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)
        headers = {"Docker-Content-Digest": digest}
        if self.storage_url and request.method == "GET":
            elsewhere = {**headers, "Location": f"{self.storage_url}/{digest}?signature={secrets.token_hex(8)}"}
            return Response(307, headers=elsewhere)
        return Response(200, content, "application/octet-stream", headers)

    def _upload(self, request: Request, name: str, upload: str) -> Response:
        if request.method == "POST" and not upload:
            return self._begin_upload(request, name)
        with self.lock:
            if self._uploads.pop(upload, None) != name:
                return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {})
        if request.method == "DELETE":
            return Response(204)
        if request.method != "PUT":
            return Response(405, b"Method not allowed\n", "text/plain; charset=utf-8")
        digest = digest_of(request.body)
        if request.query.get("digest") != digest:
            message = "provided digest did not match uploaded content"
            return _error(400, "DIGEST_INVALID", message, {"Digest": request.query.get("digest"), "Reason": {}})
        with self.lock:
            self.repositories.setdefault(name, StoredRepository()).blobs[digest] = request.body
        return self._blob_created(name, digest)

    def _begin_upload(self, request: Request, name: str) -> Response:
        mounted, source = request.query.get("mount", ""), request.query.get("from", "")
        with self.lock:
            content = self.repositories.get(source, StoredRepository()).blobs.get(mounted)
            if content is not None:
                self.repositories.setdefault(name, StoredRepository()).blobs[mounted] = content
                return self._blob_created(name, mounted)
            upload = secrets.token_hex(16)
            self._uploads[upload] = name
        location = f"/v2/{name}/blobs/uploads/{upload}?_state={secrets.token_urlsafe(24)}"
        base = "" if self.relative_locations else self.url
        return Response(202, headers={"Location": base + location, "Docker-Upload-Uuid": upload, "Range": "0-0"})

    def _blob_created(self, name: str, digest: str) -> Response:
        location = ("" if self.relative_locations else self.url) + f"/v2/{name}/blobs/{digest}"
        return Response(201, headers={"Docker-Content-Digest": digest, "Location": location})


def _with_headers(response: Response, headers: dict[str, str]) -> Response:
    return Response(response.status, response.body, response.content_type, {**response.headers, **headers})


def _error(status: int, code: str, message: str, detail: Any = None) -> Response:
    error = (
        {"code": code, "message": message} if detail is None else {"code": code, "message": message, "detail": detail}
    )
    return Response.json({"errors": [error]}, status, "application/json; charset=utf-8")


def _unauthorized(challenge: str, name: str | None) -> Response:
    detail = [{"Type": "repository", "Class": "", "Name": name, "Action": "pull"}] if name else None
    response = _error(401, "UNAUTHORIZED", "authentication required", detail)
    return _with_headers(response, {"Www-Authenticate": challenge})
