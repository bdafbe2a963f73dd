# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus reads from ``/metrics``; docs/metrics.md tells what each of them means.

Importing this module imports Prometheus's client: do so only where somebody wants to listen.

Counts come from the parts, which tell their Observer; states are asked for when the page is read.
Several processes of one service share their counts through files in a directory, as Prometheus's
client does it: PROMETHEUS_MULTIPROC_DIR must name it before this module is imported.
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
"""The type of the page."""

PREFIX = "omps_worker"

# A series for each of them that only says since when they count: nobody asks, and they are half of the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True)
class Gauge:
    """A gauge as it is now. ``name`` without the prefix; each sample has the values of ``labels``."""

    name: str
    documentation: str
    samples: Sequence[tuple[tuple[str, ...], float]]
    labels: Sequence[str] = field(default=())


States = Callable[[], Iterable[Gauge]]


class Metrics(Observer):
    """The counts of this process, and the page.

    ``directory``: that of the shared counts, in the one process that shows those of all.
    """

    def __init__(self, states: States = tuple, *, directory: Path | None = None) -> None:
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
        self._ignored = counter("messages_ignored", "Messages that are none of our business.", "reason")
        self._outcomes = counter("outcomes", "How the work for one target ended.", "status", "error")
        self._retries = counter("retries", "Messages that were sent to wait for another try.", "delay")
        self._parked = counter("messages_parked", "Messages that were put into the failed queue.", "error")
        self._stages = histogram("stage_seconds", "How long the stages of a build's story take.", "stage")
        self._requests = counter("requests", "Calls to other services.", "service", "result")
        self._request_seconds = histogram("request_seconds", "How long calls to other services take.", "service")
        self._reconnects = counter(
            "broker_reconnects", "How often a lost connection to the broker came back.", "connection"
        )
        self._mapping_reloads = counter("mapping_reloads", "How often the mapping was read again.", "result")
        self._rounds = counter("catch_up_rounds", "Rounds of catching up.", "result")
        self._caught_up = counter("catch_up_sent", "Builds that were sent again by catching up.")
        self._http_requests = counter("http_requests", "Requests to the REST API.", "method", "route", "status")
        self._http_seconds = histogram("http_request_seconds", "How long requests to the REST API take.", "route")
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Prometheus sees no increase in a series that appears with its first event: let them be there before."""
        names = sorted(error_names())
        for status in Status:
            # An outcome that went wrong has an error's name; others have none.
            wrong = status in (Status.FAILED, Status.RETRYING)
            for error in names if wrong else ("",):
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

    def page(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._page)

    # What the parts tell.

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

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """See Observer."""
        self._http_requests.labels(method, route, str(status or "none")).inc()
        self._http_seconds.labels(route).observe(seconds)


class _StatesNow(Collector):
    def __init__(self, states: States) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """What there is to say now."""
        for state in self._states():
            family = GaugeMetricFamily(f"{PREFIX}_{state.name}", state.documentation, labels=state.labels)
            for values, number in state.samples:
                family.add_metric(values, number)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: asking for the states may be too early."""
        return iter(())


def build_info() -> Gauge:
    """Which build of the worker this is."""
    values = (__version__, platform.python_version(), metadata.version("operator-courier"))
    documentation = "The version of omps-worker, and what it runs on."
    return Gauge("build_info", documentation, [(values, 1)], ("version", "python", "operator_courier"))


def state_of_parts(troubles: dict[str, str | None], ready: bool) -> list[Gauge]:
    """The parts that are well, and whether all is."""
    samples = [((part,), float(trouble is None)) for part, trouble in troubles.items()]
    return [
        Gauge("ready", "Whether a message that came now would be worked on: what /ready says.", [((), float(ready))]),
        Gauge("part_up", "Whether a part is there.", samples, ("part",)),
    ]


def error_names() -> set[str]:
    """The names of all errors that an outcome can have."""

    def below(kind: type[errors.WorkerError]) -> Iterator[type[errors.WorkerError]]:
        kinds = kind.__subclasses__()
        if not kinds or kind is errors.SettingsError:
            yield kind
        for each in kinds:
            yield from below(each)

    return {kind.__name__ for kind in below(errors.WorkerError)} - {"MappingError"}
