# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's records of builds, and their form in the replies of a Koji hub.

The replies are those of a real hub (Koji 1.35): the same keys, the same types, the same None.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import koji  # type: ignore[import-untyped]

from omps_worker.common.model import BuildState, OperatorKind

ARCHIVE_NAME = "operator_manifests.zip"
"""OSBS's name for the archive of manifests."""

BTYPE = "operator-manifests"
"""Koji's build type of such archives."""

CONTENT_GENERATOR = "atomic-reactor"
"""The content generator that imports OSBS's builds."""

BTYPE_IDS = {"rpm": 1, "maven": 2, "win": 3, "image": 4, BTYPE: 5}
"""The build types of the hub, with their ids."""

_CHECKSUM_TYPES = {"md5": 0, "sha256": 2}
_PATHS = koji.PathInfo(topdir="")
_IMAGE_TYPE = "application/vnd.docker.distribution.manifest"


@dataclass
class TaskRecord:
    """The task that made a build."""

    id: int
    owner_id: int
    request: list[Any]
    created: datetime

    def row(self, *, request: bool) -> dict[str, Any]:
        """Return the reply to ``getTaskInfo``. ``request``: include the task's request."""
        started = self.created + timedelta(milliseconds=100)
        row = {
            "arch": "noarch",
            "awaited": None,
            "channel_id": 1,
            "completion_time": None,
            "completion_ts": None,
            "create_time": hub_time(self.created),
            "create_ts": self.created.timestamp(),
            "host_id": None,
            "id": self.id,
            "label": None,
            "method": "buildContainer",
            "owner": self.owner_id,
            "parent": None,
            "priority": 20,
            "start_time": hub_time(started),
            "start_ts": started.timestamp(),
            "state": 1,
            "waiting": None,
            "weight": 1.0,
        }
        return {**row, "request": copy.deepcopy(self.request)} if request else row


@dataclass
class BuildRecord:
    """One build, with its archives, files and task."""

    id: int
    name: str
    version: str
    release: str
    epoch: int | None
    state: BuildState
    package_id: int
    owner: str
    owner_id: int
    volume: str
    volume_id: int
    content_generator: str | None
    created: datetime
    extra: dict[str, Any] | None = None
    task: TaskRecord | None = None
    completed: datetime | None = None
    archives: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """The files by path below Koji's root, without a leading slash."""
    draft: bool = False
    promoted: datetime | None = None

    @property
    def nvr(self) -> str:
        """Name, version and release."""
        return f"{self.name}-{self.version}-{self.release}"

    @property
    def imported(self) -> bool:
        """Whether the build was ever complete. Before that, a hub has neither its extra nor its task."""
        return self.state in (BuildState.COMPLETE, BuildState.DELETED)

    @property
    def directory(self) -> str:
        """The path of the build's files below Koji's root."""
        build = {"name": self.name, "version": self.version, "release": self.release, "volume_name": self.volume}
        return str(_PATHS.build(build)).lstrip("/")

    def has_type(self, btype: str) -> bool:
        """Return whether the build is of the build type ``btype``."""
        return self.imported and btype in ((self.extra or {}).get("typeinfo") or {})

    def row(self) -> dict[str, Any]:
        """Return the reply to ``getBuild``."""
        listed = self.listed()
        return {
            **listed,
            "id": self.id,
            "cg_id": None if self.content_generator is None else 1,
            "cg_name": self.content_generator,
        }

    def listed(self) -> dict[str, Any]:
        """Return the reply to ``listBuilds``: that to ``getBuild`` without ``id``, ``cg_id`` and ``cg_name``."""
        completed = None if self.state == BuildState.BUILDING else self.completed
        started = self.created - timedelta(milliseconds=5)
        commit = hashlib.sha1(self.nvr.encode(), usedforsecurity=False).hexdigest()
        return {
            "build_id": self.id,
            "completion_time": None if completed is None else hub_time(completed),
            "completion_ts": None if completed is None else completed.timestamp(),
            "creation_event_id": self.id + 4,
            "creation_time": hub_time(self.created),
            "creation_ts": self.created.timestamp(),
            "draft": self.draft,
            "epoch": self.epoch,
            "extra": copy.deepcopy(self.extra) if self.imported else None,
            "name": self.name,
            "nvr": self.nvr,
            "owner_id": self.owner_id,
            "owner_name": self.owner,
            "package_id": self.package_id,
            "package_name": self.name,
            "promoter_id": None if self.promoted is None else 1,
            "promoter_name": None if self.promoted is None else "kojiadmin",
            "promotion_time": None if self.promoted is None else hub_time(self.promoted),
            "promotion_ts": None if self.promoted is None else self.promoted.timestamp(),
            "release": self.release,
            "source": source_url(self.name, commit) if self.imported and self.content_generator else None,
            "start_time": hub_time(started),
            "start_ts": started.timestamp(),
            "state": int(self.state),
            "task_id": self.task.id if self.task is not None and self.imported else None,
            "version": self.version,
            "volume_id": self.volume_id,
            "volume_name": self.volume,
        }

    def logs(self) -> list[dict[str, Any]]:
        """Return the reply to ``getBuildLogs``."""
        prefix = f"{self.directory}/data/logs/"
        rows = []
        for path in self.files:
            if path.startswith(prefix):
                directory, _, name = path[len(prefix) :].rpartition("/")
                directory = directory or "."
                rows.append({"name": name, "dir": directory, "path": f"{prefix}{directory}/{name}"})
        return rows


