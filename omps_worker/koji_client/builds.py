# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds in Koji: their descriptions, and downloads of their archives of manifests.

Values in the hub's answers may have any type. Values that are needed are checked; other values that are not valid count
as unknown.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omps_worker.common.errors import (
    KojiError,
    KojiManifestsArchiveNotFound,
    KojiNVRBuildNotFound,
    OMPSUploadedFileError,
)
from omps_worker.common.http_client.client import HttpClient, HttpFault, address_of, is_failure, printable
from omps_worker.common.limits import limit_advice
from omps_worker.common.model import Build
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.koji_client.answers import (
    MAX_NAME,
    build_of,
    dict_of,
    image_of_archive,
    is_id,
    is_integer,
    name_of,
    rows_of,
    target_of,
    text_of,
)
from omps_worker.koji_client.listing import Listing

if TYPE_CHECKING:
    from omps_worker.configuration.settings.models import KojiSettings, Limits
    from omps_worker.koji_client.hub import Hub, HubRefusal

FRESH_SECONDS = 600.0
"""The seconds after its completion for which a build is fresh. Its files may not have reached a file server behind NFS
or a CDN yet."""

PAUSES = (2.0, 5.0)
"""The seconds to wait before each further request for a missing file of a fresh build."""

_CHECKSUMS = {0: "md5", 1: "sha1", 2: "sha256"}
"""Koji's ``checksum_type`` (koji.CHECKSUM_TYPES)."""


@dataclass(frozen=True)
class _Listed:
    """The facts about a file in Koji's database; None for unknown values. ``known`` is False if the file has no row."""

    size: int | None = None
    algorithm: str | None = None
    checksum: str | None = None
    known: bool = False

    @property
    def verifies(self) -> bool:
        """Whether a download can be verified with these facts."""
        return self.size is not None or self.checksum is not None


class _Missing(Exception):
    """The file server does not have the file."""


class _Different(Exception):
    """The file is not the one that Koji lists; the text continues a sentence that begins with "it"."""


