# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the parts of the REST API of a configured site; each process has its own."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker import __version__
from omps_worker.api.announcer import Announcer
from omps_worker.api.app import Api, Limits, create_app
from omps_worker.api.health import ASK_SECONDS, HealthEndpoint
from omps_worker.api.requests.idempotency import IdempotencyKeys
from omps_worker.api.requests.middleware import RequestIds
from omps_worker.api.scheduling import permissions
from omps_worker.api.scheduling.scheduler import PushScheduler
from omps_worker.api.service import PAUSES, Service
from omps_worker.common import logs, machine
from omps_worker.common.http_client import session
from omps_worker.common.locks.file import FileLock, directory_trouble, state_directory
from omps_worker.common.locks.package_lock import PackageLock
from omps_worker.common.model import Attempt, ManualRequest, Outcome
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.configuration.mapping.file import MappingFile, parse
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.models import Settings
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.messages.reporting import Reporter, ResultMessage, log_outcome
from omps_worker.monitoring.checks import CheckClients
from omps_worker.monitoring.readiness import Trouble, restart_reasons
from omps_worker.publishing.gate import Greenwave
from omps_worker.publishing.processor import Processor

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from omps_worker.broker.publisher import Publisher
    from omps_worker.configuration.mapping.matching import Mapping

log = logging.getLogger(__name__)

NO_RULES = "version: 1\nrules: []\n"
"""The mapping of a service without a mapping file: its clients name the organization themselves."""


def read_settings(path: Path | None) -> Settings:
    """Return the configuration, checked for what the REST API needs. Raises SettingsError."""
    return settings_file.load(path, api=True)


