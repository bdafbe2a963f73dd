# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogs as a destination: how builds of both kinds reach a catalog, and how they leave it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial

from pydantic import SecretStr

from omps_worker.common.errors import PackageValidationError, QuayPackageNotFound, WorkerError
from omps_worker.common.limits import Limits
from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.model import (
    Build,
    CatalogBundle,
    CatalogUpdate,
    OperatorKind,
    Outcome,
    Release,
    Status,
    Target,
)
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import NOT_AN_OPERATOR_IMAGE, Released, ReleaseJob
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.catalog.bundles.tree import relabelled
from omps_worker.destinations.catalog.catalog import Catalog
from omps_worker.destinations.catalog.content import BundleContent, TreeContent, bundle_content, made, tree_content
from omps_worker.destinations.catalog.contents import read_catalog
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, parse_pullspec
from omps_worker.destinations.catalog.images.image import Format
from omps_worker.destinations.catalog.ledger import CatalogState, labels_of, read_state
from omps_worker.destinations.catalog.merge import (
    Graph,
    Merged,
    Overwrite,
    add_bundle,
    bundles_of,
    conflicts,
    merge_tree,
    without,
)
from omps_worker.destinations.catalog.packages.package_file import PackageFile, version_text
from omps_worker.destinations.catalog.updates import CatalogUpdates, Change, Updated, unchanged
from omps_worker.manifests.contents import ArchiveContents

Clients = Callable[[Catalog], ImageRegistryClient]
"""Returns the client for the image registry of a catalog."""

Visibility = Callable[[Catalog], AppRegistry]
"""Returns the client for the API of a Quay, which makes repositories of a catalog's registry public."""


