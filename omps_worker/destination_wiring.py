# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the destinations of a site: the app registry, and the catalogs if there are any.

``bootstrap`` does this for commands and for the worker. The REST API needs only the app registry.
"""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.configuration.settings.catalogs import unknown_catalog
from omps_worker.configuration.settings.models import WorkerSettings
from omps_worker.destinations import Destination
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.koji_client.builds import KojiBuilds

if TYPE_CHECKING:
    from omps_worker.destinations.catalog.catalog import Catalog
    from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient


class ImageRegistries:
    """The clients for the image registries of a site's catalogs. Safe for use by any number of threads.

    ``observer`` is notified of each call.
    """

    def __init__(self, worker: WorkerSettings, observer: Observer = NO_OBSERVER) -> None:
        self._worker = worker
        self._observer = observer
        self._lock = Lock()
        self._clients: dict[str, ImageRegistryClient] = {}

    def client(self, catalog: Catalog) -> ImageRegistryClient:
        """Return the client for the registry of a configured catalog: the same for each call, as it keeps tokens."""
        from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient

        settings = self._worker.catalogs[catalog.name]
        with self._lock:
            if catalog.name not in self._clients:
                self._clients[catalog.name] = ImageRegistryClient(
                    settings.credentials,
                    timeout=settings.timeout,
                    ca_bundle=self._worker.ca_bundle,
                    observer=self._observer,
                )
            return self._clients[catalog.name]

    def visibility(self, catalog: Catalog) -> AppRegistry:
        """Return the client for the API of a Quay, which makes repositories of the catalog's registry public."""
        settings = self._worker.catalogs[catalog.name]
        url = f"{settings.image.scheme}://{settings.image.host}"
        return AppRegistry(url, timeout=settings.timeout, ca_bundle=self._worker.ca_bundle, observer=self._observer)


def destination_of(
    worker: WorkerSettings,
    registry: AppRegistry,
    images: ImageRegistries,
    lock: PackageLock,
    builds: KojiBuilds,
    observer: Observer = NO_OBSERVER,
) -> Destination:
    """Return the destination of all targets of a site. ``builds`` finds the images of bundle builds."""
    organizations = AppRegistryDestination(
        registry, lock, worker.organizations, worker.default_release_version, observer=observer
    )
    if not worker.catalogs:
        return organizations
    # Importing them takes 60 ms, which a site without catalogs need not spend on each command.
    from omps_worker.destinations.catalog.destination import CatalogDestination
    from omps_worker.destinations.routing import RoutingDestination

    catalogs = CatalogDestination(
        worker.catalogs,
        images.client,
        images.visibility,
        lock,
        worker.limits,
        partial(unknown_catalog, known=worker.catalogs),
        observer=observer,
    )
    return RoutingDestination(organizations, catalogs, builds.bundle_image)
