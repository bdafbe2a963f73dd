# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever wants to know what happens: the parts tell it, and do not care who listens.

What a part passes is bounded: a status, the name of an error, a stage, the outcome of a call. What
comes from outside (an NVR, an organization of a REST client) is never passed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

STAGES = ("koji", "download", "gate", "extract", "validate", "lock", "look", "push", "publish", "result")
"""The stages of a build's story, in their order. ``lock`` is the wait for it, ``result`` the recording."""

SERVICES = ("koji", "koji_files", "registry", "greenwave")
"""Who is called. ``koji`` is the hub, ``koji_files`` the server of its files."""


@dataclass
class Call:
    """A call under way; whoever makes it sets ``result`` before it ends: see ``Observer.request``."""

    result: str = "error"


class Observer:
    """Hears everything, and does nothing; subclasses do. May be called from any thread, must not raise."""

    def received(self) -> None:
        """A message came from the queue."""

    def ignored(self, reason: str) -> None:
        """A message is none of our business; ``reason`` is that of an ``Ignored``."""

    def outcome(self, status: str, error: str | None) -> None:
        """The work for one target ended; ``error`` is the name of what went wrong, if anything did."""

    def retry(self, delay: str) -> None:
        """A message waits for another try, in the queue of this delay."""

    def parked(self, error: str) -> None:
        """A message was parked in the failed queue, because of an error of this name."""

    def stage(self, name: str, seconds: float) -> None:
        """A stage of the story ended, well or not."""

    def request(self, service: str, result: str, seconds: float) -> None:
        """A call to one of ``SERVICES`` ended: with an HTTP status, or the kind of a fault."""

    def reconnected(self, connection: str) -> None:
        """A connection to the broker (``consumer`` or ``publisher``) is back after it was lost."""

    def mapping_read(self, *, good: bool) -> None:
        """The mapping file was read again; what is not good does not count."""

    def round_ended(self, sent: int | None) -> None:
        """A round of catching up sent so many builds again; None: it failed."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """The REST API answered; ``route`` is the template of the path, or empty."""

    @contextmanager
    def call(self, service: str) -> Iterator[Call]:
        """Tell of the call that is made inside, and how it ended."""
        call, begun = Call(), time.monotonic()
        try:
            yield call
        finally:
            self.request(service, call.result, time.monotonic() - begun)

    @contextmanager
    def timing(self, stage: str, spent: dict[str, float] | None = None) -> Iterator[None]:
        """Tell of the time spent inside, if that is one of ``STAGES``, and add it to ``spent``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begun
            if spent is not None:
                spent[stage] = spent.get(stage, 0.0) + seconds
            if stage in STAGES:
                self.stage(stage, seconds)


SILENT = Observer()
"""For when nobody wants to know."""


def status_label(status: int) -> str:
    """An HTTP status as one of a bounded number of words: a peer may answer with any number."""
    return str(status) if status in _STATUSES else f"{status // 100}xx"


_STATUSES = frozenset(HTTPStatus)
