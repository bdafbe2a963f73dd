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
from omps_worker.common.locks import HeldPackage, PackageLock, held_too_long
from omps_worker.common.model import Bundle, Release
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.push_request import Caller
from omps_worker.destinations import Released, ReleaseOrder
from omps_worker.destinations.app_registry import versions
from omps_worker.destinations.app_registry.listing import PackageListing, has_opaque, opaque, released
from omps_worker.destinations.app_registry.package import PackageLocation
from omps_worker.destinations.app_registry.release_history import below, contents_of, highest, shared

log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""For how long no release of a package may have been made until one that is to be the last is made."""

LONGEST_WAIT = 30.0
"""How many seconds one waits for that at most."""

CONFLICTS = 10
"""How often an incremented version may turn out to be taken before the push is given up."""


class Registry(Protocol):
    """The part of the app registry that a release needs; see ``client.AppRegistry``."""

    @property
    def url(self) -> str:
        """The base URL, which is part of what a package is."""
        ...

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
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

    def foresee(self, organization: str, repository: str, version: str, blob: bytes) -> None:
        """Raise with what a push would end, if that is known."""
        ...

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Let everybody see the package."""
        ...

    def is_public(self, organization: str, repository: str, oauth_token: SecretStr) -> bool | None:
        """Whether everybody sees it; None if that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class WantedRelease:
    """What is to be released.

    ``version`` None: as the next one. With ``new_release`` an older release of the same content does
    not count. ``order`` keeps old from coming out on top of new. Without ``reverts``, content that is
    released is never released again. ``caller``: for whom; what an earlier try of theirs released is taken.
    """

    bundle: Bundle
    place: PackageLocation
    version: str | None = None
    new_release: bool = False
    order: ReleaseOrder | None = None
    reverts: bool = True
    caller: Caller | None = None

    @property
    def digest(self) -> str:
        """That of the content."""
        return self.bundle.digest


class Releaser:
    """Turns bundles into releases of one registry, once each.

    ``quiet_seconds``: for so long there must be no new release of a package until one that is to be
    the last of several is made. ``observer`` hears how long looks and pushes take.
    """

    def __init__(
        self,
        registry: Registry,
        lock: PackageLock,
        default_version: str,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        observer: Observer = SILENT,
    ) -> None:
        self.registry = registry
        self._lock = lock
        self._default_version = default_version
        self._quiet_seconds = quiet_seconds
        self._observer = observer

    def plan(self, wanted: WantedRelease) -> Released | None:
        """What ``release`` would do now: the version, and whether it would make it. Changes nothing.

        Raises the RegistryError of the look, or with which the push would end as far as that can be known.
        """
        place = wanted.place
        plan = self._decide(self._look(place), wanted)
        if plan is not None and plan.created:
            self.registry.foresee(place.organization, place.repository, plan.version, wanted.bundle.blob)
        return plan

    def release(self, wanted: WantedRelease) -> Released | None:
        """Make sure that the content is released, and say as which version.

        None is returned when something newer stands in the way; a build that went back to an earlier
        content has that released again. Raises the RegistryError of the look or the push; a
        transient one means that nothing is known to have been stored, and trying again repeats
        nothing.
        """
        place, incremented = wanted.place, wanted.version is None
        if incremented and not wanted.new_release and wanted.order is not None and wanted.order.goes_last():
            self._let_others_go_first(wanted)
        with self._hold(place) as hold:
            pushed: set[str] = set()
            for _ in range(CONFLICTS if incremented else 2):
                package = self._look(place)
                digests = contents_of(package.releases)
                for done in pushed:
                    if digests[done] == {wanted.digest}:
                        # A proxy sent it twice: the first was stored, and the second a conflict.
                        return released(package, done, wanted.digest, created=True)
                plan = self._decide(package, wanted)
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
                f"Failed to push: {place} has a release {wanted.version}, says the registry without listing it."
            )
        raise QuayCourierError(
            f"Failed to push: {CONFLICTS} versions of {place} in a row were taken by others.", transient=True
        )

    @contextmanager
    def _hold(self, place: PackageLocation) -> Iterator[HeldPackage]:
        """The lock of a package; only the wait for it is timed."""
        with ExitStack() as held:
            with self._observer.timing("lock"):
                hold = held.enter_context(self._lock.hold(self.registry.url, place.organization, place.repository))
            yield hold

    def _let_others_go_first(self, wanted: WantedRelease) -> None:
        """Wait until the package is quiet, unless the content is there already. Raises RegistryError."""
        log.info("letting others release to %s first, if there are any", wanted.place)
        seen: tuple[Release, ...] | None = None
        end = quiet_until = time.monotonic() + LONGEST_WAIT
        while True:
            releases = self._look(wanted.place).releases
            if any(release.digest == wanted.digest for release in releases):
                return
            now = time.monotonic()
            if releases != seen:
                seen, quiet_until = releases, now + self._quiet_seconds
            if now >= min(quiet_until, end):
                return
            time.sleep(self._quiet_seconds / 8)

    def publish(self, place: PackageLocation, version: str) -> bool:
        """Make the package public if its organization is; whether it is known to be public now.

        A failure says that the release exists: trying again only publishes.
        """
        credentials = place.credentials
        if not credentials.public:
            return False
        if credentials.oauth is None:
            log.error(
                "organization %s is public but has no oauth_token: %s stays as visible as it is",
                place.organization,
                place,
            )
            return False
        try:
            self.registry.publish(place.organization, place.repository, credentials.oauth)
        except RegistryError as error:
            raise QuayPackageError(
                f"Release {version} of {place} exists, but making it public failed: {error.message}",
                details=error.details,
                transient=error.transient,
                retry_after=error.retry_after,
            ) from error
        return True

    def _decide(self, package: PackageListing, wanted: WantedRelease) -> Released | None:
        version, order = wanted.version, wanted.order
        known = {release.version for release in package.releases}
        top = highest(package.releases)
        tried = wanted.caller.earlier() if wanted.caller is not None else None
        if tried is not None and contents_of(package.releases)[tried] == {wanted.digest}:
            return released(package, tried, wanted.digest)
        if wanted.new_release:
            unfinished = self._unfinished(package, top, wanted)
            if unfinished is not None:
                return released(package, unfinished, wanted.digest)
        else:
            same = {release.version for release in package.releases if release.digest == wanted.digest}
            if version is None:
                # Who asks for a version with two contents may get either: ours is not released by that.
                same -= shared(package.releases)
            if same and not (version is None and top not in same and self._belongs_on_top(package, top, wanted)):
                return released(package, versions.highest(same) or min(same), wanted.digest)
            if not same and order is not None and order.superseded(below(package.releases, version), package.releases):
                return None
        if version is None:
            try:
                return Released(versions.increment(known, self._default_version), created=True)
            except ValueError as error:
                raise OMPSInvalidVersionFormat(str(error)) from None
        if version in known:
            raise QuayCourierError(
                f"Failed to push: {wanted.place} has a release {version} already.",
                details={"quay_response": {}},
            )
        return Released(version, created=True)

    def _belongs_on_top(self, package: PackageListing, top: str | None, wanted: WantedRelease) -> bool:
        """Whether content that is released already, but not as ``top``, is to be released again."""
        order = wanted.order
        if order is None or not wanted.reverts:
            return False
        if top is not None and wanted.digest in contents_of(package.releases)[top]:
            # A push of ours met somebody else's, and it was to take the next version.
            return order.newest()
        return order.reverts(package.releases, wanted.digest)

    def _unfinished(self, package: PackageListing, top: str | None, wanted: WantedRelease) -> str | None:
        """The version whose push worked and whose publishing failed: then that is what is left to do.

        It is the highest, or the one that is asked for, of the very content, in a package that should
        be public and is not.
        """
        place, version = wanted.place, wanted.version or top
        oauth = place.credentials.oauth if place.credentials.public else None
        if oauth is None or version is None or contents_of(package.releases)[version] != {wanted.digest}:
            return None
        public = self.registry.is_public(place.organization, place.repository, oauth)
        return version if public is False else None

    def _push(self, hold: HeldPackage, wanted: WantedRelease, version: str) -> Released | None:
        """Push, and look what came of it; None if the version turns out to be another's."""
        place = wanted.place
        until = hold.begin_push()
        timeout = until - time.monotonic()
        if timeout <= 0:
            raise held_too_long(str(place))
        try:
            with self._observer.timing("push"):
                self.registry.push(
                    place.organization,
                    place.repository,
                    version,
                    wanted.bundle.blob,
                    place.credentials.authorization,
                    timeout=timeout,
                )
        except QuayCourierError as error:
            if error.conflict:
                hold.end_push()
                log.info("%s %s was taken meanwhile: looking again", place, version)
                return None
            if not error.ambiguous:
                hold.end_push()
                raise
            return self._resolve(error, hold, wanted, version)
        except WorkerError:
            hold.end_push()
            raise
        return self._verify(hold, wanted, version)

    def _resolve(
        self, error: QuayCourierError, hold: HeldPackage, wanted: WantedRelease, version: str
    ) -> Released | None:
        """Find out by a look what a push did whose answer does not tell; raises ``error`` if it did nothing yet."""
        place = wanted.place
        log.warning("the push of %s %s ended without a clear answer (%s): looking again", place, version, error)
        try:
            package = self._look(place)
        except RegistryError:
            raise error from None
        digests = contents_of(package.releases)[version]
        if wanted.digest in digests:
            hold.end_push()
            return self._alone(package, wanted, version, digests)
        if has_opaque(package, version):
            hold.end_push()
            raise opaque(place, version) from None
        if not error.pending:
            hold.end_push()
        raise error

    def _verify(self, hold: HeldPackage, wanted: WantedRelease, version: str) -> Released | None:
        """Make sure that a push which was accepted is listed."""
        place = wanted.place
        try:
            package = self._look(place)
        except RegistryError as error:
            log.warning("could not look at %s %s after its push: %s", place, version, error)
            return Released(version, created=True, listed=False)
        if package.exists is None:
            log.warning("%s was pushed, but these credentials may not look at it", place)
            return Released(version, created=True)
        digests = contents_of(package.releases)[version]
        if wanted.digest not in digests:
            if has_opaque(package, version):
                hold.end_push()
                raise opaque(place, version)
            what = "is listed with other content" if digests else "is not listed"
            raise QuayCourierError(
                f"Failed to push: {place} {version} was accepted, but {what}.",
                transient=True,
                details={"quay_response": {}},
            )
        hold.end_push()
        return self._alone(package, wanted, version, digests)

    def _alone(
        self, package: PackageListing, wanted: WantedRelease, version: str, digests: set[str]
    ) -> Released | None:
        """The release, if ours is the only content of the version."""
        if digests == {wanted.digest}:
            return released(package, version, wanted.digest, created=True)
        if wanted.version is not None:
            raise QuayCourierError(
                f"Failed to push: {wanted.place} {version} has other content as well: somebody pushed at the same "
                "time.",
                details={"quay_response": {}},
            )
        log.warning("somebody else pushed %s %s at the same time: taking the next version", wanted.place, version)
        return None

    def _look(self, place: PackageLocation) -> PackageListing:
        with self._observer.timing("look"):
            return self.registry.look(place.organization, place.repository, place.credentials.authorization)
