# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of ``omps-worker check``: the files of a site, and every service that its work needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.queues import inspection, management
from omps_worker.broker.queues.topology import Topology
from omps_worker.common import machine
from omps_worker.common.errors import Fault, MappingError, SettingsError, StorageError
from omps_worker.common.http_client.client import HttpClient
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.configuration.loading import CheckedConfiguration
from omps_worker.destination_wiring import ImageRegistries, destination_of
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.monitoring import checks
from omps_worker.monitoring.checks import Check
from omps_worker.publishing.gate import Greenwave


def file_checks(examined: CheckedConfiguration, *, offline: bool = False) -> Iterator[Check]:
    """Yield one check per fault or warning about the configuration and the mapping, or one per file without any.

    They make no connections. ``offline``: a missing file or variable is only a warning, because it may exist where the
    worker runs.
    """
    settings, rules = examined.settings, examined.mapping
    for fault in examined.unusable:
        yield Check("configuration", partial(_fail, SettingsError([fault])))
    for fault in examined.absent:
        yield Check("configuration", partial(_warn, str(fault)) if offline else partial(_fail, SettingsError([fault])))
    yield from _warnings("configuration", settings.warnings)
    if not (examined.unusable or examined.absent or settings.warnings):
        yield Check("configuration", lambda: "valid")
    for fault in examined.mapping_faults:
        yield Check("mapping", partial(_fail, MappingError([fault])))
    if rules is not None:
        paused = rules.holds_and_pauses.paused()
        yield from _warnings("mapping", rules.warnings)
        yield from (Check("mapping", partial(_warn, sentence)) for sentence in paused)
        if not (rules.warnings or paused):
            yield Check("mapping", lambda: f"{len(rules)} rule(s)")


def service_checks(examined: CheckedConfiguration) -> Iterator[Check]:
    """Yield one check per service, per organization and per catalog, and one of this machine. They change nothing."""
    settings, worker = examined.settings, examined.settings.worker
    bundle = worker.ca_bundle
    yield Check("machine", _check_machine)
    if settings.has_broker:
        access, topology = BrokerAccess.of(settings, "check"), Topology.of(settings)
        yield Check("broker", partial(inspection.check_broker, access, topology))
        yield Check("queue", partial(inspection.check_queue, access, topology))
        yield Check("failed queue", partial(inspection.check_queue, access, topology, failed=True))
        if (url := worker.broker.management_url) is not None:
            look = partial(management.check_bindings, url, access, topology.queue, topology.bindings)
            yield Check("bindings", partial(look, settings.tls.ca_cert or bundle))
    files = HttpClient(timeout=worker.koji.timeout, ca_bundle=bundle)
    yield Check("Koji hub", KojiBuilds(worker.koji, worker.limits, bundle).version)
    yield Check("Koji files", partial(checks.check_koji_files, worker.koji.root_url, files))
    greenwave = Greenwave.of(worker.greenwave, timeout=worker.koji.timeout, ca_bundle=bundle)
    if greenwave is not None:
        yield Check("Greenwave", greenwave.version)
    registry = AppRegistry(worker.registry.url, timeout=worker.registry.timeout, ca_bundle=bundle)
    lock, builds = ProcessLock(worker.registry.timeout), KojiBuilds(worker.koji, worker.limits, bundle)
    destination = destination_of(worker, registry, ImageRegistries(worker), lock, builds)
    yield from (Check(part, ask) for part, ask in destination.checks())


def _check_machine() -> str:
    try:
        machine.check()
    except StorageError as error:
        raise StorageError(f"{error.message} ({machine.temporary_place()})") from None
    return f"can start threads, and write temporary files in {machine.temporary_place()}"


def _fail(error: SettingsError) -> str:
    raise error


def _warnings(part: str, warnings: Sequence[Fault]) -> Iterator[Check]:
    for warning in warnings:
        yield Check(part, partial(_warn, f"{warning.key} {warning.reason}"))


def _warn(text: str) -> str:
    raise Inconclusive(text)