class CatalogDestination:
    """All configured catalogs; see ``destinations.Destination``.

    ``unknown`` makes the error for a catalog that is not configured. ``limits`` are those for the image of a bundle
    build.
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
        if contents is not None:
            return tree_content(contents, catalog)
        if build is None:
            raise TypeError("there is neither an archive nor a build")
        return bundle_content(self._clients(catalog), build, catalog, self._limits)

    def changes(self, target: Target, request: PushRequest) -> Hashable:  # noqa: ARG002
        """Return the catalog's changes to manifests, and where its bundle images are. Raises SettingsError."""
        catalog = self._catalog(target.catalog)
        return catalog.transformations, str(catalog.bundle_images), catalog.format

    def plan(self, job: ReleaseJob) -> Released | None:
        """Return what ``release`` would return now. Changes nothing, and needs no permission to write."""
        catalog, image = self._image(job)
        decide = partial(self._decide, job, catalog)
        return self._released(
            job, catalog, image, self._updates.plan(self._clients(catalog), image, job.content.package_name, decide)
        )

    def release(self, job: ReleaseJob) -> Released | None:
        """Update the catalog, unless it has the content. See ``updates.CatalogUpdates`` for what this raises."""
        catalog, image = self._image(job)
        updated = self._updates.update(
            self._clients(catalog),
            image,
            job.content.package_name,
            partial(self._decide, job, catalog),
            Format(catalog.format),
            start_over=job.request.new_catalog,
        )
        return self._released(job, catalog, image, updated)

    def make_public(self, job: ReleaseJob, released: Released) -> bool:  # noqa: ARG002
        """Make the repositories of the catalog and of its bundles public, if the catalog is.

        Raises QuayPackageError, which is transient.
        """
        catalog, image = self._image(job)
        token = catalog.oauth()
        if not catalog.public or token is None:
            return catalog.public
        repositories = {image.repository.path}
        if isinstance(job.content, TreeContent):
            repositories |= {each.repository.path for each in job.content.bundles.values()}
        registry = self._visibility(catalog)
        for path in sorted(repositories):
            organization, _, repository = path.partition("/")
            if not registry.is_public(organization, repository, token):
                registry.publish(organization, repository, token)
        return True

    def is_public(self, job: ReleaseJob) -> bool:
        """Return whether the catalog is public. Raises SettingsError."""
        return self._catalog(job.target.catalog).public

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str]:
        """Return the versions of the bundles that ``delete`` would take out of the catalog. Raises the same errors."""
        _check_no_token(authorization)
        catalog = self._catalog(name)
        image = _image_of(catalog, repository)
        state = read_state(self._clients(catalog), image, repository)
        package = _present(state, name, repository, version)
        _without(package, version)
        return sorted(version_text(bundle) for bundle in _chosen(package, version))

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        """Take one bundle of a package out of the catalog, or the package; its images stay, as clusters need them.

        Raises QuayPackageNotFound if there is nothing of that kind, PackageValidationError if the rest would not be a
        valid package, and what ``updates.CatalogUpdates`` raises.
        """
        _check_no_token(authorization)
        catalog = self._catalog(name)
        image = _image_of(catalog, repository)
        gone: dict[str, list[str]] = {}

        def decide(state: CatalogState) -> Change:
            package = _present(state, name, repository, version)
            gone["versions"] = sorted(version_text(bundle) for bundle in _chosen(package, version))
            return Change(_without(package, version))

        updated = self._updates.update(self._clients(catalog), image, repository, decide, Format(catalog.format))
        update = _update_of(catalog, image, repository, updated, frozenset())
        return [
            Outcome(
                Status.DELETED,
                repo=repository,
                version=each,
                catalog=update,
                target=Target(None, repository, catalog=name),
            )
            for each in gone["versions"]
        ]

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield one check per catalog: its registry, the login for reading and writing, and what is at its tag."""
        for name, catalog in self._catalogs.items():
            yield f"catalog {name}", partial(self._check, catalog)

    def _check(self, catalog: Catalog) -> str:
        client = self._clients(catalog)
        image = _image_of(catalog, "package")
        client.ping(image.repository)
        client.check_login(image.repository)
        if catalog.image.for_each_package:
            return f"{catalog.image.host}; one image for each package: {catalog.image}"
        found = read_catalog(client, image)
        if found.digest is None:
            return f"{image} is not there yet: the first push makes it"
        client.check_push(image.repository)
        bundles = sum(len(package.bundles) for package in found.packages)
        return f"{image} ({found.digest[:19]}): {len(found.packages)} package(s), {bundles} bundle(s)"

    def _catalog(self, name: str | None) -> Catalog:
        catalog = self._catalogs.get(name or "")
        if catalog is None:
            raise self._unknown(name or "")
        return catalog

    def _image(self, job: ReleaseJob) -> tuple[Catalog, ImageName]:
        package, wanted = job.content.package_name, job.target.repository
        if wanted is not None and wanted != package:
            raise PackageValidationError(
                f"The packageName ({package}) is not the repository that was asked for ({wanted}).",
                details={"validation_info": {}},
            )
        catalog = self._catalog(job.target.catalog)
        return catalog, _image_of(catalog, package)

    def _decide(self, job: ReleaseJob, catalog: Catalog, state: CatalogState) -> Change:
        """Return what the build changes in the package that the catalog has."""
        overwrite = Overwrite(job.target.overwrite)
        if isinstance(job.content, BundleContent):
            change = Change(
                add_bundle(state.package, job.content.bundle, job.content.pullspec, Graph(job.target.graph), overwrite)
            )
        elif isinstance(job.content, TreeContent):
            change = self._merged_tree(job.content, catalog, state.package, overwrite)
        else:
            raise TypeError(f"not made by this destination: {job.content!r}")
        if unchanged(state, change):
            return change
        if job.order is not None and not job.request.new_release:
            releases = _releases(state.package)
            if job.order.superseded({each.digest for each in releases if each.digest}, releases):
                return Change(None)
        return change

    def _merged_tree(
        self, content: TreeContent, catalog: Catalog, current: PackageFile | None, overwrite: Overwrite
    ) -> Change:
        """Return the package after a tree.

        The channels are in the labels of a bundle image, so a new channel gives an unchanged bundle another digest. A
        bundle whose files are the same as those of the image that the catalog has keeps that image.
        """
        bundles = dict(content.bundles)
        images = {name: each.pullspec for name, each in bundles.items()}
        wanted = content.plan.package_file(images).bundles
        client = self._clients(catalog)
        for conflict in conflicts(current, wanted):
            each = bundles[conflict.name]
            try:
                present = parse_pullspec(conflict.present, scheme=catalog.image.scheme)
            except ValueError:
                continue
            before = made(relabelled(each.planned, labels_of(client, present)), each.repository, Format(catalog.format))
            if before.image.digest == present.reference:
                images[conflict.name] = conflict.present
                bundles[conflict.name] = before
        kept = {name: each for name, each in bundles.items() if images[name] == each.pullspec}
        return Change(merge_tree(current, content.plan, images, overwrite), kept)

    def _released(self, job: ReleaseJob, catalog: Catalog, image: ImageName, updated: Updated) -> Released | None:
        merged = updated.change.merged
        if merged is None or merged.superseded or merged.package is None:
            return None
        package = merged.package
        unpublished = job.content.plan.unpublished if isinstance(job.content, TreeContent) else ()
        update = _update_of(catalog, image, package.name, updated, frozenset(unpublished))
        before = updated.state.package
        changed = before is None or before.digest != package.digest
        return Released(_version(package), created=changed, facts={"catalog": update, "digest": package.digest})


def _update_of(
    catalog: Catalog, image: ImageName, name: str, updated: Updated, unpublished: frozenset[str]
) -> CatalogUpdate:
    merged = updated.change.merged
    package = merged.package if merged is not None else None
    return CatalogUpdate(
        name=catalog.name,
        image=str(image),
        digest=updated.digest,
        previous=updated.state.digest,
        package=name,
        channels=package.heads() if package is not None else {},
        default_channel=package.default_channel if package is not None else "",
        bundles=tuple(
            CatalogBundle(
                str(bundle["name"]), version_text(bundle), str(bundle["image"]), bundle["name"] in updated.created
            )
            for bundle in (package.bundles if package is not None else ())
        ),
        dropped=merged.dropped if merged is not None else (),
        unpublished=tuple(sorted(unpublished)),
        channels_before=updated.state.package.heads() if updated.state.package is not None else {},
    )


def _version(package: PackageFile) -> str:
    """Return the version of the default channel's head."""
    head = package.bundle(package.heads()[package.default_channel])
    return version_text(head) if head is not None else ""