class KojiBuilds:
    """Finds builds in Koji and downloads their archives. Threads may share it.

    ``pause`` waits for a number of seconds; it is called only for files that are missing from a fresh build.
    ``observer`` is notified of each call.
    """

    def __init__(
        self,
        settings: KojiSettings,
        limits: Limits,
        ca_bundle: Path | None = None,
        *,
        pause: Callable[[float], object] = time.sleep,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._ca_bundle = ca_bundle
        self._pause = pause
        self._observer = observer
        self.failed_download: str | None = None
        """The URL of the last download if it failed because of the file server, else None. For health checks."""
        self._files = HttpClient(timeout=settings.timeout, ca_bundle=ca_bundle, observer=observer, service="koji_files")
        self._listing = Listing(self._ask)

    @cached_property
    def _hub(self) -> Hub:
        # Importing koji takes longer than some commands take as a whole.
        from omps_worker.koji_client.hub import Hub

        settings = self._settings
        return Hub(settings.hub_url, timeout=settings.timeout, ca_bundle=self._ca_bundle, observer=self._observer)

    def version(self) -> str:
        """Return the version of the hub, e.g. ``1.35.3``, or of its API if the hub is too old. Raises KojiError."""
        try:
            version = name_of(self._ask("getKojiVersion"))
        except KojiError as error:
            if not error.lacking:
                raise
            number = self._ask("getAPIVersion")
            version = f"API version {number}" if isinstance(number, int) else None
        if version is None:
            raise KojiError("Koji's hub answered without a version.")
        return printable(version, 50)

    def is_there(self) -> None:
        """Return if the hub answers calls, even if it does not have this one. Raises KojiError if it does not."""
        try:
            self._ask("getAPIVersion")
        except KojiError as error:
            if not error.lacking:
                raise

    def find(self, *, build_id: int | None = None, nvr: str | None = None, with_target: bool = True) -> Build:
        """Return the build with this id or, if there is none, with this NVR, whatever its state.

        ``with_target`` also asks for the build's task, which has the build target; this takes one more call. Raises
        KojiNVRBuildNotFound, and KojiError if there is no usable answer: trying again may help.
        """
        info = None
        if build_id is not None and is_id(build_id):
            info = self._ask("getBuild", build_id)
            if info is not None and dict_of(info).get("id") != build_id:
                raise KojiError(f"Koji's hub was asked for build {build_id}, but its answer describes another build.")
        if info is None and nvr is not None:
            info = self._ask_for_nvr(nvr)
        if info is None:
            name = f"with the id {build_id}" if nvr is None else printable(nvr, 200)
            raise KojiNVRBuildNotFound(f"Koji knows no build {name}.")
        target = self._target(info) if with_target else None
        return build_of(info, target)

    def bundle_image(self, build: Build) -> str:
        """Return the pull specification, with a digest, of a bundle build's image, in the registry that OSBS pushed to.

        Raises KojiManifestsArchiveNotFound, a fault of the build, if Koji has none; KojiError if there is no usable
        answer.
        """
        if build.bundle_image is not None:
            return build.bundle_image
        rows = rows_of(self._ask("listArchives", buildID=build.id, type="image"), "listArchives")
        images = dict.fromkeys(image for row in rows if (image := image_of_archive(row)) is not None)
        if len(images) == 1:
            return next(iter(images))
        reason = f"Koji lists {len(images)} images of it and no list of manifests" if images else "Koji names none"
        raise KojiManifestsArchiveNotFound(
            f"The image of the bundle build {build.nvr} was not found: {reason} by its digest (neither in "
            "extra.image.index.pull of the build, nor in extra.docker.repositories of its image archive)."
        )

    def siblings(self, build: Build, since: datetime) -> Iterator[Build]:
        """Yield the builds of the same component and target; see ``listing.Listing.siblings``."""
        return self._listing.siblings(build, since)

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """Return the builds of a period; see ``listing.Listing.completed``.

        A KojiError is permanent if the hub refused the call: it would refuse it again.
        """
        try:
            return self._listing.completed(since, until)
        except KojiError as error:
            error.transient = not error.refused
            raise

    def download(self, build: Build, destination: Path) -> str:
        """Write the build's archive of manifests to ``destination`` and return its URL.

        The download is verified as far as Koji lists the file. If it fails, no file is left behind.

        Raises KojiManifestsArchiveNotFound if Koji itself has no archive, and OMPSUploadedFileError if it is too large.
        Both are faults of the build. Raises KojiError if the file server does not have what Koji lists, or sends
        something else. That is a fault of the site, and trying again may help. The errors name the URL if there is one.
        """
        url, listed = self._legacy_location(build) if build.legacy else self._location(build)
        if listed.size is not None and listed.size > self._limits.archive_bytes:
            raise self._too_large(build, url)
        # Koji writes the rows and the state in one transaction: a file without a row will not appear later.
        expected = listed.known or build.legacy
        pauses = list(PAUSES) if _is_fresh(build) and expected else []
        waited = bool(pauses)
        may_download_again = True
        try:
            while True:
                try:
                    self._fetch(url, listed, build, destination)
                    return address_of(url)
                except _Missing:
                    if not expected:
                        raise _not_found_error(
                            build, f"Koji does not list it, nor is it at {address_of(url)}"
                        ) from None
                    if not pauses:
                        raise _not_served_error(build, url, waited=waited) from None
                    self._pause(pauses.pop(0))
                except _Different as difference:
                    if not may_download_again:
                        raise KojiError(
                            f"The file at {address_of(url)} on Koji's file server is not the archive of manifests of "
                            f"{build.nvr}: it {difference}."
                        ) from None
                    may_download_again = False
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        from omps_worker.koji_client.hub import HubRefusal

        try:
            return self._hub.call(method, *arguments, **options)
        except HubRefusal as refusal:
            raise _refusal_error(method, refusal) from None

    def _ask_for_nvr(self, nvr: str) -> Any:
        from omps_worker.koji_client.hub import HubRefusal

        # The hub answers such names with "bad request", or not at all.
        if len(nvr) > MAX_NAME or not nvr.isprintable():
            return None
        try:
            return self._hub.call("getBuild", nvr)
        except HubRefusal as refusal:
            if "invalid format" in str(refusal) or "bad request" in str(refusal):
                return None
            raise _refusal_error("getBuild", refusal) from None

    def _target(self, info: Any) -> str | None:
        task_id = dict_of(info).get("task_id")
        if not is_id(task_id):
            return None
        return target_of(self._ask("getTaskInfo", task_id, request=True))

    def _location(self, build: Build) -> tuple[str, _Listed]:
        """Return the URL of the archive, and what Koji lists about it."""
        url = f"{self._directory(build)}/files/operator-manifests/{_segment(build, build.archive)}"
        rows = self._ask("listArchives", buildID=build.id, type="operator-manifests")
        rows = [row for row in rows_of(rows, "listArchives") if row.get("filename") == build.archive]
        if rows and all(row.get("metadata_only") for row in rows):
            raise _not_found_error(build, f"Koji has only its metadata, and no file at {address_of(url)}")
        return url, _first_listed(row for row in rows if not row.get("metadata_only"))

    def _directory(self, build: Build) -> str:
        import koji  # type: ignore[import-untyped]

        segments = {key: _segment(build, getattr(build, key)) for key in ("name", "version", "release")}
        volume = None if build.volume is None else _segment(build, build.volume)
        return str(koji.PathInfo(topdir=self._root).build({**segments, "volume_name": volume}))

    @property
    def _root(self) -> str:
        return self._settings.root_url.rstrip("/")

    def _legacy_location(self, build: Build) -> tuple[str, _Listed]:
        """Return the URL of an archive among the build's logs, about which Koji lists nothing."""
        logs = rows_of(self._ask("getBuildLogs", build.id), "getBuildLogs")
        paths = [log.get("path") for log in logs if log.get("name") == build.archive]
        if not paths or not isinstance(paths[0], str):
            raise _not_found_error(build, "it is not among the logs")
        segments = [segment for segment in paths[0].split("/") if segment not in {"", "."}]
        return "/".join([self._root, *(_segment(build, segment) for segment in segments)]), _Listed()

    def _fetch(self, url: str, listed: _Listed, build: Build, destination: Path) -> None:
        limit = self._limits.archive_bytes if listed.size is None else listed.size
        digest = hashlib.new(listed.algorithm or "md5", usedforsecurity=False)
        size = 0
        with destination.open("wb") as file:

            def write(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                digest.update(piece)
                file.write(piece)

            try:
                answer = self._files.download(url, write, max_bytes=limit)
            except HttpFault as fault:
                if fault.kind == "too_large":
                    if listed.size is None:
                        raise self._too_large(build, url) from None
                    raise _Different(f"is larger than the {listed.size} bytes that Koji lists") from None
                self.failed_download = url
                raise KojiError(
                    f"The archive of manifests of {build.nvr} cannot be downloaded from {address_of(url)}: {fault}"
                ) from None
        self.failed_download = url if is_failure(answer.status) else None
        if answer.status in {404, 410}:
            raise _Missing
        if answer.status != 200:
            raise KojiError(
                f"Koji's file server answered with status {answer.status} to the download of {address_of(url)}, the "
                f"archive of manifests of {build.nvr}.",
                retry_after=answer.retry_after,
            )
        if listed.size is not None and size != listed.size:
            raise _Different(f"has {size} bytes, but Koji lists {listed.size}")
        if listed.algorithm and digest.hexdigest() != listed.checksum:
            raise _Different(f"has a different {listed.algorithm} checksum from the one that Koji lists")
        if not listed.verifies and not zipfile.is_zipfile(destination):
            # Koji lists neither size nor checksum, but this is a page of a proxy, or only a part of the file.
            raise _Different("is not a complete zip file")

    def _too_large(self, build: Build, url: str) -> OMPSUploadedFileError:
        limit = self._limits.archive_bytes
        return OMPSUploadedFileError(
            f"The archive of manifests of {build.nvr}, {address_of(url)}, is larger than the limit of {limit} bytes; "
            f"{limit_advice('archive_bytes')}."
        )


def _refusal_error(method: str, refusal: HubRefusal) -> KojiError:
    error = KojiError(f"Koji's hub refuses {method}: {refusal}")
    error.refused, error.lacking = True, refusal.lacking
    return error


def _first_listed(rows: Iterable[dict[str, Any]]) -> _Listed:
    for row in rows:
        size, checksum, kind = row.get("size"), text_of(row.get("checksum")), row.get("checksum_type")
        algorithm = _CHECKSUMS.get(kind) if isinstance(kind, int) and checksum else None
        return _Listed(
            size=size if isinstance(size, int) and is_integer(size) and size >= 0 else None,
            algorithm=algorithm,
            checksum=checksum.lower() if checksum and algorithm else None,
            known=True,
        )
    return _Listed()


def _segment(build: Build, name: str | None) -> str:
    """Return ``name`` quoted as a segment of a URL's path. Raises KojiManifestsArchiveNotFound if it cannot be one."""
    if not name:
        raise _not_found_error(build, "the build does not name one")
    if name in {".", ".."} or "/" in name or len(name) > MAX_NAME or not name.isprintable():
        raise _not_found_error(build, f"{printable(name, 100)!r} is not a file name")
    return quote(name, safe="")


def _not_found_error(build: Build, reason: str) -> KojiManifestsArchiveNotFound:
    return KojiManifestsArchiveNotFound(f"The archive of manifests of {build.nvr} was not found: {reason}.")


def _not_served_error(build: Build, url: str, *, waited: bool) -> KojiError:
    error = KojiError(
        f"Koji's file server does not have {address_of(url)}, the archive of manifests of {build.nvr}, though Koji's "
        f"hub {'has it among the logs' if build.legacy else 'lists it'}."
    )
    error.absent, error.insisted = True, waited
    return error


def _is_fresh(build: Build) -> bool:
    if build.completed_at is None:
        return False
    return (datetime.now(timezone.utc) - build.completed_at).total_seconds() < FRESH_SECONDS
