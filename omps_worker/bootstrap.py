# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the parts of a configured site together; ``running`` and ``api.wiring`` add what only they need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omps_worker import configuration
from omps_worker.common import logs
from omps_worker.common.errors import BrokerError, OrganizationPaused, ResourcesExhausted
from omps_worker.common.locks import PackageLock, ProcessLock
from omps_worker.common.model import Attempt, BuildEvent, BuildFacts, Ignored, ManualRequest, Outcome, Status
from omps_worker.common.observer import SILENT
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping import Verdict
from omps_worker.configuration.mapping.file import MappingFile
from omps_worker.configuration.settings import Settings
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.destination import AppRegistryDestination
from omps_worker.destinations.app_registry.organizations import unknown_organization
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.manifests.uploaded_archive import brought
from omps_worker.messages import files as message_files
from omps_worker.messages.reporting import Reporter, log_outcome, result_body, result_topic
from omps_worker.publishing.catch_up import CATCH_UP_TOPIC, BuildReport, CatchUp, MissingMessage
from omps_worker.publishing.explain import Explanation, explain
from omps_worker.publishing.gate import Greenwave
from omps_worker.publishing.holds import with_pauses
from omps_worker.publishing.pending import PendingMessage, concerns
from omps_worker.publishing.processor import Processor
from omps_worker.publishing.targets import IGNORED_BY_RULE, NO_RULE

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.broker.dead_letters.failed_queue import FailedQueue
    from omps_worker.broker.dead_letters.replay import Replay
    from omps_worker.broker.locks.lock import BrokerLock
    from omps_worker.broker.publisher import Publisher
    from omps_worker.broker.queues.topology import Topology
    from omps_worker.broker.watch import Watch

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 10.0
"""How long a push by hand waits for the broker to take its result; the release is made anyway."""


