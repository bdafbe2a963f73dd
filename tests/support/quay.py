# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's registry with an organization, a robot that may push to it, and a client."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import SecretStr

from omps_worker.destinations.app_registry.client import AppRegistry, PackageListing
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from tests.support.blobs import tar_gz

BLOB = tar_gz("etcd")

PUSH = "POST /cnr/api/v1/packages/"
LOOK = "GET /cnr/api/v1/packages/"
PUBLISH = "POST /api/v1/repository/"
"""Requests, for ``Fault.match``."""


class Quay(SandboxRegistry):
    """A registry with the organization ``community`` and the robot ``community+push``, which may create packages."""

    def __init__(self, *, timeout: float = 20, password: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._timeout = timeout
        self.add_organization("community")
        self.robot = SecretStr(self.add_robot("community", password=password))
        self.oauth = SecretStr(self.add_oauth_token("community"))

    @cached_property
    def client(self) -> AppRegistry:
        return AppRegistry(self.url, timeout=self._timeout)

    def __enter__(self) -> Quay:
        super().__enter__()
        return self

    def look(self) -> PackageListing:
        return self.client.look("community", "etcd", self.robot)

    def push(self, version: str = "1.0.0", blob: bytes = BLOB) -> None:
        self.client.push("community", "etcd", version, blob, self.robot)

    def publish(self) -> None:
        self.client.publish("community", "etcd", self.oauth)
