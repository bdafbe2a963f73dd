# SPDX-License-Identifier: GPL-3.0-or-later
"""An image registry in memory that behaves like the reference registry, and misbehaves on request.

::

    with SandboxImageRegistry(login="token") as registry:
        registry.accounts.add("robot", "secret", push=("community/*",))
        ...                                                     # push to registry.url
        registry.manifest("community/catalog", "latest")

        registry.slow_tags = 0.5                                # reads of a tag that is being written answer 500
        registry.hide("community/catalog", "latest")            # it answers 404 once, though the tag is listed
        registry.lose_answer("PUT /v2/community/catalog/manifests/")     # stored, but the connection is cut
        registry.before("HEAD /v2/community/catalog/manifests/latest", foreign_writer)
        registry.faults.add(Fault("GET /v2/", status=200, body="<html>garbage</html>"))
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable

from omps_worker.sandbox.faults import Fault, Faults
from omps_worker.sandbox.http_server import MAX_BODY, HttpServer, Request, Response
from omps_worker.sandbox.image_registry.accounts import Accounts, TokenServer
from omps_worker.sandbox.image_registry.api import Hook, ImageApi, Login
from omps_worker.sandbox.image_registry.store import StoredManifest, StoredRepository


class SandboxImageRegistry(HttpServer):
    """The registry, as a context manager; also ``start``, ``stop`` (and start again), ``close``.

    ``login``: whether callers log in, and how. With ``token``, the token server is at ``/token`` of the same address.
    ``like_quay``: its token server makes repositories for those who may push, and hides missing ones from all others.
    ``relative_locations``: uploads are sent to an address without a host. ``page``: how many tags a page of a list
    has; 0: all. ``elsewhere``: downloads of blobs are led to a storage at another address, which refuses credentials.
    ``max_body``: bytes of a request above which the answer is 413.
    """

    def __init__(
        self,
        *,
        login: Login = "none",
        like_quay: bool = False,
        relative_locations: bool = False,
        page: int = 0,
        elsewhere: bool = False,
        max_body: int = MAX_BODY,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.accounts = Accounts()
        self.tokens = TokenServer(self.accounts)
        self._api = ImageApi(self.accounts, self.tokens, login)
        if like_quay:
            self.tokens.exists = lambda path: path in self.repositories()
            self.tokens.create = self._api.create
        self._api.relative_locations = relative_locations
        self._api.page = page
        super().__init__(self._answer, max_body=max_body, tls=tls)
        self._api.pause = self.stopping.wait
        self._storage = HttpServer(self._api.stored_blob, tls=tls) if elsewhere else None

    @property
    def host(self) -> str:
        """Host and port, as names of images have them."""
        return self.url.partition("://")[2]

    @property
    def storage_faults(self) -> Faults:
        """What goes wrong at the storage of blobs that are led elsewhere."""
        if self._storage is None:
            raise RuntimeError("this registry keeps its blobs itself")
        return self._storage.faults

    @property
    def slow_tags(self) -> float:
        """How many seconds the writing of a tag takes; reads of that tag answer 500 meanwhile."""
        return self._api.slow_tags

    @slow_tags.setter
    def slow_tags(self, seconds: float) -> None:
        self._api.slow_tags = seconds

    def start(self) -> None:
        """Listen; after a stop on the same port, with everything still there."""
        super().start()
        if self._storage is not None:
            self._storage.start()
            self._api.storage_url = self._storage.url
        self._api.url = self.url
        self._api.realm = f"{self.url}/token"

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        super().stop()
        if self._storage is not None:
            self._storage.stop()

    def close(self) -> None:
        """Stop, and give the ports back."""
        super().close()
        if self._storage is not None:
            self._storage.close()

    def before(self, match: str, action: Callable[[], object], *, times: int | None = 1, after: int = 0) -> None:
        """Run ``action`` before the registry answers a request whose ``METHOD path`` begins with this expression.

        So a foreign writer moves a tag between two calls. ``times`` and ``after`` as for a Fault.
        """
        with self._api.lock:
            self._api.hooks.append(Hook(re.compile(match), action, times, after))

    def hide(self, path: str, tag: str, *, times: int | None = 1) -> Fault:
        """Answer 404 to reads of a tag, though the list of tags has it."""
        error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": tag}}
        match = f"(GET|HEAD) /v2/{re.escape(path)}/manifests/{re.escape(tag)}$"
        return self.faults.add(Fault(match, status=404, body={"errors": [error]}, times=times))

    def lose_answer(self, match: str, *, status: int | None = None, times: int | None = 1) -> Fault:
        """Do what the request asks for, and answer with ``status``, or cut the connection without an answer."""
        if status is None:
            return self.faults.add(Fault(match, drop_answer=True, times=times))
        return self.faults.add(Fault(match, status=status, effect=True, times=times))

    def manifest(self, path: str, reference: str) -> StoredManifest | None:
        """Return the manifest at a tag or digest; None if there is none."""
        with self._api.lock:
            return self._api.repositories.get(path, StoredRepository()).manifest(reference)

    def tags(self, path: str) -> dict[str, str]:
        """Return the tags of a repository and the digests that they name."""
        with self._api.lock:
            return dict(self._api.repositories.get(path, StoredRepository()).tags)

    def blobs(self, path: str) -> dict[str, bytes]:
        """Return the blobs of a repository by digest."""
        with self._api.lock:
            return dict(self._api.repositories.get(path, StoredRepository()).blobs)

    def repositories(self) -> tuple[str, ...]:
        """Return the paths of all repositories that exist."""
        with self._api.lock:
            return tuple(path for path, repository in self._api.repositories.items() if repository.known)

    def put(self, path: str, reference: str, body: bytes, media_type: str, *blobs: bytes) -> str:
        """Store a manifest and blobs without a request and without checking them; return the manifest's digest."""
        manifest = StoredManifest(media_type, body)
        with self._api.lock:
            repository = self._api.repositories.setdefault(path, StoredRepository())
            repository.add_blobs(*blobs)
            repository.put(reference, manifest)
        return manifest.digest

    def move_tag(self, path: str, tag: str, digest: str) -> None:
        """Let a tag name another manifest, as another writer would."""
        with self._api.lock:
            self._api.repositories[path].tags[tag] = digest

    def rewrite(self, path: str, tag: str) -> bool:
        """Write the image at a tag again with another digest, as another writer would; return whether there is one."""
        with self._api.lock:
            present = self.manifest(path, tag)
            if present is not None:
                self.put(path, tag, present.body + b"\n", present.media_type)
            return present is not None

    def delete(self, path: str, digest: str) -> bool:
        """Delete a manifest and all tags that name it; return whether there was one."""
        with self._api.lock:
            return self._api.repositories[path].delete(digest)

    def lose_blob(self, path: str, digest: str) -> None:
        """Lose a blob, as garbage collection at the wrong moment does."""
        with self._api.lock:
            del self._api.repositories[path].blobs[digest]

    def _answer(self, request: Request) -> Response:
        if request.path == "/token" and request.method == "GET":
            return self.tokens.answer(request)
        return self._api.answer(request)
