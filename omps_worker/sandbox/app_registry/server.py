# SPDX-License-Identifier: GPL-3.0-or-later
"""An app registry of one's own that behaves as Quay's last one did.

::

    with SandboxRegistry() as registry:
        registry.add_organization("community")
        authorization = registry.add_robot("community")          # "basic …"
        oauth_token = registry.add_oauth_token("community")
        ...                                                      # push to registry.url
        registry.releases("community", "etcd")

Credentials, privacy, answers and errors follow what was recorded on Quay's own code, its oddities
included: a wrong credential makes the caller anonymous, a listing with credentials ends after 100
packages, a first push leaves a private repository behind even when the release is refused, some
errors are a string. 429 is left to ``faults``.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from datetime import datetime, timezone
from types import TracebackType

from omps_worker.sandbox.app_registry.accounts import Accounts, RobotRole
from omps_worker.sandbox.app_registry.api import RegistryApi
from omps_worker.sandbox.app_registry.store import Repository, StoredRelease, tar_digest
from omps_worker.sandbox.faults import Faults
from omps_worker.sandbox.http_server import HttpServer, LoggedRequest

MAX_BODY = 1024 * 1024
"""Bytes of JSON that the nginx in front of Quay takes by default (``client_max_body_size``)."""


class SandboxRegistry:
    """The registry, as a context manager; also ``start``, ``stop`` (and start again), ``close``.

    ``max_body``: bytes of a request above which the answer is 413. ``racy``: as on Quay, pushes
    of one version at the same time may all be accepted, and the version is then listed more than
    once; otherwise the first one wins and the others get 409.
    """

    def __init__(self, *, racy: bool = False, max_body: int = MAX_BODY, tls: ssl.SSLContext | None = None) -> None:
        self.accounts = Accounts()
        self._api = RegistryApi(self.accounts, racy=racy)
        self._server = HttpServer(self._api.answer, max_body=max_body, tls=tls)
        self._api.stopping = self._server.stopping

    @property
    def url(self) -> str:
        """The base to which /cnr/… and /api/v1/… are appended."""
        return self._server.url

    @property
    def faults(self) -> Faults:
        """What goes wrong; empty at first."""
        return self._server.faults

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests so far."""
        return self._server.log

    def start(self) -> None:
        """Listen; after a stop on the same port, with everything still there."""
        self._server.start()

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        self._server.stop()

    def close(self) -> None:
        """Stop for good."""
        self._server.close()

    def __enter__(self) -> SandboxRegistry:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add_organization(self, name: str, owner: str | None = None) -> None:
        """An organization; ``owner`` names a user that exists, else one is made."""
        self.accounts.add_organization(name, owner)

    def add_user(self, name: str, password: str | None = None) -> str:
        """A user; returns the Authorization value, ``basic …``."""
        return self.accounts.add_user(name, password).authorization

    def add_robot(
        self, organization: str, name: str = "push", password: str | None = None, role: RobotRole = "creator"
    ) -> str:
        """The robot ``organization+name``; returns the Authorization value, ``basic …``."""
        return self.accounts.add_robot(organization, name, password, role).authorization

    def add_oauth_token(
        self,
        owner: str,
        token: str | None = None,
        *,
        scopes: Collection[str] = ("repo:admin",),
        expired: bool = False,
    ) -> str:
        """A token for changevisibility, of a user or of an organization's owner; returns it."""
        return self.accounts.add_oauth_token(owner, token, scopes, expired)

    def add_image_repository(self, organization: str, repository: str) -> None:
        """An image repository, which is no place for a package."""
        self._api.repositories[organization, repository] = Repository(image=True)

    def add_release(
        self,
        organization: str,
        repository: str,
        version: str,
        blob: bytes,
        *,
        public: bool = False,
        robot: str = "push",
        media_type: str = "helm",
    ) -> StoredRelease:
        """Store a release without a request and without asking whether it is there already."""
        with self._api.lock:
            package = self._api.repositories.setdefault(
                (organization, repository), Repository(public, owners={f"{organization}+{robot}"})
            )
            release = StoredRelease(version, media_type, tar_digest(blob), blob, datetime.now(timezone.utc))
            package.stored.append(release)
            return release

    def releases(self, organization: str, repository: str) -> tuple[StoredRelease, ...]:
        """What is stored of a package, in the order of the pushes; () also if it does not exist."""
        with self._api.lock:
            return tuple(self._api.repositories.get((organization, repository), Repository()).stored)

    def packages(self) -> tuple[tuple[str, str], ...]:
        """Organization and repository of every package."""
        with self._api.lock:
            return tuple(key for key, repository in self._api.repositories.items() if not repository.image)

    def is_public(self, organization: str, repository: str) -> bool | None:
        """Whether everybody can see the package; None if it does not exist."""
        found = self._api.repositories.get((organization, repository))
        return found.public if found else None
