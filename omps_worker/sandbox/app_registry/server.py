# SPDX-License-Identifier: GPL-3.0-or-later
"""A private app registry that behaves like Quay's last one.

::

    with SandboxRegistry() as registry:
        registry.add_organization("community")
        authorization = registry.add_robot("community")          # "basic …"
        oauth_token = registry.add_oauth_token("community")
        ...                                                      # push to registry.url
        registry.releases("community", "etcd")

Credentials, privacy, responses and errors follow recordings from Quay's own code, including its oddities: wrong
credentials make the caller anonymous, a listing with credentials ends after 100 packages, a first push leaves a
private repository behind even if the release is refused, and some errors are a string. Use ``faults`` for status 429.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from datetime import datetime, timezone

from omps_worker.sandbox.app_registry.accounts import Accounts, RobotRole
from omps_worker.sandbox.app_registry.api import RegistryApi
from omps_worker.sandbox.app_registry.store import Repository, StoredRelease, tar_digest
from omps_worker.sandbox.http_server import HttpServer

MAX_BODY = 1024 * 1024
"""The most bytes of JSON that the nginx in front of Quay accepts by default (``client_max_body_size``)."""


class SandboxRegistry(HttpServer):
    """An app registry, as a context manager; or use ``start``, ``stop`` and ``close``.

    A request of more than ``max_body`` bytes is answered with 413. With ``racy``, as on Quay, simultaneous pushes of
    one version may all be accepted; the version is then listed more than once. Without it, the first push wins and
    the others get 409.
    """

    def __init__(self, *, racy: bool = False, max_body: int = MAX_BODY, tls: ssl.SSLContext | None = None) -> None:
        self.accounts = Accounts()
        self._api = RegistryApi(self.accounts, racy=racy)
        super().__init__(self._api.answer, max_body=max_body, tls=tls)
        self._api.stopping = self.stopping

    def add_organization(self, name: str, owner: str | None = None) -> None:
        """Add an organization. ``owner`` names an existing user; without it, a user is added."""
        self.accounts.add_organization(name, owner)

    def add_user(self, name: str, password: str | None = None) -> str:
        """Add a user, and return the Authorization value, ``basic …``."""
        return self.accounts.add_user(name, password).authorization

    def add_robot(
        self, organization: str, name: str = "push", password: str | None = None, role: RobotRole = "creator"
    ) -> str:
        """Add the robot ``organization+name``, and return the Authorization value, ``basic …``."""
        return self.accounts.add_robot(organization, name, password, role).authorization

    def add_oauth_token(
        self,
        owner: str,
        token: str | None = None,
        *,
        scopes: Collection[str] = ("repo:admin",),
        expired: bool = False,
    ) -> str:
        """Add an OAuth token for changevisibility, of a user or of an organization's owner, and return it."""
        return self.accounts.add_oauth_token(owner, token, scopes, expired)

    def add_image_repository(self, organization: str, repository: str) -> None:
        """Add an image repository, to which packages cannot be pushed."""
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
        """Store a release without a request, and without checking whether it exists already."""
        with self._api.lock:
            package = self._api.repositories.setdefault(
                (organization, repository), Repository(public, owners={f"{organization}+{robot}"})
            )
            release = StoredRelease(version, media_type, tar_digest(blob), blob, datetime.now(timezone.utc))
            package.stored.append(release)
            return release

    def releases(self, organization: str, repository: str) -> tuple[StoredRelease, ...]:
        """Return the releases of a package in the order of the pushes; empty if the package does not exist."""
        with self._api.lock:
            return tuple(self._api.repositories.get((organization, repository), Repository()).stored)

    def packages(self) -> tuple[tuple[str, str], ...]:
        """Return organization and repository of each package."""
        with self._api.lock:
            return tuple(key for key, repository in self._api.repositories.items() if not repository.image)

    def is_public(self, organization: str, repository: str) -> bool | None:
        """Return whether the package is public; None if it does not exist."""
        found = self._api.repositories.get((organization, repository))
        return found.public if found else None
