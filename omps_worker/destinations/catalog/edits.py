# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build of each kind, or a deletion, makes of the package that a catalog holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omps_worker.common.errors import CatalogPackageNotFound
from omps_worker.common.model import Target
from omps_worker.common.text import printable
from omps_worker.destinations import Content, ReleaseOrder
from omps_worker.destinations.catalog.bundle_builds import BundleContent, digest_of_image
from omps_worker.destinations.catalog.bundles.tree import bundle_labels, relabelled
from omps_worker.destinations.catalog.catalog import Catalog, named_image
from omps_worker.destinations.catalog.content import MadeBundle, TreeContent, made
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.images.image import Format
from omps_worker.destinations.catalog.ledger import CatalogState, labels_of
from omps_worker.destinations.catalog.merge import (
    Conflict,
    Graph,
    Merged,
    Overwrite,
    add_bundle,
    bundles_of,
    check_present,
    conflicts,
    merge_tree,
    without,
)
from omps_worker.destinations.catalog.packages.package_file import (
    Blob,
    PackageFile,
    content_of,
    known_heads,
    pullspec_of,
    version_of,
    version_text,
)
from omps_worker.destinations.catalog.updates import Change


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a build is to be released. ``order`` None: whatever other builds there are.

    ``command`` is the command that releases this build to this catalog by hand.
    """

    overwrite: Overwrite = Overwrite.NEVER
    graph: Graph = Graph.REPLACES
    order: ReleaseOrder | None = None
    starts_over: bool = False
    command: str = ""


class _BuildEdit:
    """What releases of both kinds of builds have in common."""

    content: Content
    wishes: Wishes
    takes_damaged = False

    @property
    def package(self) -> str:
        """The name of the package."""
        return self.content.package_name

    @property
    def starts_over(self) -> bool:
        """Whether an image that the worker did not write counts as an empty catalog."""
        return self.wishes.starts_over

    @property
    def advice(self) -> str:
        """What to do about an image that the worker did not write."""
        return f"Use another image, or `{self.wishes.command} --new-catalog` to replace it with a new catalog."


@dataclass
class TreeEdit(_BuildEdit):
    """The package becomes what a tree of package manifests says; see ``updates.Edit``.

    The channels are in the labels of a bundle image, so a new channel gives an unchanged bundle another digest. A
    bundle whose files are those of the image that the catalog has keeps that image.
    """

    content: TreeContent
    wishes: Wishes
    catalog: Catalog
    client: ImageRegistryClient
    _labels: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    _kept: dict[str, MadeBundle] = field(default_factory=dict[str, MadeBundle])

    def change(self, state: CatalogState) -> Change:
        """Return what the tree makes of the package. Raises PackageValidationError."""
        bundles = dict(self.content.bundles)
        images = {name: each.pullspec for name, each in bundles.items()}
        self._kept.clear()
        check_present(state.package)
        for conflict in conflicts(state.package, self.content.plan.package_file(images).bundles):
            if (before := self._as_it_is(conflict)) is not None:
                images[conflict.name] = conflict.present
                bundles[conflict.name] = self._kept[conflict.name] = before
        # An image that is kept in another repository is neither sent nor tagged.
        ours = {name: each for name, each in bundles.items() if images[name] == each.pullspec}
        return Change(merge_tree(state.package, self.content.plan, images, self.wishes.overwrite), ours)

    def superseded(self, state: CatalogState) -> bool:
        """Return whether a newer build supersedes the tree."""
        order, package = self.wishes.order, state.package
        if order is None:
            return False
        digests = set() if package is None or not known_heads(package) else self._digests_of_builds(package)
        return order.superseded(digests, ())

    def _as_it_is(self, conflict: Conflict) -> MadeBundle | None:
        """Return the bundle with the labels of the present image if that makes it the present image."""
        try:
            present = named_image(self.catalog, conflict.present)
        except ValueError:
            return None
        labels = self._labels.get(conflict.present)
        if labels is None:
            labels = self._labels[conflict.present] = labels_of(self.client, present)
        before = self._with_labels(conflict.name, labels)
        return before if before.image.digest == present.reference else None

    def _with_labels(self, name: str, labels: Mapping[str, str]) -> MadeBundle:
        each = self.content.bundles[name]
        return made(relabelled(each.planned, labels), each.repository, Format(self.catalog.format))

    def _digests_of_builds(self, package: PackageFile) -> set[str]:
        """Return the digests that a tree would have which was released as ``package``.

        A release carries over what builds know nothing of, and keeps images with older labels. The tree itself has
        neither.
        """
        own = [package.package, *package.channels]
        fresh = [self._as_built(each, package) for each in package.bundles]
        return {PackageFile.of([*own, *bundles]).digest for bundles in (package.bundles, fresh)} | {package.digest}

    def _as_built(self, blob: Blob, package: PackageFile) -> Blob:
        """Return a bundle of the package with the image that the channels of the package give it, if it is known."""
        name, image = str(blob.get("name")), pullspec_of(blob)
        known = self._kept.get(name) or self.content.bundles.get(name)
        if known is None or content_of(image) != known.image.digest:
            return blob
        channels = [
            each["name"] for each in package.channels if any(entry.get("name") == name for entry in each["entries"])
        ]
        fresh = self._with_labels(name, bundle_labels(package.name, sorted(channels), package.default_channel))
        return fresh.planned.bundle.blob(fresh.pullspec)


@dataclass(frozen=True, slots=True)
class BundleEdit(_BuildEdit):
    """A bundle build is added to the channels of its label; see ``updates.Edit``."""

    content: BundleContent
    wishes: Wishes

    def change(self, state: CatalogState) -> Change:
        """Return what the bundle makes of the package. Raises PackageValidationError."""
        wishes, content = self.wishes, self.content
        return Change(add_bundle(state.package, content.bundle, content.pullspec, wishes.graph, wishes.overwrite))

    def superseded(self, state: CatalogState) -> bool:
        """Return whether a newer build supersedes the bundle, which would replace other content of its version.

        Otherwise the versions decide which bundle is on top of which, in whatever order the builds come: a catalog that
        was lost is whole again when all its bundle builds have been added.
        """
        order, package = self.wishes.order, state.package
        if order is None or package is None:
            return False
        replaced = {digest_of_image(pullspec_of(each)) for each in self._of_this_version(package)}
        return bool(replaced) and order.superseded(replaced, ())

    def _of_this_version(self, package: PackageFile) -> list[Blob]:
        """Return the bundles that this one would replace."""
        bundle = self.content.bundle
        return [each for each in package.bundles if each.get("name") == bundle.name or version_of(each) == bundle.order]


@dataclass
class DeletionEdit:
    """A package, or the bundles of one version of it, leave the catalog; see ``updates.Edit``.

    ``catalog`` is the name of the catalog in the configuration.
    """

    package: str
    catalog: str
    version: str | None
    gone: tuple[str, ...] = ()
    """The versions that leave, sorted, after ``change`` was called; empty text for what has no version."""
    starts_over = False
    advice = ""
    """Another program's image is never replaced."""

    @property
    def takes_damaged(self) -> bool:
        """Whether the whole package leaves, so that nobody need be able to read it."""
        return self.version is None

    def change(self, state: CatalogState) -> Change:
        """Return the package without what leaves.

        Raises CatalogPackageNotFound if there is nothing of that kind, PackageValidationError if the rest would not be
        a valid package.
        """
        package, target = state.package, Target(None, self.package, catalog=self.catalog)
        if state.damaged is not None:
            return Change(Merged(None))
        if package is None:
            raise CatalogPackageNotFound(
                f"There is no package {target.label}: the catalog does not have it.", details={"registry_response": {}}
            )
        if self.version is None:
            # A package that is already broken can be deleted as a whole.
            merged = Merged(None, tuple(str(bundle.get("name")) for bundle in package.bundles))
            leaving = package.bundles
        else:
            names = bundles_of(package, self.version)
            if not names:
                version = printable(self.version, 100)
                raise CatalogPackageNotFound(
                    f"The package {target.label} has no bundle {version}.", details={"registry_response": {}}
                )
            merged = without(package, names)
            leaving = tuple(bundle for bundle in package.bundles if bundle["name"] in names)
        self.gone = tuple(sorted(map(version_text, leaving)))
        return Change(merged)

    def superseded(self, state: CatalogState) -> bool:  # noqa: ARG002
        """Return False: no build takes part."""
        return False


def replaced_bundles(before: PackageFile | None, after: PackageFile | None) -> tuple[str, ...]:
    """Return the names of the bundles that both packages have, with other content."""
    if before is None or after is None:
        return ()
    contents = {str(each.get("name")): content_of(pullspec_of(each)) for each in before.bundles}
    now = {str(each["name"]): content_of(pullspec_of(each)) for each in after.bundles}
    return tuple(name for name, content in now.items() if contents.get(name, content) != content)


def version_of_head(package: PackageFile) -> str:
    """Return the version of the default channel's head, empty if there is none."""
    head = package.bundle(known_heads(package).get(package.default_channel, ""))
    return version_text(head) if head is not None else ""