def hub_time(time: datetime) -> str:
    """Return a time in the hub's format: ISO 8601 with a space."""
    return time.astimezone(timezone.utc).isoformat(" ")


def source_url(name: str, commit: str) -> str:
    """Return the URL of the source from which a container was built."""
    return f"git://dist-git.example.com/containers/{name}#{commit}"


def archive_row(number: int, build_id: int, filename: str, content: bytes, checksum_type: str) -> dict[str, Any]:
    """Return the entry of one archive of manifests in the reply to ``listArchives``.

    ``checksum_type`` is ``md5`` or ``sha256``. Koji only stores the base name of the file.
    """
    return {
        "btype": BTYPE,
        "btype_id": BTYPE_IDS[BTYPE],
        "build_id": build_id,
        "buildroot_id": build_id,
        "checksum": hashlib.new(checksum_type, content, usedforsecurity=False).hexdigest(),
        "checksum_type": _CHECKSUM_TYPES[checksum_type],
        "compression_type": "zip",
        "extra": {"typeinfo": {BTYPE: {}}},
        "filename": filename.rpartition("/")[2],
        "id": number,
        "metadata_only": False,
        "size": len(content),
        "type_description": "Zip file",
        "type_extensions": "zip",
        "type_id": 2,
        "type_name": "zip",
    }


def image_row(number: int, record: BuildRecord, pullspec: str) -> dict[str, Any]:
    """Return the entry of a build's only image in the reply to ``listArchives``, in the form that OSBS gives it.

    ``pullspec`` has a digest. The file itself is not kept.
    """
    repository, _, digest = pullspec.partition("@")
    tag = f"{record.version}-{record.release}"
    docker = {
        "id": digest,
        "repositories": [f"{repository}:{tag}", pullspec],
        "tags": [tag],
        "floating_tags": ["latest"],
        "digests": {f"{_IMAGE_TYPE}.v2+json": digest},
        "config": {"config": {"Labels": {"version": record.version, "release": record.release}}},
    }
    filename = f"docker-image-{digest.replace(':', '_')}.x86_64.tar.gz"
    return {
        **archive_row(number, record.id, filename, b"", "md5"),
        "arch": "x86_64",
        "btype": "image",
        "btype_id": BTYPE_IDS["image"],
        "compression_type": "tar",
        "extra": {"image": {"arch": "x86_64"}, "docker": docker},
        "metadata_only": True,
        "type_description": "Tar file",
        "type_extensions": "tar tar.gz tar.bz2 tar.xz tgz",
        "type_id": 3,
        "type_name": "tar",
    }


