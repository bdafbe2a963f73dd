# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be seen of a running service: its counts, and the port that shows them and its health.

Where the configuration has no port, nothing is counted and nobody is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker.common.errors import SettingsError
from omps_worker.common.observer import SILENT, Observer
from omps_worker.monitoring.health import HealthChecks, Questions
from omps_worker.monitoring.port import MonitoringPort, Page, Probe
from omps_worker.monitoring.readiness import Readiness, Trouble

if TYPE_CHECKING:
    from omps_worker.configuration.settings.broker import MonitoringSettings
    from omps_worker.monitoring.metrics import Gauge

log = logging.getLogger(__name__)


class ServiceMonitoring:
    """Counts what a service does, and shows it on the port ``place``.

    ``states`` gives what there is to show beside counts, build and parts. ``directory``: that of counts
    which processes share, in the one that shows those of all; see ``metrics``.
    """

    def __init__(
        self,
        place: MonitoringSettings | None,
        states: Callable[[], Iterable[Gauge]] = tuple,
        *,
        directory: Path | None = None,
    ) -> None:
        self._place = place
        self._states = states
        self._readiness = Readiness(list, {})
        self._pages: dict[str, Page] = {}
        self.observer: Observer = SILENT
        """Who is to be told."""
        if place is not None:
            from omps_worker.monitoring import metrics

            counts = self.observer = metrics.Metrics(self._states_now, directory=directory)
            self._pages = {"/metrics": lambda: (metrics.CONTENT_TYPE, counts.page())}

    @contextmanager
    def port(
        self,
        vital: Callable[[], list[str]],
        parts: Mapping[str, Trouble],
        questions: Callable[[], Questions],
        *,
        warnings: Probe = tuple,
        back: Callable[[str], object] = bool,
        goodbye: Callable[[str], object] = bool,
    ) -> Iterator[None]:
        """Open it, if there is one; asks the ``questions`` meanwhile.

        For ``vital`` and ``parts`` see ``readiness.Readiness``, for the others ``health.HealthChecks``. ``warnings``
        gives what ``/ready`` shows beside the reasons, and is ready all the same.
        """
        place = self._place
        with ExitStack() as stack:
            if place is not None:
                lookout = HealthChecks(questions(), back=back, goodbye=goodbye)
                self._readiness = readiness = Readiness(vital, parts, lookout.troubles)
                probes = {"/live": readiness.live, "/ready": readiness.ready}
                try:
                    port = MonitoringPort(place.address, place.port, probes, self._pages, {"/ready": warnings})
                except SettingsError as error:
                    # It works all the same; who watches the port will notice.
                    log.error("no health port: %s", error)
                else:
                    stack.enter_context(lookout)
                    stack.enter_context(port)
            yield

    def _states_now(self) -> Iterator[Gauge]:
        from omps_worker.monitoring.metrics import build_info, state_of_parts

        troubles = self._readiness.troubles()
        yield build_info()
        yield from state_of_parts(troubles, ready=not self._readiness.reasons(troubles))
        yield from self._states()