def set_up_logs(settings: Settings) -> None:
    """Set up logging to standard error, with the IDs of requests."""
    logs.set_up(settings.worker.log_format, settings.worker.log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(RequestIds())
    # Its warnings are about invalid uploads, which clients learn from the replies.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def check_locks(settings: Settings) -> None:
    """Check that the directory of locks is usable, if the locks are files. Raises SettingsError."""
    if not _locks_by_broker(settings):
        state_directory()


def locks_of_this_host(settings: Settings) -> dict[str, Trouble]:
    """Return the health check of the directory of locks; none if the broker keeps the locks."""
    if _locks_by_broker(settings):
        return {}
    return {"state_directory": partial(directory_trouble, state_directory())}


def _locks_by_broker(settings: Settings) -> bool:
    return settings.has_broker and settings.worker.lock == "broker"


class _NoMapping:
    """Stands for the mapping file where there is none: an empty mapping."""

    def __init__(self) -> None:
        self.current: Mapping = parse(NO_RULES, "no mapping")

    def reload_if_changed(self) -> bool:
        """Return False: there is no file that could change."""
        return False


def _mapping_of(settings: Settings) -> MappingFile | _NoMapping:
    """Return the mapping, or an empty one without a mapping file; ``hold`` and ``pause`` apply to the API as well.

    Raises MappingError.
    """
    path = settings.worker.mapping
    return MappingFile(path) if path.is_file() else _NoMapping()


class ApiSite:
    """The parts of one process. ``upload_seconds``: how long an upload may take; ``pauses``: see ``service.PAUSES``.

    Raises SettingsError, and ResourcesExhausted if its threads cannot be started.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        upload_seconds: float,
        pauses: Sequence[float] = PAUSES,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        session.prepare()
        self._settings = settings
        self._observer = observer
        self._loop_seen_at = time.monotonic()
        self._stopping_since: float | None = None
        self._closing = ExitStack()
        worker = settings.worker
        bundle = worker.ca_bundle
        builds = KojiBuilds(worker.koji, worker.limits, bundle, observer=observer)
        registry = AppRegistry(
            worker.registry.url, timeout=worker.registry.timeout, ca_bundle=bundle, observer=observer
        )
        self._reporter = Reporter(settings.topic_prefix, registry.url)
        self.publisher: Publisher | None = None
        self._announcer = self._make_announcer()
        lock = self._lock = self._make_lock()
        mapping = self._mapping = _mapping_of(settings)
        destination = AppRegistryDestination(
            registry, lock, worker.organizations, worker.default_release_version, observer=observer
        )
        processor = Processor(
            mapping,
            builds,
            destination,
            worker.limits,
            gate=Greenwave.of(worker.greenwave, timeout=worker.koji.timeout, ca_bundle=bundle, observer=observer),
            observer=observer,
        )
        self.service = Service(
            processor,
            destination,
            mapping,
            self._report,
            deduplicate=worker.api.deduplicate,
            pauses=pauses,
        )
        self.health = self._make_health()
        probing = AppRegistry(worker.registry.url, timeout=permissions.ASK_SECONDS, ca_bundle=bundle, observer=observer)
        self._scheduler = PushScheduler(permissions.PermissionChecker(probing), worker.concurrency)
        self.pool = self._scheduler.pool
        self._limits = Limits(worker.api.max_content_length, upload_seconds)

    def app(self) -> ASGIApp:
        """Return the ASGI application; its shutdown closes the site."""
        about = {"version": __version__, "operatorcourier": metadata.version("operator-courier")}
        return create_app(
            Api(self.service, self._scheduler, IdempotencyKeys(state_directory), self.health, self._limits, about),
            self._lifespan,
            self._observer,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        housekeeping = asyncio.create_task(self._housekeeping())
        yield
        # All replies are sent. Work that still runs belongs to clients that disconnected.
        seconds = self._settings.worker.shutdown_timeout.seconds
        await self.pool.finish((self._stopping_since or time.monotonic()) + seconds)
        housekeeping.cancel()
        self.close()

    def stopping(self) -> None:
        """Start the shutdown timeout."""
        self._stopping_since = self._stopping_since or time.monotonic()

    def vital(self) -> list[str]:
        """Return the reasons to restart this process; empty if there are none."""
        return restart_reasons(time.monotonic() - self._loop_seen_at, self.pool.longest, self._settings.worker)

    def parts(self) -> dict[str, Trouble]:
        """Return the health checks of the parts of this process."""
        publisher = self.publisher
        parts: dict[str, Trouble] = {"machine": machine.trouble, **locks_of_this_host(self._settings)}
        return parts if publisher is None else {**parts, "publisher": publisher.trouble}

    async def _housekeeping(self) -> None:
        while True:
            self._loop_seen_at = time.monotonic()
            self._mapping.reload_if_changed()
            await asyncio.sleep(1.0)

    def close(self) -> None:
        """Begin no more work, publish the waiting results on the bus, and release all resources."""
        self.pool.close()
        self.health.close()
        self._closing.close()

    def _make_lock(self) -> PackageLock:
        settings = self._settings
        push_seconds = settings.worker.registry.timeout
        if _locks_by_broker(settings):
            from omps_worker.broker.connection.access import BrokerAccess
            from omps_worker.broker.locks.lock import BrokerLock

            lock = BrokerLock(BrokerAccess.of(settings, "api lock"), push_seconds)
            self._closing.callback(lock.close)
            lock.begin()
            return lock
        directory = state_directory()
        log.info("locks on packages are files in %s, shared by the processes of this host", directory)
        return FileLock(directory, push_seconds)

    def _make_announcer(self) -> Announcer[ResultMessage] | None:
        settings = self._settings
        if not settings.has_broker:
            return None
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.consuming.delivery_worker import result
        from omps_worker.broker.publisher import Publisher

        publisher = self.publisher = Publisher(BrokerAccess.of(settings, "api"), observer=self._observer).start()
        self._closing.callback(publisher.close)

        def send(message: ResultMessage) -> None:
            outgoing = result(message, settings.publish_exchange, settings.publish_priority)
            publisher.publish(outgoing, alarm_seconds=math.inf)

        announcer = Announcer(send)
        self._closing.callback(announcer.close)
        return announcer

    def _make_health(self) -> HealthEndpoint:
        services = CheckClients.of(self._settings.worker, ASK_SECONDS)
        greenwave = services.greenwave
        return HealthEndpoint(
            {
                "koji": services.koji.version,
                "quay": services.registry.version,
                "greenwave": greenwave.version if greenwave else None,
            }
        )

    def _report(self, outcomes: Sequence[Outcome], origin: ManualRequest) -> None:
        attempt = Attempt()
        for outcome in outcomes:
            log_outcome(outcome, origin, attempt)
            self._observer.outcome(outcome.status.value, outcome.error_name)
            if self._announcer is not None:
                self._announcer.announce(self._reporter.message(outcome, origin, attempt))
