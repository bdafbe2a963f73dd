# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release: look, decide, push, look again, publish.

The registry is the ledger. A bundle's digest is known before the push, so one look tells whether
this very content is released already; an answer that was lost is found by another look, never by
another push. Between look and push nobody else may push to the package, hence the lock.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from omps_worker import versions
from omps_worker.errors import OMPSInvalidVersionFormat, QuayCourierError, QuayPackageError, RegistryError
from omps_worker.model import Bundle, Release

log = logging.getLogger(__name__)

CONFLICTS = 10
"""How often an incremented version may turn out to be taken before the push is given up."""


class Package(Protocol):
    """What a look shows."""

    @property
    def exists(self) -> bool | None:
        """None: the registry says only that it is missing, or not ours to see."""
        ...

    @property
    def releases(self) -> tuple[Release, ...]:
        """Its releases, each version and content once."""
        ...


class Registry(Protocol):
    """The part of the app registry that a release needs; see ``registry.AppRegistry``."""

    @property
    def url(self) -> str:
        """The base URL, which is part of what a package is."""
        ...

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> Package:
        """The releases of one package."""
        ...

    def push(
        self, organization: str, repository: str, version: str, blob: bytes, authorization: SecretStr | None
    ) -> None:
        """Store one release."""
        ...

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Let everybody see the package."""
        ...


class PackageLock(Protocol):
    """Only one holder at a time works on a package."""

    def hold(self, registry: str, organization: str, repository: str) -> AbstractContextManager[None]:
        """Wait for the package and hold it."""
        ...


class ProcessLock:
    """A PackageLock among the threads of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, str, str], threading.Lock] = {}
        self._holders: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def hold(self, registry: str, organization: str, repository: str) -> Iterator[None]:
        """Wait for the package and hold it."""
        key = (registry, organization, repository)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
            self._holders[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._holders[key] -= 1
                if not self._holders[key]:
                    del self._holders[key], self._locks[key]


@dataclass(frozen=True, slots=True)
class Credentials:
    """How an organization lets us in.

    ``authorization`` is the whole header value for pushes, ``oauth`` the token for making
    packages public, which is done when ``public`` says so.
    """

    authorization: SecretStr | None
    oauth: SecretStr | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The release that holds the content; ``created``: by this very call."""

    version: str
    created: bool


class Releaser:
    """Turns bundles into releases of one registry, once each."""

    def __init__(self, registry: Registry, lock: PackageLock, default_version: str) -> None:
        self.registry = registry
        self._lock = lock
        self._default_version = default_version

    def plan(
        self, bundle: Bundle, organization: str, repository: str, version: str | None, credentials: Credentials
    ) -> Released:
        """What ``release`` would do now: the version, and whether it would make it. Changes nothing."""
        package = self.registry.look(organization, repository, credentials.authorization)
        return self._decide(package, bundle, organization, repository, version, new_release=False)

    def release(
        self,
        bundle: Bundle,
        organization: str,
        repository: str,
        version: str | None,
        credentials: Credentials,
        *,
        new_release: bool = False,
    ) -> Released:
        """Make sure that the content of ``bundle`` is released, and say as which version.

        ``version`` None: the next one. With ``new_release`` an older release of the same content
        does not count. Raises the RegistryError of the look or the push; a transient one means
        that nothing is known to have been stored, and trying again repeats nothing.
        """
        with self._lock.hold(self.registry.url, organization, repository):
            for _ in range(CONFLICTS):
                package = self.registry.look(organization, repository, credentials.authorization)
                plan = self._decide(package, bundle, organization, repository, version, new_release=new_release)
                if not plan.created:
                    return plan
                try:
                    self.registry.push(organization, repository, plan.version, bundle.blob, credentials.authorization)
                except QuayCourierError as error:
                    if error.conflict and version is None:
                        log.info("%s/%s %s was taken meanwhile: looking again", organization, repository, plan.version)
                        continue
                    if not error.ambiguous:
                        raise
                    self._find_after(error, bundle, organization, repository, plan.version, credentials)
                    return plan
                self._verify(bundle, organization, repository, plan.version, credentials)
                return plan
        raise QuayCourierError(
            f"Failed to push: {CONFLICTS} versions of {organization}/{repository} in a row were taken by others.",
            transient=True,
        )

    def publish(self, organization: str, repository: str, version: str, credentials: Credentials) -> bool:
        """Make the package public if its organization is; whether it is known to be public now.

        A failure says that the release exists: trying again only publishes.
        """
        if not credentials.public:
            return False
        if credentials.oauth is None:
            log.error(
                "organization %s is public but has no oauth_token: %s/%s stays as visible as it is",
                organization,
                organization,
                repository,
            )
            return False
        try:
            self.registry.publish(organization, repository, credentials.oauth)
        except RegistryError as error:
            raise QuayPackageError(
                f"Release {version} of {organization}/{repository} exists, but making it public failed: "
                f"{error.message}",
                details=error.details,
                transient=error.transient,
                retry_after=error.retry_after,
            ) from error
        return True

    def _decide(
        self,
        package: Package,
        bundle: Bundle,
        organization: str,
        repository: str,
        version: str | None,
        *,
        new_release: bool,
    ) -> Released:
        known = {release.version for release in package.releases}
        if not new_release:
            same = {release.version for release in package.releases if release.digest == bundle.digest}
            if same:
                return Released(versions.highest(same) or min(same), created=False)
        if version is None:
            try:
                return Released(versions.increment(known, self._default_version), created=True)
            except ValueError as error:
                raise OMPSInvalidVersionFormat(str(error)) from None
        if version in known:
            raise QuayCourierError(
                f"Failed to push: {organization}/{repository} has a release {version} with other content.",
                details={"quay_response": {}},
            )
        return Released(version, created=True)

    def _find_after(
        self,
        error: QuayCourierError,
        bundle: Bundle,
        organization: str,
        repository: str,
        version: str,
        credentials: Credentials,
    ) -> None:
        log.warning(
            "the push of %s/%s %s ended without a clear answer (%s): looking again",
            organization,
            repository,
            version,
            error,
        )
        try:
            shown = self._shown(organization, repository, version, credentials)
        except RegistryError:
            raise error from None
        if shown != {bundle.digest}:
            raise error

    def _verify(
        self, bundle: Bundle, organization: str, repository: str, version: str, credentials: Credentials
    ) -> None:
        try:
            shown = self._shown(organization, repository, version, credentials)
        except RegistryError as error:
            log.warning("could not look at %s/%s %s after its push: %s", organization, repository, version, error)
            return
        if shown - {bundle.digest}:
            raise QuayCourierError(
                f"Failed to push: {organization}/{repository} {version} was accepted, but holds other content: "
                "somebody else pushed to the package at the same time.",
                transient=True,
                details={"quay_response": {}},
            )

    def _shown(self, organization: str, repository: str, version: str, credentials: Credentials) -> set[str | None]:
        """The digests under one version: more than one if pushes met."""
        package = self.registry.look(organization, repository, credentials.authorization)
        return {release.digest for release in package.releases if release.version == version}
