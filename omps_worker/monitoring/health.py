# SPDX-License-Identifier: GPL-3.0-or-later
"""Periodic health checks of the services that the work depends on.

Each service is checked by its own thread, so that a service that hangs does not delay the checks of the others. What is
known about a service is at most as old as ``EVERY_SECONDS`` plus the duration of one check. A check that is not
answered in time counts as a service that is away, whatever the timeout of its client is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from omps_worker.common import machine
from omps_worker.common.errors import UnexpectedError, WorkerError, unexpected_error
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""The seconds from the start of one check to the start of the next."""

ANSWER_SECONDS = 3.0
"""The seconds that a service may take to answer. Clients used for checks should have this timeout."""

GOODBYE_SECONDS = 0.5
"""The seconds that ``HealthChecks`` waits at its end for checks under way."""

SLACK_SECONDS = 1.0
"""The additional seconds after ``ANSWER_SECONDS``: DNS lookups have no timeout."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A health check with its own period.

    ``ask`` raises an error if something is wrong. It is called every ``every`` seconds. If it takes more than
    ``patience`` seconds, the service counts as away.
    """

    ask: Callable[[], object]
    every: float = EVERY_SECONDS
    patience: float = ANSWER_SECONDS + SLACK_SECONDS


Questions = Mapping[str, Callable[[], object] | Probe]
"""Health checks by the name of the service."""


class _ProbedService:
    """One service, the thread that checks it, and what is known about it."""

    def __init__(self, name: str, probe: Probe, owner: HealthChecks) -> None:
        self.name = name
        self._ask = probe.ask
        self._owner = owner
        self._every = probe.every
        self._patience = probe.patience
        self._over = threading.Event()
        self._asked_at: float | None = time.monotonic()
        """When the check under way began; None if none is."""
        self._trouble: str | None = "has not been checked yet"
        self._away_since: float | None = None
        self.thread = threading.Thread(target=self._run, name=f"health-check-{name}", daemon=True)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the service; None if nothing is."""
        asked_at = self._asked_at
        if asked_at is not None and (silent := time.monotonic() - asked_at) > self._patience:
            return f"has not answered for {silent:.0f} s"
        return self._trouble

    def end(self) -> None:
        """Stop checking after the check under way."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            begun = self._asked_at = time.monotonic()
            trouble = self._check()
            self._asked_at = None
            self._record(trouble)
            self._over.wait(max(self._every - (time.monotonic() - begun), 0.0))
        self._owner.goodbye(self.name)

    def _check(self) -> str | None:
        try:
            self._ask()
        except WorkerError as error:
            return one_line(error.message)
        except Exception as error:
            machine.log_failure(log, error, "the health check of %s failed unexpectedly", self.name)
            wrapped = unexpected_error(error)
            unexpected = isinstance(wrapped, UnexpectedError)
            return f"cannot be checked: {type(error).__name__}" if unexpected else wrapped.message
        return None

    def _record(self, trouble: str | None) -> None:
        now = time.monotonic()
        self._trouble = trouble
        if trouble is not None and self._away_since is None:
            self._away_since = now
            log.warning("%s is away: %s", self.name, trouble)
        elif trouble is None and self._away_since is not None:
            log.info("%s is back after %.0f s", self.name, now - self._away_since)
            self._away_since = None
            self._owner.back(self.name)


class HealthChecks:
    """Health checks that run while this context manager is entered.

    ``questions`` maps names of services to functions, which raise an error if something is wrong, or to Probes.
    ``every`` and ``patience``, in seconds, apply to functions; see ``Probe``.

    ``back`` is called with the name of a service that was away and answers again. ``goodbye`` is called with the name
    of a service that is no longer checked. Both are called in the thread that checks the service.
    """

    def __init__(
        self,
        questions: Questions,
        *,
        back: Callable[[str], object] = bool,
        goodbye: Callable[[str], object] = bool,
        every: float = EVERY_SECONDS,
        patience: float = ANSWER_SECONDS + SLACK_SECONDS,
    ) -> None:
        self.back, self.goodbye = back, goodbye
        probes = {
            name: question if isinstance(question, Probe) else Probe(question, every, patience)
            for name, question in questions.items()
        }
        self._services = [_ProbedService(name, probe, self) for name, probe in probes.items()]

    def troubles(self) -> dict[str, str | None]:
        """Return what is wrong with each service, by name; None for a service that is well."""
        return {service.name: service.trouble for service in self._services}

    def __enter__(self) -> HealthChecks:
        try:
            for service in self._services:
                machine.start(service.thread)
        except BaseException:
            for service in self._services:
                service.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for service in self._services:
            service.end()
        # A check under way may take long; do not wait for it longer than this.
        until = time.monotonic() + GOODBYE_SECONDS
        for service in self._services:
            service.thread.join(max(until - time.monotonic(), 0.0))
