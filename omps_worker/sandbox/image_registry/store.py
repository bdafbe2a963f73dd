# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandbox's image registry holds: blobs, manifests and tags of repositories."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LISTS = frozenset(
    {
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
    }
)
IMAGES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    }
)


@dataclass(frozen=True)
class StoredManifest:
    """A manifest as it was sent."""

    media_type: str
    body: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest that names it."""
        return digest_of(self.body)


@dataclass
class StoredRepository:
    """A repository: it exists from its first manifest on, and stays when it is empty."""

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    manifests: dict[str, StoredManifest] = field(default_factory=dict[str, StoredManifest])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    known: bool = False

    def manifest(self, reference: str) -> StoredManifest | None:
        """Return the manifest at a tag or digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def put(self, reference: str, manifest: StoredManifest) -> None:
        """Store a manifest at a tag or at its digest."""
        self.known = True
        self.manifests[manifest.digest] = manifest
        if not DIGEST.fullmatch(reference):
            self.tags[reference] = manifest.digest

    def add_blobs(self, *contents: bytes) -> None:
        """Store blobs."""
        self.blobs.update((digest_of(content), content) for content in contents)

    def delete(self, digest: str) -> bool:
        """Delete a manifest and every tag that names it; return whether there was one."""
        if self.manifests.pop(digest, None) is None:
            return False
        self.tags = {tag: named for tag, named in self.tags.items() if named != digest}
        return True

    def missing(self, manifest: Any) -> list[str]:
        """Return the digests that a manifest names and that are not here."""
        return [
            digest
            for digest, among in _references(manifest)
            if digest not in (self.manifests if among == "manifests" else self.blobs)
        ]


def digest_of(content: bytes) -> str:
    """Return the digest of these bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def manifest_fault(body: bytes, media_type: str) -> str | None:
    """Return what is wrong with the form of a manifest; None if it can be stored."""
    try:
        content = json.loads(body)
        if media_type not in IMAGES | LISTS:
            return "unsupported media type"
        if content["schemaVersion"] != 2 or content.get("mediaType", media_type) != media_type:
            return "mediaType in manifest and Content-Type differ"
        if media_type in LISTS and ("layers" in content or "config" in content):
            return "a list with layers"
        if media_type in IMAGES and "manifests" in content:
            return "an image with manifests"
        list(_references(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}"
    return None


def _references(content: Any) -> Iterator[tuple[str, str]]:
    if "manifests" in content:
        yield from ((entry["digest"], "manifests") for entry in content["manifests"])
        return
    yield content["config"]["digest"], "blobs"
    yield from ((layer["digest"], "blobs") for layer in content["layers"] if not layer.get("urls"))
