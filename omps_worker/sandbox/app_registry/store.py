# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages and releases in the sandbox's registry, in the form in which it returns them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import semver

_VERSION = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-([0-9a-zA-Z.-]+))?(?:\+([0-9a-zA-Z.-]+))?")


@dataclass(frozen=True)
class StoredRelease:
    """One release in the registry. ``digest``: hex sha256 of the uncompressed tar."""

    version: str
    media_type: str
    digest: str
    blob: bytes = field(repr=False)
    created_at: datetime

    @property
    def manifest(self) -> dict[str, Any]:
        """The release's descriptor, without the package name."""
        content = {
            "digest": self.digest,
            "mediaType": f"application/vnd.cnr.package.{self.media_type}.v0.tar+gzip",
            "size": len(self.blob),
            "urls": [],
        }
        return {
            "content": content,
            "created_at": self.created_at.strftime("%Y-%m-%dT%H:%M:%S"),
            "digest": "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            "mediaType": f"application/vnd.cnr.package-manifest.{self.media_type}.v0.json",
            "metadata": None,
        }


@dataclass
class Repository:
    """A package, or an image repository that occupies the name of a package."""

    public: bool = False
    image: bool = False
    owners: set[str] = field(default_factory=set)
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    stored: list[StoredRelease] = field(default_factory=list)

    def replace(self, old: list[StoredRelease], new: StoredRelease) -> None:
        """Remove the releases ``old``, and append ``new``."""
        self.stored = [release for release in self.stored if release not in old] + [new]


def listed(key: tuple[str, str], repository: Repository) -> dict[str, Any]:
    """Return the entry of a package with at least one release in the listing of its namespace."""
    versions = sorted({release.version for release in repository.stored}, key=_order, reverse=True)
    stamps = [release.manifest["created_at"] for release in repository.stored]
    return {
        "channels": None,
        "created_at": stamps[0],
        "default": versions[0],
        "manifests": sorted({release.media_type for release in repository.stored}),
        "name": "/".join(key),
        "namespace": key[0],
        "releases": versions,
        "updated_at": max(stamps),
        "visibility": "public" if repository.public else "private",
    }


def same(release: StoredRelease, version: str, media_type: str) -> bool:
    """Return whether ``release`` has that version and media type."""
    return release.version == version and release.media_type == media_type


def tar_digest(blob: bytes) -> str:
    """Return the hex sha256 of the tar in a tar.gz. Raises OSError, EOFError or zlib.error if it cannot be unpacked."""
    digest = hashlib.sha256()
    if blob:
        with gzip.GzipFile(fileobj=io.BytesIO(blob)) as unpacked:
            while chunk := unpacked.read(65536):
                digest.update(chunk)
    return digest.hexdigest()


def version_fault(version: str) -> str | None:
    """Return the registry's objection to a version string, or None if the registry accepts it."""
    if not version:
        return f"Invalid empty version string: {version!r}"
    match = _VERSION.fullmatch(version)
    if match is None:
        return f"Invalid version string: {version!r}"
    for part, number in zip(("major", "minor", "patch"), match.groups(), strict=False):
        if len(number) > 1 and number.startswith("0"):
            return f"Invalid leading zero in {part}: {version!r}"
    return None if semver.Version.is_valid(version) else f"Invalid version string: {version!r}"


def rfc_date(moment: datetime) -> str:
    """Return a date in the format of Quay's own API."""
    return moment.strftime("%a, %d %b %Y %H:%M:%S -0000")


def _order(version: str) -> tuple[bool, semver.Version | str]:
    valid = semver.Version.is_valid(version)
    return valid, semver.Version.parse(version) if valid else version
