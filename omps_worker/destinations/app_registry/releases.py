# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release: check the package, decide, push, check again, make public.

The registry is the ledger. A bundle's digest is known before the push, so one query shows whether the content is
already released. If the answer to a push is lost, another query finds out what happened, never another push. Between
the query and the push no other process may push to the package, hence the lock. No process may rely on a query while an
earlier push may still be stored, hence the push mark. See ``common.locks.package_lock``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from omps_worker.common.errors import (
    OMPSInvalidVersionFormat,
    QuayCourierError,
    QuayPackageError,
    RegistryError,
    WorkerError,
)
from omps_worker.common.locks.package_lock import HeldPackage, PackageLock, held_too_long
from omps_worker.common.model import Bundle, Release
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import Caller
from omps_worker.destinations import Released, ReleaseOrder, versions
from omps_worker.destinations.app_registry.listing import PackageListing, has_opaque, opaque, released
from omps_worker.destinations.app_registry.package import PackageLocation
from omps_worker.destinations.release_history import below, contents_of, highest, shared

log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""The seconds that a package must have had no new release before the release that is to be the last is made."""

LONGEST_WAIT = 30.0
"""The most seconds to wait for that."""

CONFLICTS = 10
"""The number of incremented versions that may turn out to be taken before the push is given up."""


class Registry(Protocol):
    """The part of the app registry that a release needs; see ``client.AppRegistry``."""

    @property
    def url(self) -> str:
        """The base URL, which is part of the identity of a package."""
        ...

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
        """Query one package and return the listing of its releases."""
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
        """Push one release within ``timeout`` seconds."""
        ...

    def foresee(self, organization: str, repository: str, version: str, blob: bytes) -> None:
        """Raise the error of a push if it is known that the push would fail."""
        ...

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Make the package public."""
        ...

    def is_public(self, organization: str, repository: str, oauth_token: SecretStr) -> bool | None:
        """Return whether the package is public; None if that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class WantedRelease:
    """A release to make.

    ``version`` None means the next version. With ``new_release``, an existing release of the same content does not
    count. ``order`` prevents old content from being released on top of new. Without ``reverts``, released content is
    never released again. ``caller`` is the caller of the request; a release that an earlier attempt of this caller made
    counts as the result.
    """

    bundle: Bundle
    location: PackageLocation
    version: str | None = None
    new_release: bool = False
    order: ReleaseOrder | None = None
    reverts: bool = True
    caller: Caller | None = None

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return self.bundle.digest


class Releaser:
    """Makes releases from bundles in one registry, each content once.

    ``quiet_seconds`` is how long a package must have had no new release before the release that is to be the last of
    several is made. ``observer`` is notified of the duration of queries and pushes.
    """

    def __init__(
        self,
        registry: Registry,
        lock: PackageLock,
        default_version: str,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self.registry = registry
        self._lock = lock
        self._default_version = default_version
        self._quiet_seconds = quiet_seconds
        self._observer = observer

    def plan(self, wanted: WantedRelease) -> Released | None:
        """Return what ``release`` would do now: the version, and whether it would make the release. Changes nothing.

        Raises the RegistryError of the query, or that of the push as far as it can be predicted.
        """
        location = wanted.location
        plan = self._decide(self._look(location), wanted)
        if plan is not None and plan.created:
            self.registry.foresee(location.organization, location.repository, plan.version, wanted.bundle.blob)
        return plan

    def release(self, wanted: WantedRelease) -> Released | None:
        """Make sure that the content is released, and return the release; None if a newer build supersedes it.

        If the build reverts to earlier content, that content is released again. Raises the RegistryError of the query
        or of the push. A transient error means that nothing is known to have been stored; it is safe to retry.
        """
        location, incremented = wanted.location, wanted.version is None
        if incremented and not wanted.new_release and wanted.order is not None and wanted.order.goes_last():
            self._let_others_go_first(wanted)
        with self._locked(location) as hold:
            pushed: set[str] = set()
            for _ in range(CONFLICTS if incremented else 2):
                listing = self._look(location)
                digests = contents_of(listing.releases)
                for earlier in pushed:
                    if digests[earlier] == {wanted.digest}:
                        # A proxy sent the push twice: the first was stored, and the second was a conflict.
                        return released(listing, earlier, wanted.digest, created=True)
                plan = self._decide(listing, wanted)
                if plan is None or not plan.created:
                    return plan
                if wanted.caller is not None:
                    wanted.caller.check()
                    wanted.caller.note(plan.version)
                pushed.add(plan.version)
                made = self._push(hold, wanted, plan.version)
                if made is not None:
                    return made
        if not incremented:
            raise QuayCourierError(
                f"Failed to push: the registry says that {location} already has a release {wanted.version}, but does "
                "not list it."
            )
        raise QuayCourierError(
            f"Failed to push: {CONFLICTS} versions of {location} in a row were taken by others.", transient=True
        )

    @contextmanager
    def _locked(self, location: PackageLocation) -> Iterator[HeldPackage]:
        """Lock a package; only the wait for the lock is timed."""
        with ExitStack() as stack:
            with self._observer.timing("lock"):
                hold = stack.enter_context(
                    self._lock.hold(self.registry.url, location.organization, location.repository)
                )
            yield hold

    def _let_others_go_first(self, wanted: WantedRelease) -> None:
        """Wait until the package gets no new releases, unless the content is already there. Raises RegistryError."""
        log.info("letting other builds be released to %s first, if there are any", wanted.location)
        seen: tuple[Release, ...] | None = None
        end = quiet_until = time.monotonic() + LONGEST_WAIT
        while True:
            releases = self._look(wanted.location).releases
            if any(release.digest == wanted.digest for release in releases):
                return
            now = time.monotonic()
            if releases != seen:
                seen, quiet_until = releases, now + self._quiet_seconds
            if now >= min(quiet_until, end):
                return
            time.sleep(self._quiet_seconds / 8)

    def publish(self, location: PackageLocation, version: str) -> bool:
        """Make the package public if its organization is public. Return whether it is known to be public now.

        Raises QuayPackageError, whose text says that the release exists: a retry only makes the package public.
        """
        credentials = location.credentials
        if not credentials.public:
            return False
        if credentials.oauth is None:
            log.error(
                "organization %s is public but has no oauth_token: the visibility of %s is not changed",
                location.organization,
                location,
            )
            return False
        try:
            self.registry.publish(location.organization, location.repository, credentials.oauth)
        except RegistryError as error:
            raise QuayPackageError(
                f"Release {version} of {location} exists, but making it public failed: {error.message}",
                details=error.details,
                transient=error.transient,
                retry_after=error.retry_after,
            ) from error
        return True

    def _decide(self, listing: PackageListing, wanted: WantedRelease) -> Released | None:
        """Return the existing release of the content, or the release to make; None if a newer build supersedes it."""
        version, order = wanted.version, wanted.order
        known = {release.version for release in listing.releases}
        top = highest(listing.releases)
        tried = wanted.caller.earlier() if wanted.caller is not None else None
        if tried is not None and contents_of(listing.releases)[tried] == {wanted.digest}:
            return released(listing, tried, wanted.digest)
        if wanted.new_release:
            unpublished = self._unpublished_version(listing, top, wanted)
            if unpublished is not None:
                return released(listing, unpublished, wanted.digest)
        else:
            same = {release.version for release in listing.releases if release.digest == wanted.digest}
            if version is None:
                # A version with two contents does not count: a client that requests it may get either of them.
                same -= shared(listing.releases)
            if same and not (version is None and top not in same and self._belongs_on_top(listing, top, wanted)):
                return released(listing, versions.highest(same) or min(same), wanted.digest)
            if not same and order is not None and order.superseded(below(listing.releases, version), listing.releases):
                return None
        if version is None:
            try:
                return Released(versions.increment(known, self._default_version), created=True)
            except ValueError as error:
                raise OMPSInvalidVersionFormat(str(error)) from None
        if version in known:
            raise QuayCourierError(
                f"Failed to push: {wanted.location} has a release {version} already.",
                details={"quay_response": {}},
            )
        return Released(version, created=True)

    def _belongs_on_top(self, listing: PackageListing, top: str | None, wanted: WantedRelease) -> bool:
        """Return whether content that is already released, but not as ``top``, is to be released again."""
        order = wanted.order
        if order is None or not wanted.reverts:
            return False
        if top is not None and wanted.digest in contents_of(listing.releases)[top]:
            # A push of this content coincided with one of another client, and was to take the next version.
            return order.newest()
        return order.reverts(listing.releases, wanted.digest)

    def _unpublished_version(self, listing: PackageListing, top: str | None, wanted: WantedRelease) -> str | None:
        """Return the version that was pushed but could not be made public, so that only that step is left; else None.

        It is the highest version, or the requested one, has exactly this content, and is in a package that should be
        public and is not.
        """
        location, version = wanted.location, wanted.version or top
        oauth = location.credentials.oauth if location.credentials.public else None
        if oauth is None or version is None or contents_of(listing.releases)[version] != {wanted.digest}:
            return None
        public = self.registry.is_public(location.organization, location.repository, oauth)
        return version if public is False else None

    def _push(self, hold: HeldPackage, wanted: WantedRelease, version: str) -> Released | None:
        """Push, and check the result. Return None if another client turns out to have taken the version."""
        location = wanted.location
        deadline = hold.begin_push()
        timeout = deadline - time.monotonic()
        if timeout <= 0:
            raise held_too_long(str(location))
        try:
            with self._observer.timing("push"):
                self.registry.push(
                    location.organization,
                    location.repository,
                    version,
                    wanted.bundle.blob,
                    location.credentials.authorization,
                    timeout=timeout,
                )
        except QuayCourierError as error:
            if error.conflict:
                hold.end_push()
                log.info("%s %s was taken in the meantime: checking the package again", location, version)
                return None
            if not error.ambiguous:
                hold.end_push()
                raise
            return self._check_unclear_push(error, hold, wanted, version)
        except WorkerError:
            hold.end_push()
            raise
        return self._check_accepted_push(hold, wanted, version)

    def _check_unclear_push(
        self, error: QuayCourierError, hold: HeldPackage, wanted: WantedRelease, version: str
    ) -> Released | None:
        """Find out what a push did whose answer was unclear. Raises ``error`` if the release is not listed."""
        location = wanted.location
        log.warning(
            "the push of %s %s ended without a clear answer (%s): checking the package", location, version, error
        )
        try:
            listing = self._look(location)
        except RegistryError:
            raise error from None
        digests = contents_of(listing.releases)[version]
        if wanted.digest in digests:
            hold.end_push()
            return self._release_if_only_content(listing, wanted, version, digests)
        if has_opaque(listing, version):
            hold.end_push()
            raise opaque(location, version) from None
        if not error.pending:
            hold.end_push()
        raise error

    def _check_accepted_push(self, hold: HeldPackage, wanted: WantedRelease, version: str) -> Released | None:
        """Make sure that an accepted push is listed."""
        location = wanted.location
        try:
            listing = self._look(location)
        except RegistryError as error:
            log.warning("could not check %s %s after its push: %s", location, version, error)
            return Released(version, created=True, listed=False)
        if listing.exists is None:
            log.warning("%s was pushed, but these credentials may not read the package", location)
            return Released(version, created=True)
        digests = contents_of(listing.releases)[version]
        if wanted.digest not in digests:
            if has_opaque(listing, version):
                hold.end_push()
                raise opaque(location, version)
            fault = "is listed with other content" if digests else "is not listed"
            raise QuayCourierError(
                f"Failed to push: {location} {version} was accepted, but {fault}.",
                transient=True,
                details={"quay_response": {}},
            )
        hold.end_push()
        return self._release_if_only_content(listing, wanted, version, digests)

    def _release_if_only_content(
        self, listing: PackageListing, wanted: WantedRelease, version: str, digests: set[str]
    ) -> Released | None:
        """Return the release if the version has no other content.

        Otherwise return None for an incremented version, and raise QuayCourierError for a requested one.
        """
        if digests == {wanted.digest}:
            return released(listing, version, wanted.digest, created=True)
        if wanted.version is not None:
            raise QuayCourierError(
                f"Failed to push: {wanted.location} {version} has other content as well: another client pushed at the "
                "same time.",
                details={"quay_response": {}},
            )
        log.warning("another client pushed %s %s at the same time: taking the next version", wanted.location, version)
        return None

    def _look(self, location: PackageLocation) -> PackageListing:
        with self._observer.timing("look"):
            return self.registry.look(location.organization, location.repository, location.credentials.authorization)