def _releases(package: PackageFile | None) -> list[Release]:
    return [] if package is None else [Release(_version(package), package.digest)]


def _image_of(catalog: Catalog, package: str) -> ImageName:
    try:
        return catalog.image.image(package)
    except ValueError as fault:
        name = package[:300]
        raise PackageValidationError(f"The packageName {name!r} cannot name an image: it {fault}.") from None


def _check_no_token(authorization: SecretStr | None) -> None:
    if authorization is not None:
        raise TypeError("a catalog has credentials of its own")


def _present(state: CatalogState, name: str, package: str, version: str | None) -> PackageFile:
    """Return the package. Raises QuayPackageNotFound if the catalog does not have it, or not that version of it."""
    if state.package is None:
        raise QuayPackageNotFound(f"The catalog {name} has no package {package}.")
    if version is not None and not bundles_of(state.package, version):
        raise QuayPackageNotFound(f"The package {package} in the catalog {name} has no bundle {version}.")
    return state.package


def _chosen(package: PackageFile, version: str | None) -> list[Mapping[str, object]]:
    names = None if version is None else bundles_of(package, version)
    return [bundle for bundle in package.bundles if names is None or bundle["name"] in names]


def _without(package: PackageFile, version: str | None) -> Merged:
    if version is None:
        # A package that is already broken can be deleted as a whole.
        return Merged(None, tuple(str(bundle["name"]) for bundle in package.bundles))
    return without(package, bundles_of(package, version))
