# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring port of the REST API: one for all its processes, where the configuration has one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.monitoring.checks import CheckClients
from omps_worker.monitoring.health import ANSWER_SECONDS
from omps_worker.monitoring.readiness import Trouble
from omps_worker.monitoring.service_monitoring import ServiceMonitoring

if TYPE_CHECKING:
    from omps_worker.configuration.settings import Settings

_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes share their counts, as Prometheus's client wants to be told."""


class ApiMonitoring(ServiceMonitoring):
    """Counts what the REST API does, and shows it.

    ``directory``: that of ``shared_counts``, in the process that shows the counts of all.
    """

    def __init__(self, settings: Settings, directory: Path | None = None) -> None:
        super().__init__(settings.monitoring, directory=directory)
        self._worker = settings.worker

    def api_port(self, vital: Callable[[], list[str]], parts: Mapping[str, Trouble]) -> AbstractContextManager[None]:
        """The port, with the services that the REST API needs; see ``ServiceMonitoring.port``."""
        return self.port(vital, parts, lambda: CheckClients.of(self._worker, ANSWER_SECONDS).questions())


@contextmanager
def shared_counts(settings: Settings) -> Iterator[Path | None]:
    """A directory in which this process and those that it starts share their counts; None: nobody reads them."""
    if settings.monitoring is None:
        yield None
        return
    with ScratchDirectory() as directory:
        os.environ[_SHARED] = str(directory)
        try:
            yield directory
        finally:
            del os.environ[_SHARED]
