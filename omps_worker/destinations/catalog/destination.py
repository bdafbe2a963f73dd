# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogs as a destination: how builds of both kinds reach a catalog, and how they leave it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pydantic import SecretStr

from omps_worker.common.errors import CatalogError, PackageValidationError, WorkerError
from omps_worker.common.limits import Limits
from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.model import Build, CatalogBundle, CatalogUpdate, OperatorKind, Outcome, Status, Target
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.common.text import shell_word
from omps_worker.destinations import NOT_AN_OPERATOR_IMAGE, Content, Released, ReleaseJob
from omps_worker.destinations.catalog.bundle_builds import BundleContent, bundle_content
from omps_worker.destinations.catalog.catalog import Catalog, catalog_image
from omps_worker.destinations.catalog.catalog_checks import check_catalog
from omps_worker.destinations.catalog.content import TreeContent, tree_content
from omps_worker.destinations.catalog.edits import (
    BundleEdit,
    DeletionEdit,
    TreeEdit,
    Wishes,
    replaced_bundles,
    version_of_head,
)
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.images.image import Format
from omps_worker.destinations.catalog.merge import Graph, Overwrite
from omps_worker.destinations.catalog.packages.package_file import known_heads, pullspec_of, version_text
from omps_worker.destinations.catalog.updates import CatalogImage, CatalogUpdates, Edit, Updated
from omps_worker.destinations.catalog.visibility import QuayApi, make_public
from omps_worker.manifests.contents import ArchiveContents

Clients = Callable[[Catalog], ImageRegistryClient]
"""Returns the client for the image registry of a catalog."""

Visibility = Callable[[Catalog], QuayApi]
"""Returns the client for the API of a Quay, which makes repositories of a catalog's registry public."""


