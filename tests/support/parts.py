# SPDX-License-Identifier: GPL-3.0-or-later
"""A complete worker without a broker: the sandbox's Koji and registry, and the real code for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from pydantic import SecretStr

from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.common.model import Attempt, BuildEvent
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping.file import parse
from omps_worker.destinations import Destination
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.destinations.routing import RoutingDestination
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.manifests.transformations import Transformations
from omps_worker.publishing.processor import Processor
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.build_system.server import SandboxKoji

LIMITS = SimpleNamespace(archive_bytes=10 * 2**20, uncompressed_bytes=20 * 2**20, files=2000, values=1_000_000)

NONE = Transformations()

QUIET_SECONDS = 0.1
"""A real worker waits longer for builds that may be released before the last of several."""

COMMUNITY = """
version: 1
rules:
  - match: {component: "ignored-*"}
    publish: []
  - match: {component: "*-container"}
    publish: [{organization: community}]
"""


@dataclass
class Organization:
    """The credentials of an organization, as in the configuration."""

    token: str
    oauth_token: str | None = None
    public: bool = False
    transformations: Transformations = NONE

    def authorization(self) -> SecretStr:
        return SecretStr(self.token)

    def oauth(self) -> SecretStr | None:
        return SecretStr(self.oauth_token) if self.oauth_token else None


class Parts:
    """A Koji, a registry, and a Processor between them."""

    def __init__(
        self,
        koji: SandboxKoji,
        registry: SandboxRegistry,
        mapping: str,
        timeout: float,
        quiet: float,
        more: dict[str, Any],
        catalogs: Mapping[str, Destination],
    ) -> None:
        self.koji = koji
        self.registry = registry
        self.organizations: dict[str, Organization] = {}
        for name in ("community", "partners"):
            registry.add_organization(name)
            self.organizations[name] = Organization(registry.add_robot(name))
        self.mapping = SimpleNamespace(current=parse(mapping, "mapping.yaml", self.organizations, catalogs))
        settings = SimpleNamespace(hub_url=koji.hub_url, root_url=koji.root_url, timeout=timeout)
        self.builds = KojiBuilds(settings, LIMITS)
        self.client = AppRegistry(registry.url, timeout=timeout)
        self.destination: Destination = AppRegistryDestination(
            self.client, ProcessLock(), self.organizations, "1.0.0", quiet_seconds=quiet
        )
        for catalog in catalogs.values():
            self.destination = RoutingDestination(self.destination, catalog, self.builds.bundle_image)
        self.processor = Processor(self.mapping, self.builds, self.destination, LIMITS, **more)

    def process(self, build: dict, attempt: Attempt | None = None, **request):
        return self.processor.process(BuildEvent(build_id=build["id"]), attempt, PushRequest(**request))

    def versions(self, organization: str, repository: str) -> list[str]:
        return [release.version for release in self.registry.releases(organization, repository)]


@contextmanager
def parts(
    mapping: str = COMMUNITY,
    *,
    timeout: float = 10.0,
    quiet: float = QUIET_SECONDS,
    catalogs: Mapping[str, Destination] = MappingProxyType({}),
    **more: Any,
) -> Iterator[Parts]:
    """Yield new Parts. ``catalogs``: at most one, by name. ``more``: further arguments of the Processor."""
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        yield Parts(koji, registry, mapping, timeout, quiet, more, catalogs)


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
