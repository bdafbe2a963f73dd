# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics that Prometheus reads from ``/metrics``; docs/metrics.md explains each of them.

Importing this module imports Prometheus's client: import it only if metrics are served.

Counts come from the parts of the worker, which notify their Observer. Gauges are computed when the page is read.
Several processes of one service share their counts through files in a directory, as Prometheus's client does it: the
environment variable PROMETHEUS_MULTIPROC_DIR must name the directory before this module is imported.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from omps_worker import __version__
from omps_worker.common import errors
from omps_worker.common.model import Status
from omps_worker.common.observer import SERVICES, STAGES, Observer

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of the page."""

PREFIX = "omps_worker"

# Without this, each metric has a further series with its creation time, which nobody uses and which doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True)
class Gauge:
    """The current values of a gauge. ``name`` has no prefix. Each sample is the values of ``labels``, and a number."""

    name: str
    documentation: str
    samples: Sequence[tuple[tuple[str, ...], float]]
    labels: Sequence[str] = field(default=())


States = Callable[[], Iterable[Gauge]]


class Metrics(Observer):
    """The counts of this process, and the metrics page.

    ``states`` returns the gauges. ``directory`` is set only in the process that shows the counts of several processes:
    the directory of the shared counts. ``catalogs`` are the names of the catalogs in the configuration.
    """

    def __init__(self, states: States = tuple, *, directory: Path | None = None, catalogs: Iterable[str] = ()) -> None:
        self._registry = registry = CollectorRegistry()
        self._page = registry if directory is None else CollectorRegistry()
        if directory is not None:
            multiprocess.MultiProcessCollector(self._page, str(directory))  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._page)
        PlatformCollector(registry=self._page)
        self._page.register(_StatesNow(states))

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, label: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", documentation, (label,), registry=registry, buckets=_BUCKETS)

        self._received = counter("messages_received", "Messages that came from the queue.")
        self._ignored = counter("messages_ignored", "Messages that do not concern the worker.", "reason")
        self._outcomes = counter("outcomes", "How the work for one target ended.", "status", "error")
        self._retries = counter("retries", "Messages that were sent to wait for a retry.", "delay")
        self._parked = counter("messages_parked", "Messages that were parked in the failed queue.", "error")
        self._stages = histogram("stage_seconds", "How long the stages of processing a build take.", "stage")
        self._requests = counter("requests", "Calls to other services.", "service", "result")
        self._request_seconds = histogram("request_seconds", "How long calls to other services take.", "service")
        self._reconnects = counter(
            "broker_reconnects", "How often a lost connection to the broker came back.", "connection"
        )
        self._mapping_reloads = counter("mapping_reloads", "How often the mapping was read again.", "result")
        self._rounds = counter("catch_up_rounds", "Rounds of a catch-up.", "result")
        self._caught_up = counter("catch_up_sent", "Builds that a catch-up sent to the queue.")
        self._catalog_seconds = histogram(
            "catalog_update_seconds", "How long updates that changed a catalog held it.", "catalog"
        )
        self._catalog_conflicts = counter(
            "catalog_conflicts", "How often another program changed a catalog during an update.", "catalog"
        )
        self._bundle_images = counter("bundle_images_pushed", "Bundle images that were made and pushed.", "catalog")
        self._http_requests = counter("http_requests", "Requests to the REST API.", "method", "route", "status")
        self._http_seconds = histogram("http_request_seconds", "How long requests to the REST API take.", "route")
        self._begin_at_zero(catalogs)

    def _begin_at_zero(self, catalogs: Iterable[str]) -> None:
        """Create all series with 0: Prometheus sees no increase in a series that begins with its first event."""
        names = sorted(error_names())
        for status in Status:
            # Only failed and retrying outcomes have the name of an error.
            has_error = status in (Status.FAILED, Status.RETRYING)
            for error in names if has_error else ("",):
                self._outcomes.labels(status.value, error)
        for error in names:
            self._parked.labels(error)
        for stage in STAGES:
            self._stages.labels(stage)
        for service in SERVICES:
            self._request_seconds.labels(service)
        for connection in ("consumer", "publisher"):
            self._reconnects.labels(connection)
        for result in ("good", "broken"):
            self._mapping_reloads.labels(result)
        for result in ("done", "failed"):
            self._rounds.labels(result)
        for catalog in catalogs:
            self._catalog_seconds.labels(catalog)
            self._catalog_conflicts.labels(catalog)
            self._bundle_images.labels(catalog)

    def page(self) -> bytes:
        """Return the page in Prometheus's text format."""
        return generate_latest(self._page)

    def received(self) -> None:
        """See Observer."""
        self._received.inc()

    def ignored(self, reason: str) -> None:
        """See Observer."""
        self._ignored.labels(reason).inc()

    def outcome(self, status: str, error: str | None) -> None:
        """See Observer."""
        self._outcomes.labels(status, error or "").inc()

    def retry(self, delay: str) -> None:
        """See Observer."""
        self._retries.labels(delay).inc()

    def parked(self, error: str) -> None:
        """See Observer."""
        self._parked.labels(error).inc()

    def stage(self, name: str, seconds: float) -> None:
        """See Observer."""
        self._stages.labels(name).observe(seconds)

    def request(self, service: str, result: str, seconds: float) -> None:
        """See Observer."""
        self._requests.labels(service, result).inc()
        self._request_seconds.labels(service).observe(seconds)

    def reconnected(self, connection: str) -> None:
        """See Observer."""
        self._reconnects.labels(connection).inc()

    def mapping_read(self, *, good: bool) -> None:
        """See Observer."""
        self._mapping_reloads.labels("good" if good else "broken").inc()

    def round_ended(self, sent: int | None) -> None:
        """See Observer."""
        self._rounds.labels("failed" if sent is None else "done").inc()
        self._caught_up.inc(sent or 0)

    def catalog_updated(self, catalog: str, seconds: float) -> None:
        """See Observer."""
        self._catalog_seconds.labels(catalog).observe(seconds)

    def catalog_conflict(self, catalog: str) -> None:
        """See Observer."""
        self._catalog_conflicts.labels(catalog).inc()

    def bundle_image_pushed(self, catalog: str) -> None:
        """See Observer."""
        self._bundle_images.labels(catalog).inc()

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """See Observer."""
        self._http_requests.labels(method, route, str(status or "none")).inc()
        self._http_seconds.labels(route).observe(seconds)


