# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry as a destination: what a target's organization, repository and version mean there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from pydantic import SecretStr

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.locks import PackageLock
from omps_worker.common.model import Build, Bundle, OperatorKind, Outcome, Target
from omps_worker.common.observer import SILENT, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import BUNDLE_BUILD, NOT_AN_OPERATOR_IMAGE, Content, Released, ReleaseJob
from omps_worker.destinations.app_registry import versions
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
    """One app registry; see ``destinations.Destination``.

    ``quiet_seconds``: for so long there must be no new release of a package until one that is to be the last of
    several is made. ``observer`` hears how long looks and pushes take.
    """

    def __init__(
        self,
        registry: AppRegistry,
        lock: PackageLock,
        organizations: Mapping[str, Organization],
        default_version: str,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        observer: Observer = SILENT,
    ) -> None:
        self._registry = registry
        self._configured = organizations
        self._organizations = Organizations(organizations)
        self._releaser = Releaser(registry, lock, default_version, quiet_seconds=quiet_seconds, observer=observer)
        self._deleter = Deleter(registry, lock)

    def skip_reason(self, target: Target, build: Build) -> str | None:  # noqa: ARG002
        """Return why the build carries no package manifests; None if it does, or may."""
        return _SKIPPED.get(build.kind)

    def needs_archive(self, target: Target, build: Build) -> bool:  # noqa: ARG002
        """Return True: a release is made of the archive of manifests."""
        return True

    def prepare(
        self, target: Target, contents: ArchiveContents | None, build: Build | None, request: PushRequest
    ) -> Bundle:
        """Make of an operator's manifests what is released.

        Raises OMPSInvalidVersionFormat, ContentError, RegistryReplacementError and SettingsError.
        """
        if target.version != versions.CSV:
            # Before the manifests are found fault with: a version that is none may be mended more easily.
            versions.wanted(target.version, build, None)
        if contents is None:
            raise TypeError("a release of an app registry is made of an archive")
        return contents.prepared(self.changes(target, request))

    def changes(self, target: Target, request: PushRequest) -> Transformations:
        """Say what the organization wants changed. Raises SettingsError."""
        return self._organizations.transformations(target.organization, request.authorization)

    def plan(self, job: ReleaseJob) -> Released | None:
        """Say what ``release`` would do now. Changes nothing, raises the same."""
        return self._releaser.plan(self._wanted(job))

    def release(self, job: ReleaseJob) -> Released | None:
        """Make sure that the content is released.

        Raises PackageValidationError where the target names another repository than the packageName, and what
        ``releases.Releaser`` raises.
        """
        return self._releaser.release(self._wanted(job))

    def publish(self, job: ReleaseJob, released: Released) -> bool:
        """Make the package public if its organization is. Raises QuayPackageError, which is transient."""
        place = self._place(job)
        public = self._releaser.publish(place, released.version)
        if not released.listed and job.comes_again:
            # When it comes again, the release is told of by what the registry says of it.
            raise not_listed_yet(place, released.version)
        return public

    def is_public(self, job: ReleaseJob) -> bool:
        """Say whether its organization is public. Raises SettingsError."""
        return self._place(job).credentials.public

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str]:
        """Say which versions ``delete`` would delete now, sorted. Raises what ``deletions.Deleter`` raises."""
        return self._deleter.versions(self._organizations.place(name, repository, authorization), version)

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Delete one release of a package of the organization ``name``, or all. Raises the same."""
        return self._deleter.delete(self._organizations.place(name, repository, authorization), version)

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield one for the registry, and one for the credentials of each configured organization."""
        yield "registry", self._registry.version
        for name, organization in self._configured.items():
            yield f"organization {name}", partial(check_organization, self._registry, name, organization)

    def _wanted(self, job: ReleaseJob) -> WantedRelease:
        bundle = _bundle(job.content)
        return WantedRelease(
            bundle,
            self._place(job),
            version=versions.wanted(job.target.version, job.build, bundle.csv_version),
            new_release=job.request.new_release,
            order=job.order,
            reverts=job.request.reverts,
            caller=job.request.caller,
        )

    def _place(self, job: ReleaseJob) -> PackageLocation:
        repository = _repository_of(job.target, _bundle(job.content))
        return self._organizations.place(job.target.organization, repository, job.request.authorization)


def _bundle(content: Content) -> Bundle:
    if not isinstance(content, Bundle):
        raise TypeError(f"not made by this destination: {content!r}")
    return content


def _repository_of(target: Target, bundle: Bundle) -> str:
    """The repository that ``target`` means; a name in the mapping is an assertion."""
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
