# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring port of the REST API: one for all its processes, where the configuration has one."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker.checks import Services
from omps_worker.errors import SettingsError
from omps_worker.lookout import ANSWER_SECONDS, Lookout
from omps_worker.monitoring import Monitoring
from omps_worker.observer import SILENT, Observer
from omps_worker.readiness import Readiness, Trouble

if TYPE_CHECKING:
    from omps_worker.metrics import State
    from omps_worker.settings import Settings

log = logging.getLogger(__name__)

_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes share their counts, as Prometheus's client wants to be told."""


class ApiMonitoring:
    """Counts what the REST API does, and shows it.

    ``directory``: that of ``shared_counts``, in the process that shows the counts of all.
    """

    def __init__(self, settings: Settings, directory: Path | None = None) -> None:
        self._settings = settings
        self._readiness = Readiness(list, {})
        self.observer: Observer = SILENT
        """Who is to be told."""
        if settings.monitoring is not None:
            from omps_worker import metrics

            counts = self.observer = metrics.Metrics(self._states, directory=directory)
            self._pages = {"/metrics": lambda: (metrics.CONTENT_TYPE, counts.page())}

    @contextmanager
    def port(self, vital: Callable[[], list[str]], parts: Mapping[str, Trouble]) -> Iterator[None]:
        """Open it; what ``vital`` and ``parts`` tell, see ``readiness.Readiness``."""
        place = self._settings.monitoring
        with ExitStack() as stack:
            if place is not None:
                lookout = Lookout(Services.of(self._settings.worker, ANSWER_SECONDS).questions())
                self._readiness = readiness = Readiness(vital, parts, lookout.troubles)
                probes = {"/live": readiness.live, "/ready": readiness.ready}
                try:
                    port = Monitoring(place.address, place.port, probes, self._pages)
                except SettingsError as error:
                    # It works all the same; who watches the port will notice.
                    log.error("no health port: %s", error)
                else:
                    stack.enter_context(lookout)
                    stack.enter_context(port)
            yield

    def _states(self) -> Iterator[State]:
        from omps_worker.metrics import build_info, state_of_parts

        yield build_info()
        yield from state_of_parts(self._readiness.troubles(), ready=not self._readiness.ready())


@contextmanager
def shared_counts(settings: Settings) -> Iterator[Path | None]:
    """A directory in which this process and those that it starts share their counts; None: nobody reads them."""
    if settings.monitoring is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="omps-worker-counts-") as name:
        os.environ[_SHARED] = name
        try:
            yield Path(name)
        finally:
            del os.environ[_SHARED]
