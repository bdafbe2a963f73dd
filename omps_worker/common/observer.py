# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface through which all parts report what happens, such as to metrics.

The values that a part passes are from a bounded set: a status, the name of an error, a stage, the outcome of a call.
Values from outside (an NVR, an organization of a REST client) are never passed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

STAGES = ("koji", "download", "gate", "extract", "validate", "lock", "look", "push", "publish", "result")
"""The stages of the work on a build, in order. ``lock`` is the wait for the lock, ``result`` the publishing of the
result.
"""

SERVICES = ("koji", "koji_files", "registry", "image_registry", "greenwave")
"""The services that are called. ``koji`` is the hub, ``koji_files`` the file server, ``registry`` the app registry."""


@dataclass
class Call:
    """A call in progress. The caller sets ``result`` before it ends; see ``Observer.request``."""

    result: str = "error"


class Observer:
    """The base class of observers, which ignores everything. Subclasses override methods.

    The methods can be called from any thread and must not raise.
    """

    def received(self) -> None:
        """Record that a message was received from the queue."""

    def ignored(self, reason: str) -> None:
        """Record that a message was ignored; ``reason`` is that of the ``Ignored``."""

    def outcome(self, status: str, error: str | None) -> None:
        """Record the outcome for one target; ``error`` is the name of the error, if there is one."""

    def retry(self, delay: str) -> None:
        """Record that a message was put into the retry queue of this delay."""

    def parked(self, error: str) -> None:
        """Record that a message was parked because of an error of this name."""

    def stage(self, name: str, seconds: float) -> None:
        """Record that a stage ended, successfully or not."""

    def request(self, service: str, result: str, seconds: float) -> None:
        """Record that a call to one of ``SERVICES`` ended; ``result`` is an HTTP status or the kind of a fault."""

    def reconnected(self, connection: str) -> None:
        """Record that a lost connection to the broker (``consumer`` or ``publisher``) was restored."""

    def mapping_read(self, *, good: bool) -> None:
        """Record that the mapping file was read again. If it is not ``good``, the previous mapping stays in use."""

    def round_ended(self, sent: int | None) -> None:
        """Record that a catch-up sent ``sent`` builds again, or None if it failed."""

    def catalog_updated(self, catalog: str, seconds: float) -> None:
        """Record that an update changed a catalog of this name in the configuration, and held it for ``seconds``."""

    def catalog_conflict(self, catalog: str) -> None:
        """Record that another program changed a catalog during an update, which starts again or fails."""

    def bundle_image_pushed(self, catalog: str) -> None:
        """Record that a bundle image was made and pushed for a catalog."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a reply of the REST API; ``route`` is the template of the path, or empty."""

    @contextmanager
    def call(self, service: str) -> Iterator[Call]:
        """Record the call that is made in the ``with`` block, and its result."""
        call, begun = Call(), time.monotonic()
        try:
            yield call
        finally:
            self.request(service, call.result, time.monotonic() - begun)

    @contextmanager
    def timing(self, stage: str, spent: dict[str, float] | None = None) -> Iterator[None]:
        """Record the time spent in the ``with`` block if ``stage`` is one of ``STAGES``, and add it to ``spent``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begun
            if spent is not None:
                spent[stage] = spent.get(stage, 0.0) + seconds
            if stage in STAGES:
                self.stage(stage, seconds)


NO_OBSERVER = Observer()
"""An observer that ignores everything."""


def status_label(status: int) -> str:
    """Return an HTTP status as one of a bounded number of labels, because a peer may answer with any number."""
    return str(status) if status in _STATUSES else f"{status // 100}xx"


_STATUSES = frozenset(HTTPStatus)
