# SPDX-License-Identifier: GPL-3.0-or-later
"""The data classes of the worker: events, builds, targets, bundles, releases and outcomes.

They are plain, frozen and have no side effects. Every module may import this one.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from omps_worker.common.errors import WorkerError

CATALOG = "catalog:"
"""Precedes the name of a catalog wherever organizations and catalogs are named: no organization has a colon."""


class Status(str, enum.Enum):
    """The outcome of the work for one target. Part of the result topic."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    RETRYING = "retrying"
    DELETED = "deleted"

    def __str__(self) -> str:
        return self.value


class OperatorKind(str, enum.Enum):
    """The kind of operator content that Koji records for a build (``extra.osbs_build.subtypes``)."""

    PACKAGE_MANIFESTS = "operator_appregistry"
    BUNDLE = "operator_bundle"
    UNKNOWN = "unknown"
    """The build has an archive of manifests but does not say of which kind: builds of early 2019."""
    NONE = "none"
    """The build has no manifests: it is not an operator image."""


class BuildState(enum.IntEnum):
    """Koji's numeric build states."""

    BUILDING = 0
    COMPLETE = 1
    DELETED = 2
    FAILED = 3
    CANCELED = 4


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """The facts about a build that a mapping rule can match on; None if a fact is not known."""

    component: str | None = None
    nvr: str | None = None
    owner: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """A message that a build is complete. At least one of ``build_id`` and ``nvr`` is known."""

    build_id: int | None = None
    nvr: str | None = None
    name: str | None = None
    version: str | None = None
    release: str | None = None
    owner: str | None = None
    target: str | None = None
    completed_at: datetime | None = None

    @property
    def facts(self) -> BuildFacts:
        """The facts that the mapping can match on before Koji is queried."""
        return BuildFacts(self.name, self.nvr, self.owner, self.target)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that does not concern the worker, and why.

    ``reason`` is one of a small set of values, suitable as a metric label. ``detail`` is text for people. ``build`` is
    set if Koji was queried.
    """

    reason: str
    detail: str = ""
    build: Build | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Build:
    """A build as Koji describes it."""

    id: int
    nvr: str
    name: str
    version: str
    release: str
    state: int
    owner: str | None = None
    target: str | None = None
    completed_at: datetime | None = None
    kind: OperatorKind = OperatorKind.NONE
    archive: str | None = None
    """The file name of the archive of manifests."""
    legacy: bool = False
    """Whether the archive is among the build's logs, as it was between February and May 2019."""
    volume: str | None = None
    draft: bool = False
    """Whether the build is a draft, which is published only after its promotion.

    The promotion changes the build's release. Koji 1.34 and newer have drafts.
    """
    bundle_image: str | None = None
    """The pull specification of a bundle build's image, with a digest, as Koji says; None if Koji does not say."""
    promoted_at: datetime | None = None
    """When the build was promoted, if it was once a draft."""

    @property
    def facts(self) -> BuildFacts:
        """The facts that the mapping matches on after Koji was queried."""
        return BuildFacts(self.name, self.nvr, self.owner, self.target)

    @property
    def order(self) -> tuple[datetime, int]:
        """The sort key of builds: the completion time, then the id."""
        return self.completed_at or datetime.min.replace(tzinfo=timezone.utc), self.id


@dataclass(frozen=True, slots=True)
class Target:
    """One place to publish a build to, as the mapping says: an organization of the app registry, or a catalog."""

    organization: str | None
    """The organization; None if the target is a catalog."""
    repository: str | None = None
    version: str = "increment"
    """``increment``, ``csv``, or a template; for organizations only."""
    superseded: str = "skip"
    """What to do with a build if a newer one exists: ``skip`` or ``publish``."""
    catalog: str | None = None
    """The name of the catalog in the configuration; None if the target is an organization."""
    overwrite: str = "never"
    """Whether a bundle may get other content under its version: ``never``, or ``heads``; for catalogs only."""
    graph: str = "replaces"
    """Where the edges between bundles of bundle builds come from: ``replaces`` or ``semver``; for catalogs only."""

    @property
    def place(self) -> str:
        """The organization, or ``catalog:`` and the name of the catalog."""
        return f"{CATALOG}{self.catalog}" if self.catalog is not None else str(self.organization)

    @property
    def label(self) -> str:
        """``place/repository`` as in the mapping, or the place alone if no repository is set."""
        return f"{self.place}/{self.repository}" if self.repository else self.place

    def package(self, name: str) -> str:
        """Return the full name of the package ``name`` at this target: ``place/name``."""
        return f"{self.place}/{name}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Validated and packed manifests: the content of a release.

    ``blob`` is the tar.gz. ``digest`` is the hex sha256 of the tar inside, which is the digest that the registry lists.
    The same manifests give the same digest on every machine and in every run.
    """

    package_name: str
    blob: bytes = field(repr=False)
    digest: str
    files: tuple[str, ...]
    """The relative paths of all files extracted from the archive, sorted."""
    nested: bool
    csv_version: str | None
    """``spec.version`` of the default channel's currentCSV, or None if there is none."""
    courier_warnings: tuple[str, ...] = ()
    """The warnings of operator-courier, unchanged."""
    warnings: tuple[str, ...] = ()
    """Warnings about the manifests, from operator-courier and from omps-worker: sentences that name files."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a package, as the registry lists it."""

    version: str
    digest: str | None
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The message that caused the work."""

    message_id: str
    topic: str
    replayed: int = 0
    """How many times the message had been replayed at that time."""
    replayed_at: str | None = None
    """The time of the last replay. It distinguishes copies that were sent from the same file."""


@dataclass(frozen=True, slots=True)
class UploadedArchive:
    """An archive that a user uploaded, as opposed to the archive of a build."""

    file: str
    """The file name as the user gave it, without directories."""
    sha256: str
    """The hex sha256 of the archive's bytes."""


