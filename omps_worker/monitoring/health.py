# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the services that the work depends on, again and again, whether they are there.

Each is asked by a thread of its own, so that one that hangs hides nothing about the others. What is
known is at most ``EVERY_SECONDS`` and the time of one question old; a question that is not answered
in time counts as a service that is away, whatever its client thinks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from omps_worker.common import machine
from omps_worker.common.errors import UnexpectedError, WorkerError, unforeseen
from omps_worker.common.text import one_line

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""From one question to the next."""

ANSWER_SECONDS = 3.0
"""How long a service may take to answer; a client's own time-out should be this."""

GOODBYE_SECONDS = 0.5
"""How long one waits at the end for those who are being asked."""

SLACK_SECONDS = 1.0
"""How much longer one waits: looking up a name in the DNS knows no time-out."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question with a pace of its own.

    ``ask`` raises what is wrong; ``every`` seconds it is asked, and after ``patience`` seconds without an answer
    that is what is wrong.
    """

    ask: Callable[[], object]
    every: float = EVERY_SECONDS
    patience: float = ANSWER_SECONDS + SLACK_SECONDS


Questions = Mapping[str, Callable[[], object] | Probe]
"""By the name of who is asked."""


class _ProbedService:
    """One service, its thread, and what is known of it."""

    def __init__(self, name: str, question: Probe, lookout: HealthChecks) -> None:
        self.name = name
        self._ask = question.ask
        self._lookout = lookout
        self._every = question.every
        self._patience = question.patience
        self._over = threading.Event()
        self._asked_at: float | None = time.monotonic()
        """When the question was asked that is not answered yet."""
        self._trouble: str | None = "was not asked yet"
        self._away_since: float | None = None
        self.thread = threading.Thread(target=self._run, name=f"lookout-{name}", daemon=True)

    @property
    def trouble(self) -> str | None:
        """What is wrong with it; None: nothing is."""
        asked_at = self._asked_at
        if asked_at is not None and (silent := time.monotonic() - asked_at) > self._patience:
            return f"has not answered for {silent:.0f} s"
        return self._trouble

    def end(self) -> None:
        """Ask no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            begun = self._asked_at = time.monotonic()
            trouble = self._answer()
            self._asked_at = None
            self._learn(trouble)
            self._over.wait(max(self._every - (time.monotonic() - begun), 0.0))
        self._lookout.goodbye(self.name)

    def _answer(self) -> str | None:
        try:
            self._ask()
        except WorkerError as error:
            return one_line(error.message)
        except Exception as error:
            machine.log_failure(log, error, "asking %s failed in an unforeseen way", self.name)
            found = unforeseen(error)
            return f"cannot be asked: {type(error).__name__}" if isinstance(found, UnexpectedError) else found.message
        return None

    def _learn(self, trouble: str | None) -> None:
        now = time.monotonic()
        self._trouble = trouble
        if trouble is not None and self._away_since is None:
            self._away_since = now
            log.warning("%s is away: %s", self.name, trouble)
        elif trouble is None and self._away_since is not None:
            log.info("%s is back after %.0f s", self.name, now - self._away_since)
            self._away_since = None
            self._lookout.back(self.name)


class HealthChecks:
    """Asks while it is entered. ``questions``: a name, and a function that raises what is wrong, or a Probe.

    ``every`` and ``patience`` are those of functions.

    ``back`` is told the name of a service that was away and answers again, and ``goodbye`` that of one
    which is not asked any more; both in the thread that asks it.
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
        paced = {
            name: asked if isinstance(asked, Probe) else Probe(asked, every, patience)
            for name, asked in questions.items()
        }
        self._services = [_ProbedService(name, question, self) for name, question in paced.items()]

    def troubles(self) -> dict[str, str | None]:
        """For each service what is wrong with it, and None if nothing is."""
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
        # Whoever is just being asked may take its time: nobody waits long for that.
        until = time.monotonic() + GOODBYE_SECONDS
        for service in self._services:
            service.thread.join(max(until - time.monotonic(), 0.0))
