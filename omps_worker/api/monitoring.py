# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring port of the REST API: one port for all its processes, if it is configured."""

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
    from omps_worker.configuration.settings.models import Settings

_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which Prometheus's client library expects the directory of shared metrics."""


class ApiMonitoring(ServiceMonitoring):
    """The metrics and health of the REST API.

    ``directory``: the one of ``shared_counts``, in the process that serves the metrics of all processes.
    """

    def __init__(self, settings: Settings, directory: Path | None = None) -> None:
        super().__init__(settings.monitoring, directory=directory)
        self._worker = settings.worker

    def api_port(self, vital: Callable[[], list[str]], parts: Mapping[str, Trouble]) -> AbstractContextManager[None]:
        """Return the port, with checks of the services that the REST API needs; see ``ServiceMonitoring.port``."""
        return self.port(vital, parts, lambda: CheckClients.of(self._worker, ANSWER_SECONDS).questions())


@contextmanager
def shared_counts(settings: Settings) -> Iterator[Path | None]:
    """Yield a directory in which this process and its children share their metrics; None without a monitoring port."""
    if settings.monitoring is None:
        yield None
        return
    with ScratchDirectory() as directory:
        os.environ[_SHARED] = str(directory)
        try:
            yield directory
        finally:
            del os.environ[_SHARED]
