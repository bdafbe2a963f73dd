# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build of package manifests releases to a catalog: the plan of its tree, and an image of each bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from omps_worker.destinations.catalog.bundles.documents import split_documents
from omps_worker.destinations.catalog.bundles.tree import PlannedBundle, TreePlan, plan
from omps_worker.destinations.catalog.catalog import Catalog, bundle_repository
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.destinations.catalog.images.image import Format, Image, bundle_image
from omps_worker.destinations.catalog.images.layers import Layer
from omps_worker.manifests.contents import ArchiveContents, computing


@dataclass(frozen=True, slots=True)
class MadeBundle:
    """The image of one planned bundle, as bytes."""

    planned: PlannedBundle
    repository: Repository
    image: Image = field(repr=False)
    layer: Layer = field(repr=False)

    @property
    def pullspec(self) -> str:
        """The pull specification, with the digest."""
        return str(ImageName(self.repository, self.image.digest))


@dataclass(frozen=True, slots=True)
class TreeContent:
    """A build of package manifests: the plan of its tree, and an image of each bundle."""

    plan: TreePlan = field(repr=False)
    bundles: Mapping[str, MadeBundle] = field(repr=False)
    files: tuple[str, ...]
    digest: str
    """The digest that the package file has if the catalog holds nothing else of the package."""

    @property
    def package_name(self) -> str:
        """The name of the package."""
        return self.plan.package

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the manifests."""
        return self.plan.warnings


def tree_content(contents: ArchiveContents, catalog: Catalog) -> TreeContent:
    """Plan the bundles of an archive of package manifests, and make their images. Sends nothing.

    Raises PackageValidationError with all faults of all versions, and what ``transformations.apply`` raises.
    """
    changes = catalog.transformations
    # Text is replaced in whole files; the other changes read one document of each file.
    split = partial(split_documents, most=contents.max_files)
    named = changes.annotations or changes.package_name_suffix
    with contents.transformed(changes, split if named else None) as tree, computing:
        planned = plan(tree, contents.max_values, contents.max_files)
        repository = bundle_repository(catalog, planned.package)
        bundles = {each.name: made(each, repository, Format(catalog.format)) for each in planned.bundles}
        package = planned.package_file({name: each.pullspec for name, each in bundles.items()})
        return TreeContent(planned, bundles, contents.files, package.digest)


def made(planned: PlannedBundle, repository: Repository, image_format: Format) -> MadeBundle:
    """Make the image of a planned bundle."""
    image, layer = bundle_image(planned.files, planned.labels, image_format)
    return MadeBundle(planned, repository, image, layer)
