# SPDX-License-Identifier: GPL-3.0-or-later
"""A destination for catalog targets that keeps contents in memory: what is around a catalog, without one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from omps_worker.common.errors import CatalogError, WorkerError
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
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import NOT_AN_OPERATOR_IMAGE, Released, ReleaseJob
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Transformations


@dataclass(frozen=True)
class Article:
    """What the shelf keeps of a build."""

    package_name: str
    digest: str
    version: str
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class CatalogShelf:
    """Keeps the newest content of each package, by catalog. ``error`` is raised instead of anything else.

    ``stacks``: a content is superseded only by another of its version, as bundles in a catalog are.
    """

    error: WorkerError | None = None
    stacks: bool = False
    kept: dict[tuple[str, str], list[Article]] = field(default_factory=lambda: defaultdict(list))
    prepared: list[tuple[str | None, bool]] = field(default_factory=list)
    """For each content that was made: the bundle image of its build, and whether there was an archive."""

    def skip_reason(self, target: Target, build: Build) -> str | None:
        return NOT_AN_OPERATOR_IMAGE if build.kind is OperatorKind.NONE else None

    def needs_archive(self, target: Target, build: Build) -> bool:
        return build.kind is not OperatorKind.BUNDLE

    def prepare(
        self, target: Target, contents: ArchiveContents | None, build: Build | None, request: PushRequest
    ) -> Article:
        image = build.bundle_image if build else None
        self.prepared.append((image, contents is not None))
        if contents is not None:
            bundle = contents.prepared(Transformations())
            return Article(bundle.package_name, bundle.digest, str(bundle.csv_version), bundle.files)
        assert build is not None
        assert image is not None
        name = build.name.removesuffix("-bundle-container")
        return Article(name, hashlib.sha256(image.encode()).hexdigest(), build.version)

    def changes(self, target: Target, request: PushRequest) -> Hashable:
        return Transformations()

    def plan(self, job: ReleaseJob) -> Released | None:
        if self.error:
            raise self.error
        assert isinstance(job.content, Article)
        kept = self.kept[str(job.target.catalog), job.content.package_name]
        on_top = kept[-1] if kept else None
        created = on_top is None or on_top.digest != job.content.digest
        releases = [Release(each.version, each.digest) for each in kept]
        below = {on_top.digest} if on_top else set()
        asks = created and (not self.stacks or job.content.version in {each.version for each in kept})
        if job.order is not None and asks and job.order.superseded(below, releases):
            return None
        return Released(job.content.version, created, facts={"catalog": _update(job, on_top, created=created)})

    def release(self, job: ReleaseJob) -> Released | None:
        released = self.plan(job)
        if released is not None and released.created:
            assert isinstance(job.content, Article)
            self.kept[str(job.target.catalog), job.content.package_name].append(job.content)
        return released

    def make_public(self, job: ReleaseJob, released: Released) -> bool:
        return False

    def is_public(self, job: ReleaseJob) -> bool:
        return False

    def would_delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> Sequence[str]:
        if self.error:
            raise self.error
        return [each.version for each in self.kept[name, repository] if version in (None, each.version)]

    def delete(
        self, name: str, repository: str, version: str | None = None, authorization: SecretStr | None = None
    ) -> list[Outcome]:
        gone = self.would_delete(name, repository, version, authorization)
        self.kept[name, repository] = [each for each in self.kept[name, repository] if each.version not in gone]
        target = Target(None, repository, catalog=name)
        return [Outcome(Status.DELETED, None, repository, each, target=target) for each in gone]

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "catalog community", lambda: "3 packages"


def unreachable() -> CatalogError:
    return CatalogError("Failed to read registry.example.com/community/catalog:latest.", transient=True)


def _update(job: ReleaseJob, on_top: Article | None, *, created: bool) -> CatalogUpdate:
    assert isinstance(job.content, Article)
    package, version = job.content.package_name, job.content.version
    image = f"registry.example.com/community/{package}-bundle@sha256:{job.content.digest}"
    return CatalogUpdate(
        name=str(job.target.catalog),
        image="registry.example.com/community/catalog:latest",
        digest=f"sha256:{job.content.digest}" if created else None,
        previous=f"sha256:{on_top.digest}" if on_top else None,
        package=package,
        channels={"stable": f"{package}.v{version}"},
        default_channel="stable",
        bundles=(CatalogBundle(f"{package}.v{version}", version, image, created),),
        dropped=(f"{package}.v{on_top.version}",) if on_top and created and on_top.version != version else (),
        channels_before={"stable": f"{package}.v{on_top.version}"} if on_top else {},
    )
