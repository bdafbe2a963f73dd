# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds and runs the parts of ``omps-worker run``: the consumer, its helpers, and their monitoring.

The parts that other commands also use come from ``bootstrap.Site``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from omps_worker.bootstrap import Site
from omps_worker.broker.catch_up import Leadership, PeriodicCatchUp
from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.consuming.consumer import Consumer
from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.locks.connection import LockConnection
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.queues.depths import QueueDepths
from omps_worker.common import machine
from omps_worker.common.files import scratch
from omps_worker.common.http_client import session
from omps_worker.common.model import CATALOG
from omps_worker.messages import events
from omps_worker.monitoring.catalog_probes import CatalogProbes
from omps_worker.monitoring.checks import CheckClients
from omps_worker.monitoring.destination_probes import join
from omps_worker.monitoring.health import ANSWER_SECONDS, Questions
from omps_worker.monitoring.organization_probes import OrganizationProbes
from omps_worker.monitoring.readiness import restart_reasons, stuck_after
from omps_worker.monitoring.service_monitoring import ServiceMonitoring
from omps_worker.monitoring.systemd import SystemdNotifier
from omps_worker.publishing.catch_up import CatchUpRound

if TYPE_CHECKING:
    from omps_worker.monitoring.metrics import Gauge

log = logging.getLogger(__name__)


def run(site: Site) -> int:
    """Consume messages until stopped by a signal, and return the exit code.

    Raises BrokerRefused, SettingsError, and ResourcesExhausted if the threads cannot be started.
    """
    mapping = site.mapping.current
    log.info("the mapping has %s", mapping.summary)
    for warning in (*site.settings.warnings, *mapping.warnings, *mapping.holds_and_pauses.paused()):
        log.warning("%s", warning)
    scratch.sweep()
    return _Worker(site).run()