class BrokerSite:
    """What looking after failures takes of a configured site: the broker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def from_file(cls, path: Path | None) -> BrokerSite:
        """The site that a configuration file describes, with logs set up. Raises SettingsError."""
        settings = configuration.load_broker(path)
        logs.set_up(settings.worker.log_format, settings.worker.log_level)
        return cls(settings)

    @cached_property
    def topology(self) -> Topology:
        """The queues."""
        from omps_worker.broker.queues.topology import Topology

        return Topology.of(self.settings)

    def failed_queue(
        self,
        notice: Callable[[str], object],
        whole: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> FailedQueue:
        """The failures that are parked; ``notice`` is told what a person should know.

        Inside ``whole`` is done what is not to be interrupted.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters.failed_queue import FailedQueue

        take_turns = self.settings.worker.lock == "broker"
        where = BrokerAccess.of(self.settings, "failed")
        return FailedQueue(where, self.topology, take_turns=take_turns, notice=notice, whole=whole)

    def replay(self) -> Replay:
        """Sends messages to the queue once more, as a context manager."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters.replay import Replay

        return Replay(BrokerAccess.of(self.settings, "replay"), self.topology.queue)

    def unbind(self, exchange: str, routing_key: str) -> None:
        """Take a binding of the queue away. Raises BrokerError."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.queues.bindings import unbind

        unbind(BrokerAccess.of(self.settings, "unbind"), self.topology.queue, exchange, routing_key)

    def watch(self, notice: Callable[[str], object]) -> Watch:
        """Follows the results on the bus; ``notice`` is told what a person should know."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.watch import Watch

        settings = self.settings
        return Watch(
            BrokerAccess.of(settings, "watch"),
            settings.publish_exchange,
            result_topic(settings.topic_prefix, "*"),
            notice=notice,
        )


class Site(BrokerSite):
    """The parts of one configured site, each made when it is first asked for."""

    def __init__(self, settings: Settings, mapping: MappingFile) -> None:
        super().__init__(settings)
        self.mapping = mapping
        self.observer = SILENT
        """Who hears what the parts do; to be set before they are made."""

    @classmethod
    def from_file(cls, path: Path | None) -> Site:
        """The site that a configuration file describes, with logs set up. Raises SettingsError."""
        settings, mapping = configuration.load(path)
        logs.set_up(settings.worker.log_format, settings.worker.log_level)
        return cls(settings, mapping)

    @cached_property
    def builds(self) -> KojiBuilds:
        """Koji."""
        worker = self.settings.worker
        return KojiBuilds(worker.koji, worker.limits, worker.ca_bundle, observer=self.observer)

    @cached_property
    def registry(self) -> AppRegistry:
        """The app registry."""
        worker = self.settings.worker
        return AppRegistry(
            worker.registry.url,
            timeout=worker.registry.timeout,
            ca_bundle=worker.ca_bundle,
            observer=self.observer,
        )

    @cached_property
    def processor(self) -> Processor:
        """The story of a build, with real parts."""
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

    def _destination(self, lock: PackageLock) -> AppRegistryDestination:
        worker = self.settings.worker
        return AppRegistryDestination(
            self.registry, lock, worker.organizations, worker.default_release_version, observer=self.observer
        )

    @cached_property
    def greenwave(self) -> Greenwave | None:
        """Greenwave, where the configuration has one."""
        worker = self.settings.worker
        timeout, bundle = worker.koji.timeout, worker.ca_bundle
        return Greenwave.of(worker.greenwave, timeout=timeout, ca_bundle=bundle, observer=self.observer)

    @cached_property
    def process_lock(self) -> ProcessLock:
        """What keeps this process from pushing twice at once."""
        return ProcessLock(self.settings.worker.registry.timeout)

    @cached_property
    def broker_lock(self) -> BrokerLock | None:
        """What keeps all replicas from it, if the configuration wants that. Connects when it is first needed."""
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.locks.lock import BrokerLock

        worker = self.settings.worker
        if worker.lock != "broker" or not self.settings.has_broker:
            return None
        return BrokerLock(BrokerAccess.of(self.settings, "lock"), worker.registry.timeout)

    @contextmanager
    def locks(self) -> Iterator[None]:
        """Release the locks at the end, also of work that did not end."""
        try:
            yield
        finally:
            if self.broker_lock is not None:
                self.broker_lock.close()

    @cached_property
    def reporter(self) -> Reporter:
        """Writes result messages."""
        return Reporter(self.settings.topic_prefix, self.registry.url)

    def catch_up(self, since: datetime, until: datetime | None, *, dry_run: bool) -> Iterator[tuple[BuildReport, int]]:
        """What there is to say about each operator build of a period, and how many there are.

        Those that are missing are sent to the queue, unless this is a dry run. Raises KojiError,
        BrokerError and SettingsError.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.publisher import Publisher

        work = self.catching_up
        builds = work.completed(since, until)
        if dry_run:
            yield from ((found, len(builds)) for found in work.look_into(builds))
            return
        with Publisher(BrokerAccess.of(self.settings, "catch-up")) as publisher:
            for found in work.send(builds, partial(self.send_missing, publisher)):
                yield found, len(builds)

    @property
    def catching_up(self) -> CatchUp:
        """Finds builds without a release."""
        return CatchUp(self.builds, self.mapping, self.processor)

    def send_missing(self, publisher: Publisher, message: MissingMessage) -> None:
        """Send the message of a build that was missed to the queue. Raises BrokerError."""
        from omps_worker.broker.catch_up import outgoing
        from omps_worker.broker.publisher import SOON_SECONDS

        queue = self.settings.queue.name
        missing = outgoing(message.id, message.body, topic=CATCH_UP_TOPIC, queue=queue)
        publisher.publish(missing, alarm_seconds=SOON_SECONDS)

    def dismiss(self, facts: BuildFacts) -> Ignored | None:
        """Why a build is surely none of our business, going by the mapping alone; None if it may be."""
        verdict = self.mapping.current.possible(facts)
        if verdict is Verdict.POSSIBLE:
            return None
        return Ignored(NO_RULE if verdict is Verdict.NO_RULE else IGNORED_BY_RULE, facts.nvr or facts.component or "")

    def explain(self, build: str) -> Explanation:
        """What would become of a build; ``build`` is an NVR, or a file that holds a message."""
        event = message_files.event_named(build, self.settings.worker.koji.instance)
        return explain(event, self.mapping, self.builds, self.processor)

    def push(self, nvr: str, request: PushRequest) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Publish one build now and tell the bus; what became of it, and the bodies of the results.

        Raises SettingsError for what is wrong with the request itself.
        """
        attempt = Attempt()
        return self._by_hand(
            request, nvr, ManualRequest(), lambda processor: processor.process(BuildEvent(nvr=nvr), attempt, request)
        )

    def push_archive(self, archive_file: Path, request: PushRequest) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """The same for an archive of manifests in a file."""
        with brought(archive_file, self.settings.worker.limits.archive_bytes) as (file, archive):
            origin = ManualRequest(archive)
            return self._by_hand(request, None, origin, lambda processor: processor.process_archive(file, request))

    def _by_hand(
        self,
        request: PushRequest,
        nvr: str | None,
        origin: ManualRequest,
        process: Callable[[Processor], list[Outcome] | Ignored],
    ) -> tuple[list[Outcome], list[dict[str, Any]]]:
        known = self.settings.worker.organizations
        if request.organization is not None and request.organization not in known and request.authorization is None:
            raise unknown_organization(request.organization, self.settings.file)
        with self.locks():
            outcomes = process(self._processor(self._lock_by_hand()))
        if isinstance(outcomes, Ignored):
            why = f"{outcomes.reason}: {outcomes.detail}"
            outcomes = [Outcome(Status.SKIPPED, nvr=nvr, build=outcomes.build, reason=why)]
        elif request.dry_run:
            outcomes = with_pauses(self.mapping.current, outcomes, waits=False)
        else:
            # Of what is paused nothing was begun: there is nothing to tell the bus, only whoever asked.
            self._tell([each for each in outcomes if not isinstance(each.error, OrganizationPaused)], origin)
        return outcomes, [result_body(outcome, origin, Attempt()) for outcome in outcomes]

    def delete(
        self,
        organization: str,
        repository: str,
        version: str | None,
        *,
        authorization: SecretStr | None = None,
        dry_run: bool = False,
    ) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Delete one release, or all of a package, and tell the bus; an Outcome and a result for each.

        Raises SettingsError, RegistryError and the errors of the lock.
        """
        origin = ManualRequest()
        with self.locks():
            destination = self._destination(self._lock_by_hand())
            if dry_run:
                versions = destination.would_delete(organization, repository, version, authorization)
                outcomes = [Outcome(Status.DELETED, organization, repository, each) for each in versions]
            else:
                outcomes = destination.delete(organization, repository, version, authorization)
                self._tell(outcomes, origin)
        return outcomes, [result_body(outcome, origin, Attempt()) for outcome in outcomes]

    def pending(
        self, organization: str, repository: str, notice: Callable[[str], object]
    ) -> tuple[list[PendingMessage], str | None]:
        """The messages that may still publish a package, and why they are not known, or not all: None if they are.

        ``notice`` is told what a person should know of the look.
        """
        from omps_worker.broker.connection.access import BrokerAccess
        from omps_worker.broker.dead_letters import pending

        if not self.settings.has_broker:
            return [], "no broker is configured"
        mapping = self.mapping.current
        missed: list[str] = []
        try:
            found = pending.look(
                BrokerAccess.of(self.settings, "delete"),
                self.topology,
                lambda event, labels: concerns(event, labels, organization, repository, mapping),
                take_turns=self.settings.worker.lock == "broker",
                notice=notice,
                missed=missed.append,
            )
        except BrokerError as error:
            return [], error.message
        return found, " ".join(missed) or None

    def _lock_by_hand(self) -> PackageLock:
        from omps_worker.broker.locks.lock import BrokerLockWithFallback

        return BrokerLockWithFallback(self.broker_lock, self.process_lock) if self.broker_lock else self.process_lock

    def _tell(self, outcomes: list[Outcome], origin: ManualRequest) -> None:
        """Tell the log, and the bus if it can be reached."""
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
            log.warning("the result was not announced on the bus: %s", error)
