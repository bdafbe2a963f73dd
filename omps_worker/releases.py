# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release: look, decide, push, look again, publish.

The registry is the ledger. A bundle's digest is known before the push, so one look tells whether
this very content is released already; an answer that was lost is found by another look, never by
another push. Between look and push nobody else may push to the package, hence the lock; and nobody
may look while an earlier push may still be stored, hence its mark. See ``locks``.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from omps_worker import versions
from omps_worker.errors import (
    OMPSInvalidVersionFormat,
    QuayCourierError,
    QuayPackageError,
    RegistryError,
    WorkerError,
)
from omps_worker.locks import Hold, PackageLock, held_too_long
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
        self,
        organization: str,
        repository: str,
        version: str,
        blob: bytes,
        authorization: SecretStr | None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Store one release, within so many seconds."""
        ...

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Let everybody see the package."""
        ...


class Order(Protocol):
    """Where a content belongs among those of newer builds; asked while the package is held."""

    def superseded(self, below: Set[str]) -> bool:
        """Whether something newer stands in the way.

        ``below``: the digests of the highest release, if this content would come out on top of it.
        """
        ...

    def newest(self) -> bool:
        """Whether there is nothing newer, so that this content belongs on top."""
        ...


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
        self,
        bundle: Bundle,
        organization: str,
        repository: str,
        version: str | None,
        credentials: Credentials,
        *,
        new_release: bool = False,
        order: Order | None = None,
    ) -> Released | None:
        """What ``release`` would do now: the version, and whether it would make it. Changes nothing."""
        package = self.registry.look(organization, repository, credentials.authorization)
        return self._decide(package, bundle, organization, repository, version, new_release=new_release, order=order)

    def release(
        self,
        bundle: Bundle,
        organization: str,
        repository: str,
        version: str | None,
        credentials: Credentials,
        *,
        new_release: bool = False,
        order: Order | None = None,
    ) -> Released | None:
        """Make sure that the content of ``bundle`` is released, and say as which version.

        ``version`` None: the next one. With ``new_release`` an older release of the same content
        does not count. ``order`` keeps old from coming out on top of new: None is returned when
        something newer stands in the way, and content that belongs on top and no longer is there is
        released again. Raises the RegistryError of the look or the push; a transient one means
        that nothing is known to have been stored, and trying again repeats nothing.
        """
        place = _Place(organization, repository, credentials)
        with self._lock.hold(self.registry.url, organization, repository) as hold:
            pushed: set[str] = set()
            for _ in range(CONFLICTS if version is None else 2):
                package = self._look(place)
                digests = _digests(package.releases)
                for done in pushed:
                    if digests[done] == {bundle.digest}:
                        # A proxy sent it twice: the first was stored, and the second a conflict.
                        return Released(done, created=True)
                plan = self._decide(
                    package, bundle, organization, repository, version, new_release=new_release, order=order
                )
                if plan is None or not plan.created:
                    return plan
                pushed.add(plan.version)
                if self._push(hold, bundle, place, plan.version, incremented=version is None):
                    return plan
        if version is not None:
            raise QuayCourierError(
                f"Failed to push: {place} has a release {version}, says the registry without listing it."
            )
        raise QuayCourierError(
            f"Failed to push: {CONFLICTS} versions of {place} in a row were taken by others.", transient=True
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
        order: Order | None,
    ) -> Released | None:
        known = {release.version for release in package.releases}
        top = versions.highest(known)
        if not new_release:
            same = {release.version for release in package.releases if release.digest == bundle.digest}
            if version is None:
                # Who asks for a version with two contents may get either: ours is not released by that.
                same -= _shared(package.releases)
            if same and not (version is None and top not in same and order is not None and order.newest()):
                return Released(versions.highest(same) or min(same), created=False)
            if not same and order is not None and order.superseded(_below(package, top, version)):
                return None
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

    def _push(self, hold: Hold, bundle: Bundle, place: _Place, version: str, *, incremented: bool) -> bool:
        """Push, and look what came of it; False if the version turns out to be another's."""
        until = hold.begin_push()
        timeout = until - time.monotonic()
        if timeout <= 0:
            raise held_too_long(str(place))
        try:
            self.registry.push(
                place.organization,
                place.repository,
                version,
                bundle.blob,
                place.credentials.authorization,
                timeout=timeout,
            )
        except QuayCourierError as error:
            if error.conflict:
                hold.end_push()
                log.info("%s %s was taken meanwhile: looking again", place, version)
                return False
            if not error.ambiguous:
                hold.end_push()
                raise
            return self._resolve(error, hold, bundle, place, version, incremented=incremented)
        except WorkerError:
            hold.end_push()
            raise
        return self._verify(hold, bundle, place, version, incremented=incremented)

    def _resolve(
        self, error: QuayCourierError, hold: Hold, bundle: Bundle, place: _Place, version: str, *, incremented: bool
    ) -> bool:
        """Find out by a look what a push did whose answer does not tell; raises ``error`` if it did nothing yet."""
        log.warning("the push of %s %s ended without a clear answer (%s): looking again", place, version, error)
        try:
            digests = _digests(self._look(place).releases)[version]
        except RegistryError:
            raise error from None
        if bundle.digest in digests:
            hold.end_push()
            return self._alone(bundle, place, version, digests, incremented=incremented)
        if not error.pending:
            hold.end_push()
        raise error

    def _verify(self, hold: Hold, bundle: Bundle, place: _Place, version: str, *, incremented: bool) -> bool:
        """Make sure that a push which was accepted is listed."""
        try:
            package = self._look(place)
        except RegistryError as error:
            log.warning("could not look at %s %s after its push: %s", place, version, error)
            return True
        if package.exists is None:
            log.warning("%s was pushed, but these credentials may not look at it", place)
            return True
        digests = _digests(package.releases)[version]
        if bundle.digest not in digests:
            what = "is listed with other content" if digests else "is not listed"
            raise QuayCourierError(
                f"Failed to push: {place} {version} was accepted, but {what}.",
                transient=True,
                details={"quay_response": {}},
            )
        hold.end_push()
        return self._alone(bundle, place, version, digests, incremented=incremented)

    def _alone(self, bundle: Bundle, place: _Place, version: str, digests: set[str], *, incremented: bool) -> bool:
        """Whether ours is the only content of the version."""
        if digests == {bundle.digest}:
            return True
        if not incremented:
            raise QuayCourierError(
                f"Failed to push: {place} {version} has other content as well: somebody pushed at the same time.",
                details={"quay_response": {}},
            )
        log.warning("somebody else pushed %s %s at the same time: taking the next version", place, version)
        return False

    def _look(self, place: _Place) -> Package:
        return self.registry.look(place.organization, place.repository, place.credentials.authorization)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a release goes."""

    organization: str
    repository: str
    credentials: Credentials

    def __str__(self) -> str:
        return f"{self.organization}/{self.repository}"


def _digests(releases: Iterable[Release]) -> defaultdict[str, set[str]]:
    """The contents under each version: more than one if pushes met."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for release in releases:
        if release.digest is not None:
            digests[release.version].add(release.digest)
    return digests


def _below(package: Package, top: str | None, version: str | None) -> Set[str]:
    """The contents of ``top``, the highest release, if ``version`` would come out on top of it."""
    if top is None or (version is not None and versions.highest((top, version)) == top):
        return frozenset()
    return _digests(package.releases)[top]


def _shared(releases: Iterable[Release]) -> set[str]:
    """The versions that have several contents."""
    return {version for version, digests in _digests(releases).items() if len(digests) > 1}