class _StatesNow(Collector):
    def __init__(self, states: States) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges with their current values."""
        for state in self._states():
            family = GaugeMetricFamily(f"{PREFIX}_{state.name}", state.documentation, labels=state.labels)
            for values, number in state.samples:
                family.add_metric(values, number)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Describe nothing in advance: the states may not be available yet."""
        return iter(())


def build_info() -> Gauge:
    """Return the gauge with the versions of the worker and of what it runs on."""
    values = (__version__, platform.python_version(), metadata.version("operator-courier"))
    documentation = "The version of omps-worker, and what it runs on."
    return Gauge("build_info", documentation, [(values, 1)], ("version", "python", "operator_courier"))


def state_of_parts(troubles: dict[str, str | None], ready: bool) -> list[Gauge]:
    """Return the gauges of readiness: of the whole service, and of each part."""
    samples = [((part,), float(trouble is None)) for part, trouble in troubles.items()]
    return [
        Gauge("ready", "Whether a message that comes now would be processed: what /ready says.", [((), float(ready))]),
        Gauge("part_up", "Whether a part is well.", samples, ("part",)),
    ]


def error_names() -> set[str]:
    """Return the names of all errors that an outcome can have."""

    def below(kind: type[errors.WorkerError]) -> Iterator[type[errors.WorkerError]]:
        kinds = kind.__subclasses__()
        if not kinds or kind is errors.SettingsError:
            yield kind
        for each in kinds:
            yield from below(each)

    return {kind.__name__ for kind in below(errors.WorkerError)} - {"MappingError"}
