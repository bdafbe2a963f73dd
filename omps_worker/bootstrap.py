# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the parts of a configured site that all commands use.

``running`` and ``api.wiring`` add the parts that only ``run`` and ``api`` need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omps_worker.broker_site import BrokerSite
from omps_worker.common import logs
from omps_worker.common.errors import BrokerError, OrganizationPaused, ResourcesExhausted
from omps_worker.common.locks.package_lock import PackageLock, ProcessLock
from omps_worker.common.model import Attempt, BuildEvent, BuildFacts, Ignored, ManualRequest, Outcome, Status, Target
from omps_worker.common.observer import NO_OBSERVER
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration import loading
from omps_worker.configuration.mapping.file import MappingFile
from omps_worker.configuration.mapping.matching import Verdict
from omps_worker.configuration.settings.catalogs import one_image_for_each_package, unknown_catalog
from omps_worker.configuration.settings.models import Settings
from omps_worker.destination_wiring import ImageRegistries, destination_of
from omps_worker.destinations import Destination
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.organizations import unknown_organization
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.manifests.uploaded_archive import open_archive
from omps_worker.messages import files as message_files
from omps_worker.messages.reporting import Reporter, log_outcome, result_body
from omps_worker.publishing.catch_up import CATCH_UP_TOPIC, BuildReport, CatchUp, MissingMessage
from omps_worker.publishing.explain import Explanation, explain
from omps_worker.publishing.gate import Greenwave
from omps_worker.publishing.holds import with_pauses
from omps_worker.publishing.pending import PendingMessage, concerns
from omps_worker.publishing.processor import Processor
from omps_worker.publishing.targets import IGNORED_BY_RULE, NO_RULE

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.broker.locks.lock import BrokerLock
    from omps_worker.broker.publisher import Publisher
    from omps_worker.destinations.catalog.catalog_contents import CatalogContents

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 10.0
"""How many seconds a manual push waits for the broker to confirm its result; the release is made in any case."""