class CatalogDestination:
    """All configured catalogs; see ``destinations.Destination``.

    ``unknown`` makes the error for a catalog that is not configured. ``limits`` are those for the image of a bundle
    build. ``observer`` is notified of the duration of queries and pushes.
    """

    def __init__(
        self,
        catalogs: Mapping[str, Catalog],
        clients: Clients,
        visibility: Visibility,
        lock: PackageLock,
        limits: Limits,
        unknown: Callable[[str], WorkerError],
        *,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._catalogs = catalogs
        self._clients = clients
        self._visibility = visibility
        self._updates = CatalogUpdates(lock, observer)
        self._limits = limits
        self._unknown = unknown

    def skip_reason(self, target: Target, build: Build) -> str | None:  # noqa: ARG002
        """Return why the build is not an operator's; None if it is, or may be."""
        return NOT_AN_OPERATOR_IMAGE if build.kind is OperatorKind.NONE else None

    def needs_archive(self, target: Target, build: Build) -> bool:  # noqa: ARG002
        """Return True unless the build is a bundle image."""
        return build.kind is not OperatorKind.BUNDLE

    def prepare(
        self,
        target: Target,
        contents: ArchiveContents | None,
        build: Build | None,
        request: PushRequest,  # noqa: ARG002
    ) -> TreeContent | BundleContent:
        """Plan the bundles of an archive and make their images, or read the image of a bundle build.

        Raises PackageValidationError, CatalogError and SettingsError.
        """
        catalog = self._catalog(target.catalog)
        if build is not None and build.kind is OperatorKind.BUNDLE:
            return bundle_content(self._clients(catalog), build, catalog, self._limits)
        if contents is None:
            raise TypeError("package manifests come in an archive")
        return tree_content(contents, catalog)

    def changes(self, target: Target, request: PushRequest) -> Hashable:  # noqa: ARG002
        """Return the catalog's changes to manifests, and where its bundle images are. Raises SettingsError."""
        catalog = self._catalog(target.catalog)
        return catalog.transformations, str(catalog.bundle_images), catalog.format

    def plan(self, job: ReleaseJob) -> Released | None:
        """Return what ``release`` would return now. Changes nothing, and needs no permission to write."""
        catalog, image = self._place(job)
        return self._released(job, catalog, image, self._updates.plan(image, self._edit(job, catalog, image)))

    def release(self, job: ReleaseJob) -> Released | None:
        """Update the catalog, unless it has the content. See ``updates.CatalogUpdates`` for what this raises."""
        catalog, image = self._place(job)
        return self._released(job, catalog, image, self._updates.update(image, self._edit(job, catalog, image)))

    def make_public(self, job: ReleaseJob, released: Released) -> bool:
        """Make the repositories of the catalog and of its bundles public, if the catalog is.

        Raises QuayPackageError, which is transient, and CatalogError, transient, if the catalog was written but could
        not be read since, and the work comes again.
        """
        catalog, image = self._place(job)
        public = False
        if catalog.public:
            repositories = {image.name.repository}
            if isinstance(job.content, TreeContent):
                repositories |= {each.repository for each in job.content.bundles.values()}
            public = make_public(catalog, self._visibility(catalog), repositories, str(image.name))
        if not released.listed and job.comes_again:
            raise CatalogError(
                f"{image.name} was written, but could not be read afterwards.",
                details={"registry_response": {}},
                transient=True,
            )
        return public

    def is_public(self, job: ReleaseJob) -> bool:
        """Return whether the catalog is public. Raises SettingsError."""
        return self._catalog(job.target.catalog).public

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str | None]:
        """Return the versions of the bundles that ``delete`` would take out of the catalog. Raises the same errors.

        None stands for what has no version that can be read.
        """
        _check_no_token(authorization)
        edit = DeletionEdit(repository, name, version)
        self._updates.plan(self._image(self._catalog(name), repository), edit)
        return _told_versions(edit)

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Take one bundle of a package out of the catalog, or the package; its images stay, as clusters need them.

        Raises CatalogPackageNotFound if there is nothing of that kind, PackageValidationError if the rest would not be
        a valid package, and what ``updates.CatalogUpdates`` raises.
        """
        _check_no_token(authorization)
        catalog = self._catalog(name)
        image, edit = self._image(catalog, repository), DeletionEdit(repository, name, version)
        spent: dict[str, float] = {}
        with NO_OBSERVER.timing("delete", spent):
            update = _update_of(catalog, image, repository, self._updates.update(image, edit))
        target = Target(None, repository, catalog=name)
        return [
            Outcome(Status.DELETED, repo=repository, version=each, catalog=update, target=target, seconds=spent)
            for each in _told_versions(edit)
        ]

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield one check per catalog: its registry, the login for reading and writing, and what is at its tag."""
        for name, catalog in self._catalogs.items():
            yield f"catalog {name}", partial(check_catalog, self._clients, catalog)

    def _catalog(self, name: str | None) -> Catalog:
        catalog = self._catalogs.get(name or "")
        if catalog is None:
            raise self._unknown(name or "")
        return catalog

    def _place(self, job: ReleaseJob) -> tuple[Catalog, CatalogImage]:
        package, wanted = job.content.package_name, job.target.repository
        if wanted is not None and wanted != package:
            raise PackageValidationError(
                f"The packageName ({package}) is not the repository that was asked for ({wanted}).",
                details={"validation_info": {}},
            )
        catalog = self._catalog(job.target.catalog)
        return catalog, self._image(catalog, package)

    def _image(self, catalog: Catalog, package: str) -> CatalogImage:
        name = catalog_image(catalog, package)
        return CatalogImage(catalog.name, self._clients(catalog), name, Format(catalog.format), catalog.timeout)

    def _edit(self, job: ReleaseJob, catalog: Catalog, image: CatalogImage) -> Edit:
        """Return what the build is to change."""
        target, request = job.target, job.request
        order = None if request.new_release else job.order
        command = _command(job.build, catalog)
        wishes = Wishes(Overwrite(target.overwrite), Graph(target.graph), order, request.new_catalog, command)
        content: Content = job.content
        if isinstance(content, TreeContent):
            return TreeEdit(content, wishes, catalog, image.client)
        if isinstance(content, BundleContent):
            return BundleEdit(content, wishes)
        raise TypeError(f"the content was not made by this destination: {content!r}")

    def _released(self, job: ReleaseJob, catalog: Catalog, image: CatalogImage, updated: Updated) -> Released | None:
        merged = updated.change.merged
        if merged is None or merged.superseded or merged.package is None:
            return None
        package, before = merged.package, updated.state.package
        unpublished = job.content.plan.unpublished if isinstance(job.content, TreeContent) else ()
        update = _update_of(catalog, image, package.name, updated, unpublished)
        if isinstance(job.content, BundleContent):
            update = replace(update, added=job.content.pullspec)
        return Released(
            version_of_head(package),
            created=before is None or before.digest != package.digest,
            listed=updated.seen,
            facts={"catalog": update, "digest": package.digest},
        )


def _update_of(
    catalog: Catalog, image: CatalogImage, name: str, updated: Updated, unpublished: Sequence[str] = ()
) -> CatalogUpdate:
    merged, before = updated.change.merged, updated.state.package
    package = merged.package if merged is not None else None
    return CatalogUpdate(
        name=catalog.name,
        image=str(image.name),
        digest=updated.digest,
        previous=updated.state.digest,
        package=name,
        channels=package.heads() if package is not None else {},
        default_channel=package.default_channel if package is not None else "",
        bundles=tuple(
            CatalogBundle(
                str(bundle["name"]), version_text(bundle), pullspec_of(bundle), bundle["name"] in updated.created
            )
            for bundle in (package.bundles if package is not None else ())
        ),
        dropped=merged.dropped if merged is not None else (),
        unpublished=tuple(sorted(unpublished)),
        channels_before=known_heads(before) if before is not None else {},
        foreign=updated.state.foreign,
        replaced=replaced_bundles(before, package),
    )


def _told_versions(edit: DeletionEdit) -> list[str | None]:
    """Return the versions that outcomes of a deletion name; there is one outcome at least."""
    named = [each for each in edit.gone if each]
    return [*named, None] if not named or len(named) < len(edit.gone) else [*named]


def _command(build: Build | None, catalog: Catalog) -> str:
    """Return the command that releases a build to a catalog by hand; an archive without a build is called FILE."""
    what = "push-zip FILE" if build is None else f"push {shell_word(build.nvr)}"
    return f"omps-worker {what} --catalog {shell_word(catalog.name)}"


def _check_no_token(authorization: SecretStr | None) -> None:
    if authorization is not None:
        raise TypeError("a catalog has credentials of its own")
