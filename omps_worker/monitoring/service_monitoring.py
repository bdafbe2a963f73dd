# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring of a running service: its counts, and the port that shows them and the service's health.

If the configuration has no monitoring port, nothing is counted and no health checks run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker.common.errors import SettingsError
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.monitoring.health import HealthChecks, Questions
from omps_worker.monitoring.port import MonitoringPort, Page, Reasons
from omps_worker.monitoring.readiness import Readiness, Trouble

if TYPE_CHECKING:
    from omps_worker.configuration.settings.broker import MonitoringSettings
    from omps_worker.monitoring.metrics import Gauge

log = logging.getLogger(__name__)


class ServiceMonitoring:
    """Counts what a service does, and shows the counts and its health on the port of ``settings``.

    ``settings`` is None if there is no port. ``states`` returns the gauges to show in addition to those of build and
    parts. ``directory`` is set only in the process that shows the counts of several processes; ``catalogs`` are the
    names of the catalogs in the configuration. See ``metrics`` for both.
    """

    def __init__(
        self,
        settings: MonitoringSettings | None,
        states: Callable[[], Iterable[Gauge]] = tuple,
        *,
        directory: Path | None = None,
        catalogs: Iterable[str] = (),
    ) -> None:
        self._settings = settings
        self._states = states
        self._readiness = Readiness(list, {})
        self._pages: dict[str, Page] = {}
        self.observer: Observer = NO_OBSERVER
        """The observer that the parts of the service notify."""
        if settings is not None:
            from omps_worker.monitoring import metrics

            counts = self.observer = metrics.Metrics(self._states_now, directory=directory, catalogs=catalogs)
            self._pages = {"/metrics": lambda: (metrics.CONTENT_TYPE, counts.page())}

    @contextmanager
    def port(
        self,
        restart_reasons: Callable[[], list[str]],
        parts: Mapping[str, Trouble],
        questions: Callable[[], Questions],
        *,
        warnings: Reasons = tuple,
        back: Callable[[str], object] = bool,
        goodbye: Callable[[str], object] = bool,
    ) -> Iterator[None]:
        """Open the port, if one is configured, and run the health checks ``questions`` while the context is entered.

        See ``readiness.Readiness`` for ``restart_reasons`` and ``parts``, and ``health.HealthChecks`` for the other
        parameters. ``warnings`` returns what ``/ready`` shows in addition to the reasons; warnings do not make the
        service unready.
        """
        settings = self._settings
        with ExitStack() as stack:
            if settings is not None:
                checks = HealthChecks(questions(), back=back, goodbye=goodbye)
                self._readiness = readiness = Readiness(restart_reasons, parts, checks.troubles)
                probes = {"/live": readiness.live, "/ready": readiness.ready}
                try:
                    port = MonitoringPort(settings.address, settings.port, probes, self._pages, {"/ready": warnings})
                except SettingsError as error:
                    # The service works without its port, and the missing port will be noticed.
                    log.error("no health port: %s", error)
                else:
                    stack.enter_context(checks)
                    stack.enter_context(port)
            yield

    def _states_now(self) -> Iterator[Gauge]:
        from omps_worker.monitoring.metrics import build_info, state_of_parts

        troubles = self._readiness.troubles()
        yield build_info()
        yield from state_of_parts(troubles, ready=not self._readiness.reasons(troubles))
        yield from self._states()