class _Worker:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._settings = settings = site.settings
        self._monitoring = ServiceMonitoring(settings.monitoring, self._states, catalogs=settings.worker.catalogs)
        site.observer = site.mapping.observer = self._monitoring.observer
        worker = settings.worker
        handler = MessageHandler(
            decode=partial(events.decode, instance=worker.koji.instance),
            dismiss=site.dismiss,
            process=site.processor.process,
            messages_for=site.reporter.messages,
            reload=site.mapping.reload,
            housekeeping=site.mapping.reload_if_changed,
            observer=site.observer,
        )
        self._publisher = Publisher(BrokerAccess.of(settings, "publisher"), observer=site.observer)
        self._consumer = Consumer(
            BrokerAccess.of(settings, "consumer"),
            site.topology,
            handler,
            self._publisher,
            concurrency=worker.concurrency,
            prefetch=worker.prefetch,
            shutdown_timeout=worker.shutdown_timeout,
            publish_priority=settings.publish_priority,
            give_up_after=worker.retry.give_up_after,
        )
        self._services = CheckClients.of(worker, ANSWER_SECONDS, site.builds)
        mapping = site.mapping
        self._organizations = OrganizationProbes(
            self._services.registry, worker.organizations, lambda: mapping.current.organizations
        )
        self._catalogs = CatalogProbes.of(worker, ANSWER_SECONDS, lambda: mapping.current.catalogs)
        join(self._organizations, self._catalogs)
        self._depths = QueueDepths(BrokerAccess.of(settings, "depths"), site.topology)

    def run(self) -> int:
        parts = {
            "machine": machine.trouble,
            "consumer": self._consumer_trouble,
            "publisher": self._publisher_trouble,
            "mapping": self._mapping_trouble,
        }
        port = self._monitoring.port(
            self._vital,
            parts,
            self._questions,
            warnings=self._warnings,
            back=self._service_is_back,
            goodbye=self._close_health_check,
        )
        session.prepare()
        with self._site.locks(), port, SystemdNotifier(self._vital), ExitStack() as stack:
            if self._site.broker_lock is not None:
                self._site.broker_lock.begin()
            self._start_periodic_catch_up(stack)
            return self._consumer.run()

    # Monitoring.

    def _questions(self) -> Questions:
        worker = self._settings.worker
        organizations = {"organizations": self._organizations.question()} if worker.organizations else {}
        catalogs = {"catalogs": self._catalogs.question()} if worker.catalogs else {}
        services = {**self._services.questions(), "registry": self._registry_is_there}
        return {"broker": self._depths.refresh, **services, **organizations, **catalogs}

    def _registry_is_there(self) -> None:
        """Check the app registry, unless the mapping publishes to catalogs only."""
        mapping = self._site.mapping.current
        if mapping.organizations or not mapping.catalogs:
            self._services.registry.is_there()

    def _service_is_back(self, service: str) -> None:
        if service == "broker":
            self._publisher.reconnect_now()
            self._consumer.reconnect_now()

    def _close_health_check(self, service: str) -> None:
        if service == "broker":
            self._depths.close()

    def _warnings(self) -> list[str]:
        paused = self._site.mapping.current.holds_and_pauses.paused()
        troubles = [*self._organizations.warnings(), *self._catalogs.warnings()]
        return [*troubles, *(f"mapping: {sentence}" for sentence in paused)]

    def _vital(self) -> list[str]:
        return restart_reasons(
            self._consumer.seconds_since_turn, self._consumer.deliveries.longest_work, self._settings.worker
        )

    def _consumer_trouble(self) -> str | None:
        if self._consumer.consuming:
            return None
        if self._publisher.blocked is not None:
            return "not consuming until the broker takes messages again"
        return "not consuming: the broker is unavailable, or the worker is stopping"

    def _publisher_trouble(self) -> str | None:
        untold = self._consumer.deliveries.recording_problem
        return self._publisher.trouble() or (f"an outcome cannot be recorded: {untold}" if untold else None)

    def _mapping_trouble(self) -> str | None:
        error = self._site.mapping.last_error
        return f"the last edit of the file is invalid: {error}" if error else None

    def _states(self) -> Iterator[Gauge]:
        from omps_worker.monitoring.metrics import Gauge

        consumer, worker = self._consumer, self._settings.worker
        working, waiting, oldest = consumer.in_flight
        yield Gauge(
            "messages_in_hand",
            "Relevant messages: being worked on, or waiting for a thread.",
            [(("working",), working), (("waiting",), waiting)],
            ("state",),
        )
        yield Gauge("oldest_in_hand_seconds", "How long the oldest has been worked on.", [((), oldest)])
        limit = stuck_after(self._settings.worker)
        yield Gauge("stuck_after_seconds", "How long work may take before /live fails.", [((), limit)])
        yield Gauge("concurrency", "How many builds are worked on at once.", [((), worker.concurrency)])
        yield Gauge("broker_blocked", "Whether the broker blocks publishers.", [((), bool(self._publisher.blocked))])
        known = [((name,), float(trouble is None)) for name, trouble in self._organizations.troubles().items()]
        yield Gauge("organization_up", "Whether an organization can be published to.", known, ("organization",))
        known = [((name,), float(trouble is None)) for name, trouble in self._catalogs.troubles().items()]
        yield Gauge("catalog_up", "Whether a catalog can be published to.", known, ("catalog",))
        pausing = self._site.mapping.current.pauses
        paused = [((name,), float(pausing(name))) for name in worker.organizations]
        yield Gauge("organization_paused", "Whether the mapping pauses an organization.", paused, ("organization",))
        paused = [((name,), float(pausing(f"{CATALOG}{name}"))) for name in worker.catalogs]
        yield Gauge("catalog_paused", "Whether the mapping pauses a catalog.", paused, ("catalog",))
        yield Gauge("mapping_rules", "Rules of the mapping in use.", [((), len(self._site.mapping.current))])
        depths = self._depths
        samples = [((depth.queue, depth.kind), float(depth.messages)) for depth in depths.known]
        yield Gauge("queue_messages", "Messages that wait in a queue.", samples, ("queue", "kind"))
        yield Gauge("queues_seen_timestamp_seconds", "When the queues were last looked at.", [((), depths.seen_at)])

    # Catch-up.

    def _start_periodic_catch_up(self, stack: ExitStack) -> None:
        """Start the periodic catch-up, if it is configured."""
        site, worker = self._site, self._settings.worker
        period, window = worker.catch_up.period.seconds, worker.catch_up.window.seconds
        if not period:
            return
        catch_up = CatchUpRound(site.catching_up, period, window, partial(site.send_missing, self._publisher))

        def run_once(stopping: Callable[[], bool]) -> None:
            sent: int | None = None
            try:
                sent = catch_up.once(stopping)
            finally:
                site.observer.round_ended(sent)

        connection = LockConnection(BrokerAccess.of(self._settings, "catch-up")) if worker.lock == "broker" else None
        leadership = Leadership(connection, self._settings.queue.name) if connection else None
        stack.enter_context(PeriodicCatchUp(run_once, period, leadership))
