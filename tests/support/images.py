# SPDX-License-Identifier: GPL-3.0-or-later
"""Small images, and places in which tests keep them: the sandbox's registry and the real one."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from omps_worker.destinations.catalog.image_registry.answers import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
)
from omps_worker.destinations.catalog.image_registry.auth import Access
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from tests.support.certificates import self_signed
from tests.support.docker_registry import PASSWORD, USER, DockerRegistry

FILES = {"configs/etcd/catalog.json": b'{"schema": "olm.package", "name": "etcd"}\n'}
ROBOT = Credentials(USER, SecretStr(PASSWORD))


@dataclass(frozen=True)
class SmallImage:
    """An image from scratch with one layer, as docker or OCI has it."""

    files: Mapping[str, bytes] = field(default_factory=lambda: FILES)
    oci: bool = False
    extra: str = ""
    """Text in the configuration that makes another image of the same files."""

    @property
    def layer(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in self.files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return gzip.compress(packed.getvalue(), mtime=0)

    @property
    def config(self) -> bytes:
        plain = gzip.decompress(self.layer)
        content = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"a-label": "a value", "extra": self.extra}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(plain)]},
            "history": [{"created_by": "a test"}],
        }
        return json.dumps(content).encode()

    @property
    def media_type(self) -> str:
        return OCI_MANIFEST if self.oci else DOCKER_MANIFEST

    @property
    def body(self) -> bytes:
        kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        if not self.oci:
            kinds = (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
        config, layer = (
            {"mediaType": kind, "size": len(blob), "digest": digest_of(blob)}
            for kind, blob in zip(kinds, (self.config, self.layer), strict=True)
        )
        content = {"schemaVersion": 2, "mediaType": self.media_type, "config": config, "layers": [layer]}
        return json.dumps(content).encode()

    @property
    def digest(self) -> str:
        return digest_of(self.body)

    def push(self, client: ImageRegistryClient, image: ImageName) -> str:
        blobs = (self.layer, self.config)
        for blob in blobs:
            client.push_blob(image.repository, blob)
        return client.put_image(image, self.body, self.media_type, blobs)


def list_of(*images: SmallImage, oci: bool = False) -> tuple[bytes, str]:
    """A list of images, one for each of some architectures, and its media type."""
    entries = [
        {
            "mediaType": image.media_type,
            "size": len(image.body),
            "digest": image.digest,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for image, architecture in zip(images, ("amd64", "arm64", "s390x"), strict=False)
    ]
    media_type = OCI_INDEX if oci else DOCKER_LIST
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode(), media_type


@dataclass
class Place:
    """A registry to keep images in, and how a client logs in there."""

    name: str
    url: str
    login: str
    trusted: Path | None
    registry: SandboxImageRegistry | DockerRegistry
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def is_real(self) -> bool:
        return isinstance(self.registry, DockerRegistry)

    def client(self, credentials: Credentials | None = ROBOT, **options: Any) -> ImageRegistryClient:
        wanted = None if self.login == "none" else credentials
        return ImageRegistryClient(lambda _: wanted, **{"timeout": 20, "ca_bundle": self.trusted, **options})

    def repository(self, name: str = "catalog") -> Repository:
        """A repository that nobody has used."""
        scheme = self.url.partition(":")[0]
        return Repository(scheme, self.host, f"community-{next(self._numbers)}/{name}")

    def image(self, name: str = "catalog", tag: str = "latest") -> ImageName:
        """A tag in a repository that nobody has used."""
        return ImageName(self.repository(name), tag)


def delete(client: ImageRegistryClient, image: ImageName) -> int:
    """Ask the registry to delete a manifest; its status."""
    access = Access(image.repository, frozenset({f"repository:{image.repository.path}:delete"}), "Failed to delete")
    url = f"{image.repository.url}/manifests/{image.reference}"
    return client._calls.call("Failed to delete", "DELETE", url, access).status


@contextmanager
def sandbox_place(directory: Path, login: str = "none", *, tls: bool = False, **options: Any) -> Iterator[Place]:
    """The sandbox's registry, with an account that may do everything."""
    trusted = None
    if tls:
        trusted, options["tls"] = self_signed(directory)
    with SandboxImageRegistry(login=login, **options) as registry:
        registry.accounts.add(USER, PASSWORD)
        yield Place(f"sandbox {login}", registry.url, login, trusted, registry)


@contextmanager
def docker_place(directory: Path, login: str = "none", *, tls: bool = False) -> Iterator[Place]:
    """The real registry, with the same account."""
    with DockerRegistry(directory, login=login, tls=tls) as registry:
        yield Place(f"docker {login}", registry.url, login, registry.trusted, registry)
