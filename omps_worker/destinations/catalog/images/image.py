# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as bytes: configuration, manifest and layers, in Docker's format (version 2, schema 2) or OCI's.

Nothing in an image tells a time or a machine, so the same content is the same digest.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omps_worker.destinations.catalog.images.layers import Layer, layer_of, sha256
from omps_worker.destinations.catalog.packages.package_file import canonical

CREATED = "1970-01-01T00:00:00Z"
"""The time that every image says it was made at."""

JSON_BYTES = 4 * 2**20
"""How large a manifest or a configuration may be; registries take manifests of 4 MiB."""


class Format(str, enum.Enum):
    """A format of manifests."""

    DOCKER = "docker"
    OCI = "oci"

    @property
    def manifest_type(self) -> str:
        """The media type of a manifest."""
        return _TYPES[self][0]

    @property
    def config_type(self) -> str:
        """The media type of a configuration."""
        return _TYPES[self][1]

    @property
    def layer_type(self) -> str:
        """The media type of a layer in gzip."""
        return _TYPES[self][2]


_TYPES = {
    Format.DOCKER: (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
    Format.OCI: (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ),
}


@dataclass(frozen=True, slots=True)
class LayerReference:
    """What a manifest and a configuration say of one layer."""

    digest: str
    size: int
    diff_id: str
    history: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the layer's entry in the history, beside its time."""


@dataclass(frozen=True, slots=True)
class Image:
    """The configuration and the manifest of an image; its layers are blobs of their own."""

    format: Format
    config: bytes = field(repr=False)
    manifest: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which the image is named."""
        return sha256(self.manifest)


def image_of(layers: Sequence[LayerReference], labels: Mapping[str, str], image_format: Format) -> Image:
    """Return the image that consists of ``layers``, the lowest first."""
    config = canonical(
        {
            "architecture": "amd64",
            "config": {"Labels": dict(labels)},
            "created": CREATED,
            "history": [{"created": CREATED, **layer.history} for layer in layers],
            "os": "linux",
            "rootfs": {"diff_ids": [layer.diff_id for layer in layers], "type": "layers"},
        }
    ).encode("ascii")
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": image_format.manifest_type,
            "config": {"mediaType": image_format.config_type, "digest": sha256(config), "size": len(config)},
            "layers": [
                {"mediaType": image_format.layer_type, "digest": layer.digest, "size": layer.size} for layer in layers
            ],
        }
    ).encode("ascii")
    return Image(image_format, config, manifest)


def bundle_image(
    files: Mapping[str, bytes], labels: Mapping[str, str], image_format: Format = Format.DOCKER
) -> tuple[Image, Layer]:
    """Return the image of a bundle and its one layer. ``files``: the content of each file, by its path."""
    layer = layer_of(files)
    return image_of([LayerReference(layer.digest, layer.size, layer.diff_id)], labels, image_format), layer


def digest_tag(digest: str) -> str:
    """Return the tag that keeps an image in a registry that removes untagged ones: ``sha256-`` and 12 digits."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}-{value[:12]}"
