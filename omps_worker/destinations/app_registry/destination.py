# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry as a destination: the meaning of a target's organization, repository and version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from pydantic import SecretStr

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.model import Build, Bundle, OperatorKind, Outcome, Target
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import BUNDLE_BUILD, NOT_AN_OPERATOR_IMAGE, Content, Released, ReleaseJob, versions
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.credential_checks import check_organization
from omps_worker.destinations.app_registry.deletions import Deleter
from omps_worker.destinations.app_registry.listing import not_listed_yet
from omps_worker.destinations.app_registry.organizations import Organization, Organizations
from omps_worker.destinations.app_registry.package import PackageLocation
from omps_worker.destinations.app_registry.releases import QUIET_SECONDS, Releaser, WantedRelease
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Transformations

_SKIPPED = {OperatorKind.NONE: NOT_AN_OPERATOR_IMAGE, OperatorKind.BUNDLE: BUNDLE_BUILD}


class AppRegistryDestination:
    """One app registry as a destination; see ``destinations.Destination``.

    ``quiet_seconds`` is how long a package must have had no new release before the release that is to be the last of
    several is made. ``observer`` is notified of the duration of queries and pushes.
    """

    def __init__(
        self,
        registry: AppRegistry,
        lock: PackageLock,
        organizations: Mapping[str, Organization],
        default_version: str,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._registry = registry
        self._configured = organizations
        self._organizations = Organizations(organizations)
        self._releaser = Releaser(registry, lock, default_version, quiet_seconds=quiet_seconds, observer=observer)
        self._deleter = Deleter(registry, lock)

    def skip_reason(self, target: Target, build: Build) -> str | None:  # noqa: ARG002
        """Return why the build carries no package manifests, or None if it carries some or may do so."""
        return _SKIPPED.get(build.kind)

    def needs_archive(self, target: Target, build: Build) -> bool:  # noqa: ARG002
        """Return True: a release is made from the archive of manifests."""
        return True

    def prepare(
        self, target: Target, contents: ArchiveContents | None, build: Build | None, request: PushRequest
    ) -> Bundle:
        """Make the content of a release from an operator's manifests.

        Raises OMPSInvalidVersionFormat, ContentError, RegistryReplacementError and SettingsError.
        """
        if target.version != versions.CSV:
            # Report a version that is not valid before faults in the manifests: it may be easier to fix.
            versions.wanted(target.version, build, None)
        if contents is None:
            raise TypeError("a release of an app registry is made from an archive")
        return contents.prepared(self.changes(target, request))

    def changes(self, target: Target, request: PushRequest) -> Transformations:
        """Return the organization's changes to manifests. Raises SettingsError."""
        return self._organizations.transformations(_organization(target), request.authorization)

    def plan(self, job: ReleaseJob) -> Released | None:
        """Return what ``release`` would return now. Changes nothing; raises the same errors."""
        return self._releaser.plan(self._wanted(job))

    def release(self, job: ReleaseJob) -> Released | None:
        """Make sure that the content is released.

        Raises PackageValidationError if the target names a repository other than the packageName, and the errors of
        ``releases.Releaser``.
        """
        return self._releaser.release(self._wanted(job))

    def make_public(self, job: ReleaseJob, released: Released) -> bool:
        """Make the package public if its organization is public. Raises QuayPackageError, which is transient."""
        location = self._location(job)
        public = self._releaser.publish(location, released.version)
        if not released.listed and job.comes_again:
            # The next attempt reports the release with what the registry says about it.
            raise not_listed_yet(location, released.version)
        return public

    def is_public(self, job: ReleaseJob) -> bool:
        """Return whether the package's organization is public. Raises SettingsError."""
        return self._location(job).credentials.public

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str]:
        """Return the versions that ``delete`` would delete now, sorted. Raises the errors of ``deletions.Deleter``."""
        return self._deleter.versions(self._organizations.location(name, repository, authorization), version)

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package of the organization ``name``, or all of them. Raises the same errors."""
        return self._deleter.delete(self._organizations.location(name, repository, authorization), version)

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield one check for the registry, and one for the credentials of each configured organization."""
        yield "registry", self._registry.version
        for name, organization in self._configured.items():
            yield f"organization {name}", partial(check_organization, self._registry, name, organization)

    def _wanted(self, job: ReleaseJob) -> WantedRelease:
        bundle = _bundle(job.content)
        return WantedRelease(
            bundle,
            self._location(job),
            version=versions.wanted(job.target.version, job.build, bundle.csv_version),
            new_release=job.request.new_release,
            order=job.order,
            reverts=job.request.reverts,
            caller=job.request.caller,
        )

    def _location(self, job: ReleaseJob) -> PackageLocation:
        repository = _repository_of(job.target, _bundle(job.content))
        return self._organizations.location(_organization(job.target), repository, job.request.authorization)


def _organization(target: Target) -> str:
    if target.organization is None:
        raise TypeError(f"not a target of an app registry: {target.label}")
    return target.organization


def _bundle(content: Content) -> Bundle:
    if not isinstance(content, Bundle):
        raise TypeError(f"the content was not made by this destination: {content!r}")
    return content


def _repository_of(target: Target, bundle: Bundle) -> str:
    """Return the repository that ``target`` means: the packageName, which must equal the target's repository if set."""
    if target.repository is not None and target.repository != bundle.package_name:
        raise PackageValidationError(
            f"The packageName ({bundle.package_name}) is not the repository that was asked for ({target.repository}).",
            details={
                "validation_info": {
                    "errors": [
                        f"The packageName ({bundle.package_name}) in bundle does not match repository name "
                        f"({target.repository}) provided as command line argument."
                    ],
                    "warnings": list(bundle.courier_warnings),
                }
            },
        )
    return bundle.package_name
