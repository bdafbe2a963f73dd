# SPDX-License-Identifier: GPL-3.0-or-later
"""The things the worker talks about: events, builds, targets, bundles, releases, outcomes.

Plain frozen data without behaviour that reaches outside. Every module may import this one.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from omps_worker.common.errors import WorkerError


class Status(str, enum.Enum):
    """How the work for one target ended. Part of the result topic."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    RETRYING = "retrying"
    DELETED = "deleted"

    def __str__(self) -> str:
        return self.value


class OperatorKind(str, enum.Enum):
    """What Koji says a build carries (``extra.osbs_build.subtypes``)."""

    PACKAGE_MANIFESTS = "operator_appregistry"
    BUNDLE = "operator_bundle"
    UNKNOWN = "unknown"
    """It carries an archive of manifests but does not say which kind: builds of early 2019."""
    NONE = "none"
    """It carries no manifests: not an operator image."""


class BuildState(enum.IntEnum):
    """Koji's states of a build."""

    BUILDING = 0
    COMPLETE = 1
    DELETED = 2
    FAILED = 3
    CANCELED = 4


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What a mapping rule can match on; None where it is not known."""

    component: str | None = None
    nvr: str | None = None
    owner: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """A message that says: this build is complete. Either ``build_id`` or ``nvr`` is known."""

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
        """What the mapping may match on before Koji was asked."""
        return BuildFacts(self.name, self.nvr, self.owner, self.target)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is none of our business, with the reason why.

    ``reason`` is one of a small set, fit for a metric label; ``detail`` is for a person. ``build`` is there
    where Koji was asked.
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
    """The archive is among the build's logs, as it was between February and May 2019."""
    volume: str | None = None
    draft: bool = False
    """It is not to be published until it is promoted, by which its release changes (Koji 1.34 and newer)."""
    promoted_at: datetime | None = None
    """When it was promoted, if it ever was a draft."""

    @property
    def facts(self) -> BuildFacts:
        """What the mapping matches on once Koji was asked."""
        return BuildFacts(self.name, self.nvr, self.owner, self.target)

    @property
    def order(self) -> tuple[datetime, int]:
        """What builds are sorted by: their completion, and then their ids."""
        return self.completed_at or datetime.min.replace(tzinfo=timezone.utc), self.id


@dataclass(frozen=True, slots=True)
class Target:
    """Where a build is to be published, as the mapping says."""

    organization: str
    repository: str | None = None
    version: str = "increment"
    """``increment``, ``csv``, or a template."""
    superseded: str = "skip"
    """``skip`` or ``publish``: what becomes of a build when a newer one exists."""

    @property
    def label(self) -> str:
        """``organization/repository`` as in the mapping; without a repository: the organization."""
        return f"{self.organization}/{self.repository}" if self.repository else self.organization

    def package(self, name: str) -> str:
        """Return what a package called ``name`` is called at this target: ``organization/name``."""
        return f"{self.organization}/{name}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Verified manifests, packed: what a release is made of.

    ``blob`` is the tar.gz; ``digest`` the hex sha256 of the tar inside, which is what the
    registry lists. The same manifests give the same digest on every machine and run.
    """

    package_name: str
    blob: bytes = field(repr=False)
    digest: str
    files: tuple[str, ...]
    """Relative paths of all files that came out of the archive, sorted."""
    nested: bool
    csv_version: str | None
    """``spec.version`` of the default channel's currentCSV, where there is one."""
    courier_warnings: tuple[str, ...] = ()
    """operator-courier's, in its own words."""
    warnings: tuple[str, ...] = ()
    """What is odd about the manifests, in sentences that name files: operator-courier's warnings and our own."""


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
    """How many times somebody had sent it again by then."""
    replayed_at: str | None = None
    """When that was last; tells copies apart that were sent again from one file."""


@dataclass(frozen=True, slots=True)
class UploadedArchive:
    """An archive that somebody brought, instead of a build's."""

    file: str
    """The name of the file, without directories, as that person called it."""
    sha256: str
    """Hex sha256 of its bytes."""


@dataclass(frozen=True, slots=True)
class ManualRequest:
    """Somebody asked for the work: one command, or one request. ``run`` is the same for nothing else."""

    archive: UploadedArchive | None = None
    run: str = field(default_factory=lambda: str(uuid.uuid4()))


Origin = Source | ManualRequest
"""What the work came from."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which try this is.

    ``interrupted``: an earlier delivery of the same message may have got as far as the push (it
    was redelivered, is a retry, or is a replay), so that finding the content released is
    finishing that work, not a repeat.
    """

    number: int = 1
    interrupted: bool = False
    waits: int = 0
    """How often the same try was put off before it could begin."""
    late: bool = False
    """Somebody had the message sent long after its build, or again: a replay, or a catch-up."""
    targets: tuple[str, ...] | None = None
    """The labels of the targets that are still open; None: all that the mapping names."""
    first_seen: datetime | None = field(default=None, compare=False)
    """When a worker first took the message; None where there is none."""

    @property
    def by_message(self) -> bool:
        """Whether a message on the bus caused the work, and no person."""
        return self.first_seen is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work for one target ended; becomes one result message.

    Without ``organization`` and ``repo``: no target was known yet.
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
    """What is odd about the manifests, though they are accepted; sentences that name files."""
    superseded_by: str | None = None
    """The NVR of the build that stands in the way."""
    held_by: str | None = None
    """Which entry of ``hold`` in the mapping holds the build, for people."""
    released_at: str | None = None
    """When the registry says that the release was made, in its own words; None where that is not known."""
    next_attempt_at: datetime | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, Any], compare=False)
    """How long each stage took; for logs and metrics."""

    @property
    def error_name(self) -> str | None:
        """The name of what went wrong, if anything did."""
        return self.error.name if self.error else None