class Site(BrokerSite):
    """A configured site with all its parts, each created on first use."""

    def __init__(self, settings: Settings, mapping: MappingFile) -> None:
        super().__init__(settings)
        self.mapping = mapping
        self.observer = NO_OBSERVER
        """The observer of all parts. Set it before the first part is used."""

    @classmethod
    def from_file(cls, path: Path | None) -> Site:
        """Return the site that a configuration file describes, and set up logging. Raises SettingsError."""
        settings, mapping = loading.load(path)
        logs.set_up(settings.worker.log_format, settings.worker.log_level)
        return cls(settings, mapping)

    @cached_property
    def builds(self) -> KojiBuilds:
        """The client of Koji."""
        worker = self.settings.worker
        return KojiBuilds(worker.koji, worker.limits, worker.ca_bundle, observer=self.observer)

    @cached_property
    def registry(self) -> AppRegistry:
        """The client of the app registry."""
        worker = self.settings.worker
        return AppRegistry(
            worker.registry.url,
            timeout=worker.registry.timeout,
            ca_bundle=worker.ca_bundle,
            observer=self.observer,
        )

    @cached_property
    def processor(self) -> Processor:
        """The processor, which publishes builds under the lock that the configuration selects."""
        return self._processor(self.broker_lock or self.process_lock)

    def _processor(self, lock: PackageLock) -> Processor:
        worker = self.settings.worker
        patience = worker.greenwave.patience.seconds if worker.greenwave else 0.0
        return Processor(
            self.mapping,
            self.builds,
            self._destination(lock),
            worker.limits,
            gate=self.greenwave,
            patience=patience,
            observer=self.observer,
        )

    def _destination(self, lock: PackageLock) -> Destination:
        return destination_of(
            self.settings.worker, self.registry, self._image_registries, lock, self.builds, self.observer
        )

    @cached_property
    def _image_registries(self) -> ImageRegistries:
        return ImageRegistries(self.settings.worker, self.observer)

    @cached_property
    def greenwave(self) -> Greenwave | None:
        """The client of Greenwave, or None if none is configured."""
        worker = self.settings.worker
        timeout, bundle = worker.koji.timeout, worker.ca_bundle
        return Greenwave.of(worker.greenwave, timeout=timeout, ca_bundle=bundle, observer=self.observer)

    @cached_property
    def process_lock(self) -> ProcessLock:
        """The lock that serialises pushes to one package within this process."""
        return ProcessLock(self.settings.worker.registry.timeout)

    @cached_property
    def broker_lock(self) -> BrokerLock | None:
        """The lock that serialises pushes to one package across all replicas, or None if it is not configured.

        It connects to the broker on first use.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.locks.lock import BrokerLock

        worker = self.settings.worker
        if worker.lock != "broker" or not self.settings.has_broker:
            return None
        return BrokerLock(BrokerAccess.of(self.settings, "lock"), worker.registry.timeout)

    @contextmanager
    def locks(self) -> Iterator[None]:
        """Release all locks at the end of the block, including those of unfinished work."""
        try:
            yield
        finally:
            if self.broker_lock is not None:
                self.broker_lock.close()

    @cached_property
    def reporter(self) -> Reporter:
        """The reporter, which creates result messages."""
        return Reporter(self.settings.topic_prefix, self.registry.url)

    def catch_up(self, since: datetime, until: datetime | None, *, dry_run: bool) -> Iterator[tuple[BuildReport, int]]:
        """Yield a report on each operator build that was completed in a period, with the number of builds.

        The messages of builds without a release are sent to the worker's queue, unless ``dry_run`` is true. ``until``:
        None means now. Raises KojiError, BrokerError and SettingsError.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.publisher import Publisher

        work = self.catching_up
        builds = work.completed(since, until)
        if dry_run:
            yield from ((report, len(builds)) for report in work.look_into(builds))
            return
        with Publisher(BrokerAccess.of(self.settings, "catch-up")) as publisher:
            for report in work.send(builds, partial(self.send_missing, publisher)):
                yield report, len(builds)

    @property
    def catching_up(self) -> CatchUp:
        """The search for builds without a release."""
        return CatchUp(self.builds, self.mapping, self.processor)

    def send_missing(self, publisher: Publisher, message: MissingMessage) -> None:
        """Send the message of a build without a release to the worker's queue. Raises BrokerError."""
        from omps_worker.broker.catch_up import catch_up_message
        from omps_worker.broker.publisher import ALARM_SECONDS

        queue = self.settings.queue.name
        missing = catch_up_message(message.id, message.body, topic=CATCH_UP_TOPIC, queue=queue)
        publisher.publish(missing, alarm_seconds=ALARM_SECONDS)

    def dismiss(self, facts: BuildFacts) -> Ignored | None:
        """Return why the worker ignores a build, or None if it may have to publish it.

        Decides by the mapping alone, without any request.
        """
        verdict = self.mapping.current.possible(facts)
        if verdict is Verdict.POSSIBLE:
            return None
        return Ignored(NO_RULE if verdict is Verdict.NO_RULE else IGNORED_BY_RULE, facts.nvr or facts.component or "")

    def explain(self, build: str) -> Explanation:
        """Return what the worker would do with a build, and why. ``build`` is an NVR, or a file with a message."""
        event = message_files.event_named(build, self.settings.worker.koji.instance)
        return explain(event, self.mapping, self.builds, self.processor)

    def push(self, nvr: str, request: PushRequest) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Publish one build now and its results on the bus; return the outcomes, and the bodies of the results.

        Raises SettingsError if the request itself is invalid; trying again does not help.
        """
        attempt = Attempt()
        return self._publish_manually(
            request, nvr, ManualRequest(), lambda processor: processor.process(BuildEvent(nvr=nvr), attempt, request)
        )

    def push_archive(self, archive_file: Path, request: PushRequest) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Publish an archive of manifests in a file now; otherwise like ``push``."""
        with open_archive(archive_file, self.settings.worker.limits.archive_bytes) as (file, archive):
            origin = ManualRequest(archive)
            return self._publish_manually(
                request, None, origin, lambda processor: processor.process_archive(file, request)
            )

    def _publish_manually(
        self,
        request: PushRequest,
        nvr: str | None,
        origin: ManualRequest,
        process: Callable[[Processor], list[Outcome] | Ignored],
    ) -> tuple[list[Outcome], list[dict[str, Any]]]:
        self.check_configured(request.organization, request.catalog, request.authorization)
        with self.locks():
            outcomes = process(self._processor(self._manual_lock()))
        if isinstance(outcomes, Ignored):
            reason = f"{outcomes.reason}: {outcomes.detail}"
            outcomes = [Outcome(Status.SKIPPED, nvr=nvr, build=outcomes.build, reason=reason)]
        elif request.dry_run:
            outcomes = with_pauses(self.mapping.current, outcomes, waits=False)
        else:
            # Nothing was begun for a paused organization, so there is no result for the bus, only for the caller.
            self._report([each for each in outcomes if not isinstance(each.error, OrganizationPaused)], origin)
        return outcomes, [result_body(outcome, origin, Attempt()) for outcome in outcomes]

    def delete(
        self,
        package: Target,
        version: str | None,
        *,
        authorization: SecretStr | None = None,
        dry_run: bool = False,
    ) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Delete one release of ``package``, a place with a repository, or all, and publish the results on the bus.

        Returns an outcome per release, and the bodies of the results. Raises SettingsError, RegistryError,
        ImageRegistryError, and the errors of the lock.
        """
        origin, place, repository = ManualRequest(), package.place, str(package.repository)
        self.check_configured(package.organization, package.catalog, authorization)
        with self.locks():
            destination = self._destination(self._manual_lock())
            if dry_run:
                versions = destination.would_delete(place, repository, version, authorization)
                outcomes = [
                    Outcome(Status.DELETED, package.organization, repository, each, target=package) for each in versions
                ]
            else:
                outcomes = destination.delete(place, repository, version, authorization)
                self._report(outcomes, origin)
        return outcomes, [result_body(outcome, origin, Attempt()) for outcome in outcomes]

    def pending(self, package: Target, notice: Callable[[str], object]) -> tuple[list[PendingMessage], str | None]:
        """Return the messages that may still publish ``package``, and why not all of them are known, or None.

        ``notice`` gets notes for the user about the search.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters import pending

        if not self.settings.has_broker:
            return [], "no broker is configured"
        mapping = self.mapping.current
        missed: list[str] = []
        try:
            found = pending.pending_messages(
                BrokerAccess.of(self.settings, "delete"),
                self.topology,
                lambda event, labels: concerns(event, labels, package, mapping),
                take_turns=self.settings.worker.lock == "broker",
                notice=notice,
                missed=missed.append,
            )
        except BrokerError as error:
            return [], error.message
        return found, " ".join(missed) or None

    def catalog_contents(self, name: str, package: str | None) -> CatalogContents:
        """Return what is in a catalog: all packages, or one.

        Raises SettingsError, also if each package has a catalog image of its own and ``package`` is None, and the
        errors of ``read_catalog``.
        """
        from omps_worker.destinations.catalog.catalog_contents import read_catalog

        self.check_configured(None, name)
        catalog = self.settings.worker.catalogs[name]
        if package is None and catalog.image.for_each_package:
            raise one_image_for_each_package(name, self.settings.file)
        client, image = self._image_registries.client(catalog), catalog.image.image(package or "")
        return read_catalog(client, image, package, catalog=name)

    def check_configured(
        self, organization: str | None, catalog: str | None, authorization: SecretStr | None = None
    ) -> None:
        """Return if an organization and a catalog that a user named are in the configuration; None: none was named.

        With ``authorization``, the user's own, an organization need not be. Raises SettingsError.
        """
        worker, file = self.settings.worker, self.settings.file
        if organization is not None and organization not in worker.organizations and authorization is None:
            raise unknown_organization(organization, worker.organizations, file)
        if catalog is not None and catalog not in worker.catalogs:
            raise unknown_catalog(catalog, worker.catalogs, file)

    def _manual_lock(self) -> PackageLock:
        from omps_worker.broker.locks.lock import BrokerLockWithFallback

        return BrokerLockWithFallback(self.broker_lock, self.process_lock) if self.broker_lock else self.process_lock

    def _report(self, outcomes: list[Outcome], origin: ManualRequest) -> None:
        """Log the outcomes, and publish their results on the bus if it can be reached."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.consuming.delivery_worker import result
        from omps_worker.broker.publisher import Publisher

        attempt = Attempt()
        for outcome in outcomes:
            log_outcome(outcome, origin, attempt)
        if not outcomes:
            return
        try:
            with Publisher(BrokerAccess.of(self.settings, "push"), timeout=ANNOUNCE_SECONDS) as publisher:
                for message in self.reporter.messages(outcomes, origin, attempt):
                    publisher.publish(result(message, self.settings.publish_exchange, self.settings.publish_priority))
        except (BrokerError, ResourcesExhausted) as error:
            log.warning("the result was not published on the bus: %s", error)
