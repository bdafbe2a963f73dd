# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Koji on loopback: an XML-RPC hub and a file server that answer like real ones.

::

    with SandboxKoji() as hub:
        build = hub.add_build("otter-operator-container", "1.0.0", "1", manifests=zip_of(nested_operator()))
        koji.ClientSession(hub.hub_url).getBuild("otter-operator-container-1.0.0-1")
        routing_key, properties, body = hub.message(build)

Replies have the form of those recorded from a Koji 1.35 hub. Use ``faults`` to inject HTTP faults
(``POST /kojihub``, ``GET /kojiroot/…``), and ``fail_calls``, ``break_call`` and ``remove_call`` for faults of the hub.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import koji  # type: ignore[import-untyped]

from omps_worker.common.model import BuildState, OperatorKind
from omps_worker.sandbox.build_system import messages, records
from omps_worker.sandbox.build_system.hub import SandboxHub
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.build_system.records import BTYPE, BuildRecord, TaskRecord
from omps_worker.sandbox.http_server import HttpServer, Request, Response

BuildName = Mapping[str, Any] | int | str
"""A build: the value that ``add_build`` returned, the build's id, or its NVR."""

_OSBS: Any = object()
_HUB, _ROOT = "/kojihub", "/kojiroot"


class SandboxKoji(HttpServer):
    """A Koji hub and its files, empty at first. It may be changed while it handles requests.

    ``stop`` makes Koji unreachable; ``start`` makes it reachable again on the same port.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._answer, tls=tls)
        self._hub = SandboxHub()
        self._lock = self._hub.lock
        self._users = {"kojiadmin": 1, "osbs": 2, "jdoe": 3}
        self._packages: dict[str, int] = {}
        self._volumes = {"DEFAULT": 0}
        self._tasks = self._archives = 0
        self._latest = datetime(1970, 1, 1, tzinfo=timezone.utc)

    @property
    def hub_url(self) -> str:
        """The URL of the XML-RPC hub."""
        return self.url + _HUB

    @property
    def root_url(self) -> str:
        """The base URL of the files."""
        return self.url + _ROOT

    @property
    def calls(self) -> list[str]:
        """The names of the hub's methods that were called, including those in multicalls."""
        return self._hub.calls

    def fail_calls(self, outage: str, times: int | None = None) -> None:
        """Refuse the next ``times`` requests to the hub (None: all until ``recover``).

        ``outage``: ``offline``, ``lockout`` or ``database``. The file server keeps working.
        """
        self._hub.fail_calls(outage, times)

    def break_call(self, method: str, reason: str) -> None:
        """Answer calls of ``method`` with fault 1 until ``recover``, like a hub whose database fails."""
        self._hub.break_call(method, reason)

    def remove_call(self, method: str) -> None:
        """Remove the call ``method``, like a hub that has never had it."""
        self._hub.remove_call(method)

    def recover(self) -> None:
        """End the outage and all database errors."""
        self._hub.recover()

    def add_build(
        self,
        name: str,
        version: str,
        release: str,
        *,
        manifests: bytes | None = None,
        kind: OperatorKind | None = None,
        state: int = BuildState.COMPLETE,
        legacy: bool = False,
        owner: str = "jdoe",
        target: str = "operators-1-candidate",
        volume: str = "DEFAULT",
        epoch: int | None = None,
        task: bool = True,
        completed_at: datetime | None = None,
        content_generator: str | None = records.CONTENT_GENERATOR,
        extra: Mapping[str, Any] | None = _OSBS,
        archive: str = records.ARCHIVE_NAME,
        flat_key: bool = True,
        subtypes: bool = True,
        subdirectory: str = "",
        metadata_only: bool = False,
        missing_file: bool = False,
        checksum: str | None = None,
        checksum_type: str = "md5",
        draft: bool = False,
        pullspec: str | None = None,
        manifest_list: bool = True,
    ) -> dict[str, Any]:
        """Add a build, and return the reply to ``getBuild``. Ids and completion times increase.

        If a build of the same NVR failed or was canceled, the new build reuses its id.

        ``manifests``: the zip of manifests.
        ``kind``: defaults to NONE without manifests, and to PACKAGE_MANIFESTS with them (with ``legacy``: UNKNOWN, as
        builds were then). Another kind than NONE without manifests makes a build whose archive was never uploaded.
        ``legacy``: the archive is among the logs, and only the flat key names it.
        ``flat_key=False``: only typeinfo names the archive.
        ``archive``: the name of the archive in ``extra``.
        ``subtypes=False``: the build does not state its kind.
        ``extra``: replaces OSBS's extra; rpm builds have None.
        ``task=False``: the build has no task, and so no target.
        ``subdirectory``: put the file into this subdirectory of its usual directory; for a legacy archive that is a
        subdirectory of the logs (an architecture).
        ``metadata_only``, ``missing_file``: Koji knows the archive, but the file does not exist.
        ``checksum``: a wrong checksum of the archive.
        ``pullspec``: the image that OSBS pushed, with its digest. ``manifest_list=False``: it is a single manifest, and
        only the build's image archive names it.
        ``draft``: the build is a draft, and its release has a draft's suffix, until ``promote``.
        A build that is not complete has no archive, extra or task until ``set_state`` completes it.
        """
        if kind is None:
            kind = OperatorKind.NONE
            if manifests is not None:
                kind = OperatorKind.UNKNOWN if legacy else OperatorKind.PACKAGE_MANIFESTS
        with self._lock:
            record = self._new_record(name, version, release, epoch, owner, volume, content_generator)
            if draft:
                record.draft, record.release = True, koji.gen_draft_release(release, record.id)
            if task:
                record.task = self._new_task(record, target)
            if extra is not _OSBS:
                record.extra = None if extra is None else dict(extra)
            else:
                record.extra = records.container_extra(
                    record,
                    kind=kind,
                    archive=None if kind == OperatorKind.NONE else archive,
                    typeinfo=not legacy,
                    flat_key=flat_key or legacy,
                    subtypes=subtypes,
                    pullspec=pullspec,
                    manifest_list=manifest_list,
                )
            logs = f"{record.directory}/data/logs"
            record.files = {f"{logs}/{log}": b"built\n" for log in ("osbs-build.log", "x86_64-build.log")}
            if manifests is not None:
                place = logs if legacy else f"{record.directory}/files/{BTYPE}"
                if not metadata_only and not missing_file:
                    record.files["/".join(filter(None, (place, subdirectory, archive)))] = manifests
                if not legacy:
                    self._archives += 1
                    row = records.archive_row(self._archives, record.id, archive, manifests, checksum_type)
                    row["metadata_only"] = metadata_only
                    row["checksum"] = checksum or row["checksum"]
                    record.archives.append(row)
            if pullspec is not None and not manifest_list:
                self._archives += 1
                record.archives.append(records.image_row(self._archives, record, pullspec))
            self._hub.builds[record.id] = record
            return self.set_state(record.id, state, completed_at=completed_at)

    def set_state(self, build: BuildName, state: int, *, completed_at: datetime | None = None) -> dict[str, Any]:
        """Change the state of a build, and return the reply to ``getBuild``.

        When a build ends, its completion time is set. As in Koji, a deleted build only loses its files.
        """
        with self._lock:
            record = self._record(build)
            if record.completed is None and state != BuildState.BUILDING:
                now = datetime.now(timezone.utc)
                record.completed = completed_at or max(now, self._latest + timedelta(microseconds=1))
                self._latest = max(self._latest, record.completed)
            record.state = BuildState(state)
            if state == BuildState.DELETED:
                record.files.clear()
            return record.row()

    def promote(self, build: BuildName, *, promoted_at: datetime | None = None) -> dict[str, Any]:
        """Promote a draft to a regular build, and return the reply to ``getBuild``.

        The build keeps its id and its completion time. Its files are at the new path and at the old one.
        """
        with self._lock:
            record = self._record(build)
            if not record.draft or record.state != BuildState.COMPLETE:
                raise ValueError(f"{record.nvr} cannot be promoted")
            before = record.directory
            record.release, record.draft = koji.parse_target_release(record.release), False
            record.promoted = promoted_at or datetime.now(timezone.utc)
            for path, content in list(record.files.items()):
                record.files[record.directory + path.removeprefix(before)] = content
            return record.row()

    def promotion_message(
        self, build: BuildName, dialect: str = "protonmsg", *, topic_prefix: str | None = None
    ) -> BusMessage:
        """Return the message that Koji's plugins publish when the build, a draft until now, is promoted."""
        with self._lock:
            row = self._record(build).row()
        return messages.promotion_message(row, dialect, topic_prefix)

    def message(
        self,
        build: BuildName,
        dialect: str = "fedora",
        *,
        topic_prefix: str | None = None,
        state: int | None = None,
    ) -> BusMessage:
        """Return the message that Koji's plugins publish when the build enters its current state, or ``state``.

        ``dialect``: one of ``messages.DIALECTS``.
        """
        with self._lock:
            record = self._record(build)
            if state is not None:
                record = replace(record, state=BuildState(state))
            row = record.row()
            task = record.task.row(request=True) if record.task is not None and record.imported else None
        old: int | None = BuildState.BUILDING.value
        if row["state"] == BuildState.BUILDING or (row["state"] == BuildState.COMPLETE and task is None):
            old = None
        elif row["state"] == BuildState.DELETED:
            old = BuildState.COMPLETE.value
        return messages.build_message(row, task, dialect, topic_prefix, old)

    def tag_message(
        self, build: BuildName, tag: str = "operators-1-candidate", *, topic_prefix: str | None = None
    ) -> BusMessage:
        """Return the message that koji-fedoramessaging publishes when the build is tagged; a worker ignores it."""
        with self._lock:
            row = self._record(build).row()
        return messages.tag_message(row, tag, topic_prefix)

    def _new_record(
        self, name: str, version: str, release: str, epoch: int | None, owner: str, volume: str, generator: str | None
    ) -> BuildRecord:
        earlier = self._hub.find(f"{name}-{version}-{release}")
        if earlier is not None and earlier.state not in (BuildState.FAILED, BuildState.CANCELED):
            raise ValueError(f"{earlier.nvr} exists")
        return BuildRecord(
            id=earlier.id if earlier is not None else len(self._hub.builds) + 1,
            name=name,
            version=version,
            release=release,
            epoch=epoch,
            state=BuildState.BUILDING,
            package_id=self._packages.setdefault(name, len(self._packages) + 1),
            owner=owner,
            owner_id=self._users.setdefault(owner, len(self._users) + 1),
            volume=volume,
            volume_id=self._volumes.setdefault(volume, len(self._volumes)),
            content_generator=generator,
            created=datetime.now(timezone.utc),
        )

    def _new_task(self, record: BuildRecord, target: str) -> TaskRecord:
        self._tasks += 1
        source = records.source_url(record.name, "d3670cde")
        request = [source, target, {"git_branch": "operators-1", "scratch": False}]
        return TaskRecord(self._tasks, record.owner_id, request, record.created - timedelta(milliseconds=130))

    def _record(self, build: BuildName) -> BuildRecord:
        key = build["id"] if isinstance(build, Mapping) else build
        record = self._hub.find(key)
        if record is None:
            raise KeyError(key)
        return record

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(_ROOT + "/"):
            return self._file(request)
        if request.path != _HUB:
            return Response.html(404, "404 Not Found")
        if request.method != "POST":
            text = b"Method Not Allowed\nThis is an XML-RPC server. Only POST requests are accepted.\n"
            return Response(405, text, "text/plain", {"Allow": "POST"})
        return self._hub.answer(request.body)

    def _file(self, request: Request) -> Response:
        path = "/".join(part for part in request.segments[1:] if part not in ("", "."))
        if path == "packages" and request.method in ("GET", "HEAD"):
            return Response(200, b"<h1>Index of /packages</h1>\n", "text/html")
        with self._lock:
            content = next((record.files[path] for record in self._hub.builds.values() if path in record.files), None)
        if content is None or request.method not in ("GET", "HEAD"):
            return Response.html(404, "404 Not Found")
        return Response(200, content, "application/zip" if path.endswith(".zip") else "text/plain")