@dataclass(frozen=True, slots=True)
class ManualRequest:
    """A request by a user: one command, or one request to the REST API.

    ``run`` is a unique id of that command or request.
    """

    archive: UploadedArchive | None = None
    run: str = field(default_factory=lambda: str(uuid.uuid4()))


Origin = Source | ManualRequest
"""The cause of the work: a message or a user."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt that is being made.

    ``interrupted``: an earlier delivery of the same message may have reached the push (the message was redelivered, is
    a retry, or is a replay). If the content is then found to be released, this attempt completes that work and does not
    repeat it.
    """

    number: int = 1
    interrupted: bool = False
    waits: int = 0
    """How often this attempt was postponed before it could begin."""
    late: bool = False
    """Whether the message was sent again or long after its build: a replay or a catch-up."""
    targets: tuple[str, ...] | None = None
    """The labels of the targets that are still open; None means all targets in the mapping."""
    first_seen: datetime | None = field(default=None, compare=False)
    """When a worker first received the message; None if there is no message."""

    @property
    def by_message(self) -> bool:
        """Whether a message on the bus caused the work, rather than a user."""
        return self.first_seen is not None


@dataclass(frozen=True, slots=True)
class CatalogBundle:
    """One bundle of a package in a catalog. ``created``: whether this work pushed the image."""

    name: str
    version: str
    image: str
    """The pull specification, with a digest."""
    created: bool = False


@dataclass(frozen=True, slots=True)
class CatalogUpdate:
    """A package in a catalog after an update, or as an update would leave it."""

    name: str
    """The name of the catalog in the configuration."""
    image: str
    """The catalog image: ``host/path:tag``."""
    digest: str | None
    """The digest of the catalog's manifest after the update; None if nothing was written."""
    previous: str | None
    """The digest before the update; None if the update made the image."""
    package: str
    channels: Mapping[str, str]
    """The head of each channel: the name of a bundle."""
    default_channel: str
    bundles: tuple[CatalogBundle, ...]
    dropped: tuple[str, ...] = ()
    """The bundles that were in the package before and no longer are."""
    unpublished: tuple[str, ...] = ()
    """The CSVs of the build that no channel reaches."""
    channels_before: Mapping[str, str] | None = None
    """The head of each channel before the update; None if that is not known. Not a part of results."""
    foreign: str | None = None
    """Why the image before the update was not one of the worker's; None if it was, or there was none.

    Not a part of results.
    """
    added: str | None = None
    """The image that a bundle build added; None for package manifests, which are the package. Not a part of results."""
    replaced: tuple[str, ...] = ()
    """The bundles that have other content than before under the same name. Not a part of results."""

    def as_json(self) -> dict[str, Any]:
        """Return the value of ``catalog`` in a result."""
        return {
            "name": self.name,
            "image": self.image,
            "digest": self.digest,
            "previous": self.previous,
            "package": self.package,
            "channels": dict(self.channels),
            "default_channel": self.default_channel,
            "bundles": [asdict(bundle) for bundle in self.bundles],
            "dropped": list(self.dropped),
            "unpublished": list(self.unpublished),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the work for one target. It becomes one result message.

    Without ``organization`` and ``repo``, no target was known yet.
    """

    status: Status
    organization: str | None = None
    repo: str | None = None
    version: str | None = None
    nvr: str | None = None
    extracted_files: tuple[str, ...] | None = None
    reason: str | None = None
    build: Build | None = None
    digest: str | None = None
    public: bool | None = None
    error: WorkerError | None = None
    target: Target | None = None
    warnings: tuple[str, ...] = ()
    """Warnings about manifests that were accepted: sentences that name files."""
    superseded_by: str | None = None
    """The NVR of the newer build because of which this one is not released."""
    held_by: str | None = None
    """The entry of ``hold`` in the mapping that holds the build, as text for people."""
    catalog: CatalogUpdate | None = None
    """The package in the catalog; None if the target is not a catalog, or nothing is known of it."""
    released_at: str | None = None
    """The creation time of the release as the registry writes it; None if it is not known."""
    next_attempt_at: datetime | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, Any], compare=False)
    """The duration of each stage in seconds, for logs and metrics."""

    @property
    def catalog_name(self) -> str | None:
        """The name of the catalog; None if the target is not a catalog, or no target is known."""
        if self.catalog is not None:
            return self.catalog.name
        return self.target.catalog if self.target else None

    @property
    def place(self) -> str | None:
        """The organization, or ``catalog:`` and the name of the catalog; None if no target is known."""
        return self.organization if self.catalog_name is None else f"{CATALOG}{self.catalog_name}"

    @property
    def error_name(self) -> str | None:
        """The name of the error, or None if there is none."""
        return self.error.name if self.error else None
