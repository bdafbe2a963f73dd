# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a bundle build, as OSBS makes it and pushes it before Koji says that the build is complete.

The same arguments give the same image: ``FROM scratch``, the labels, and one layer each for ``manifests/`` and
``metadata/``.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from omps_worker.sandbox import operators
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from omps_worker.sandbox.image_registry.store import digest_of

_DOCKER = "application/vnd.docker"
_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
_LIST = f"{_DOCKER}.distribution.manifest.list.v2+json"
_CONFIG = f"{_DOCKER}.container.image.v1+json"
_LAYER = f"{_DOCKER}.image.rootfs.diff.tar.gzip"
_LABEL = "operators.operatorframework.io.bundle"


def push_bundle(
    images: SandboxImageRegistry,
    package: str,
    version: str,
    *,
    release: str = "1",
    channel: str = "stable",
    manifest_list: bool = True,
) -> str:
    """Push the image of a bundle build of ``package`` to ``images``, and return its pull specification with a digest.

    That is what ``add_build`` takes as ``pullspec``. It names a list of manifests, or with ``manifest_list=False`` the
    image's only manifest. The tags are those of OSBS: version and release, version, and ``latest``.
    """
    labels = _labels(package, channel)
    files = operators.bundle_tree(package, version=version)
    annotations = "annotations:\n" + "".join(f"  {key}: {json.dumps(value)}\n" for key, value in labels.items())
    tars = [
        _tar({f"manifests/{name}": text for name, text in files.items()}),
        _tar({"metadata/annotations.yaml": annotations}),
    ]
    layers = [gzip.compress(tar, mtime=0) for tar in tars]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {**labels, "version": version, "release": release}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
            "history": [{"created_by": "COPY manifests /manifests/"}, {"created_by": "COPY metadata /metadata/"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(_CONFIG, config),
            "layers": [_described(_LAYER, layer) for layer in layers],
        }
    ).encode()
    path = f"osbs/{package}-bundle"
    named, media_type = manifest, _MANIFEST
    images.put(path, digest_of(manifest), manifest, _MANIFEST, config, *layers)
    if manifest_list:
        platform = {"architecture": "amd64", "os": "linux"}
        entries = [{**_described(_MANIFEST, manifest), "platform": platform}]
        named = json.dumps({"schemaVersion": 2, "mediaType": _LIST, "manifests": entries}).encode()
        media_type = _LIST
    for tag in (f"{version}-{release}", version, "latest"):
        images.put(path, tag, named, media_type)
    return f"{images.host}/{path}@{digest_of(named)}"


def _labels(package: str, channel: str) -> dict[str, str]:
    return {
        f"{_LABEL}.channel.default.v1": channel,
        f"{_LABEL}.channels.v1": channel,
        f"{_LABEL}.manifests.v1": "manifests/",
        f"{_LABEL}.mediatype.v1": "registry+v1",
        f"{_LABEL}.metadata.v1": "metadata/",
        f"{_LABEL}.package.v1": package,
    }


def _described(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


def _tar(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member, content = tarfile.TarInfo(name), text.encode()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