def container_extra(
    record: BuildRecord,
    *,
    kind: OperatorKind,
    archive: str | None,
    typeinfo: bool,
    flat_key: bool,
    subtypes: bool,
    pullspec: str | None = None,
    manifest_list: bool = True,
) -> dict[str, Any]:
    """Return the ``extra`` that OSBS gives to a container build.

    ``archive`` is the name of its archive of manifests. It is written to ``typeinfo``, to the flat key of early 2019
    (``flat_key``), or to both. ``subtypes``: whether the build states its kind of operator. ``pullspec`` names the
    image by a digest; without ``manifest_list`` the build has no list of manifests and does not say it.
    """
    image = _image(record, pullspec or _pullspec(record), manifest_list=manifest_list)
    if kind == OperatorKind.BUNDLE:
        related = {"pullspecs": [], "created_by_osbs": True}
        image["operator_manifests"] = {"custom_csv_modifications_applied": False, "related_images": related}
    osbs_build: dict[str, Any] = {"kind": "container_build", "engine": "podman"}
    if subtypes:
        named = (OperatorKind.PACKAGE_MANIFESTS, OperatorKind.BUNDLE)
        osbs_build = {"subtypes": [kind.value] if kind in named else [], **osbs_build}
    extra: dict[str, Any] = {"image": image, "osbs_build": osbs_build, "submitter": "osbs"}
    if record.task is not None:
        extra["container_koji_task_id"] = record.task.id
    if archive is not None and flat_key:
        extra["operator_manifests_archive"] = archive
    extra["typeinfo"] = {"image": copy.deepcopy(image)}
    if archive is not None and typeinfo:
        extra["typeinfo"] = {BTYPE: {"archive": archive}, **extra["typeinfo"]}
    if kind == OperatorKind.PACKAGE_MANIFESTS:
        extra["operator_manifests"] = {
            "appregistry": {
                "endpoint": "https://quay.io/cnr/",
                "namespace": "example-operators",
                "repository": record.name.removesuffix("-container"),
                "registryVersion": "1.0.0",
            }
        }
    return extra


def _pullspec(record: BuildRecord) -> str:
    digest = "sha256:" + hashlib.sha256(record.nvr.encode()).hexdigest()
    return f"registry.example.com/operators/{record.name}@{digest}"


def _image(record: BuildRecord, pullspec: str, *, manifest_list: bool) -> dict[str, Any]:
    repository, _, digest = pullspec.partition("@")
    tag = f"{record.version}-{record.release}"
    image: dict[str, Any] = {
        "isolated": False,
        "help": None,
        "parent_build_id": None,
        "parent_images": ["registry.example.com/ubi8:8.10"],
        "parent_image_builds": {},
        "media_types": [f"{_IMAGE_TYPE}.v2+json"],
    }
    if not manifest_list:
        return image
    image["media_types"] = [f"{_IMAGE_TYPE}.list.v2+json", f"{_IMAGE_TYPE}.v2+json"]
    image["index"] = {
        "tags": [tag],
        "floating_tags": ["latest", record.version],
        "unique_tags": [f"{record.name}-candidate-12345-20251121"],
        "pull": [pullspec, f"{repository}:{tag}"],
        "digests": {f"{_IMAGE_TYPE}.list.v2+json": digest},
    }
    return image


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        time = datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return datetime.fromtimestamp(value, timezone.utc)


FILTERS: Mapping[str, Callable[[BuildRecord, Any], bool]] = {
    "packageID": lambda record, value: value in (record.package_id, record.name),
    "userID": lambda record, value: value in (record.owner_id, record.owner),
    "taskID": lambda record, value: record.row()["task_id"] == value,
    "prefix": lambda record, value: record.name.lower().startswith(value.lower()),
    "state": lambda record, value: record.state == value,
    "volumeID": lambda record, value: record.volume_id == value,
    "createdBefore": lambda record, value: record.created < _instant(value),
    "createdAfter": lambda record, value: record.created > _instant(value),
    "completeBefore": lambda record, value: record.completed is not None and record.completed < _instant(value),
    "completeAfter": lambda record, value: record.completed is not None and record.completed > _instant(value),
    "draft": lambda record, value: record.draft is value,
    "promotedBefore": lambda record, value: record.promoted is not None and record.promoted < _instant(value),
    "promotedAfter": lambda record, value: record.promoted is not None and record.promoted > _instant(value),
    "type": lambda record, value: record.has_type(value),
    "cgID": lambda record, value: record.content_generator is not None and value in (1, record.content_generator),
}
"""The parameters of ``listBuilds`` that the sandbox supports, each with its condition on a build."""


def matches(record: BuildRecord, filters: Mapping[str, Any]) -> bool:
    """Return whether ``listBuilds`` with these filters includes the build. A filter of None does not restrict."""
    return all(FILTERS[name](record, value) for name, value in filters.items() if value is not None)
