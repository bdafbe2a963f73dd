# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of the tree of errors, which ``errors`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from omps_worker.common.error_details import limited
from omps_worker.common.text import with_single_stops
from omps_worker.common.tracebacks import drop_tracebacks

Kind = TypeVar("Kind", bound="WorkerError")

MESSAGE_LIMIT = 4096
"""The maximum length of an error's message in characters. Texts from other services may be longer."""


class WorkerError(Exception):
    """The base of all errors of omps-worker.

    ``message`` is one sentence for people. It never contains a secret, a local path that the reader did not configure,
    or a traceback. ``details`` is JSON for programs. ``transient`` says whether the same work can succeed later.
    ``retry_after`` is the delay in seconds that the peer requested, or None.

    ``counts``: whether an attempt that ends with this error counts as an attempt. If not, the work never began.
    ``gives_up``: whether retrying ends after some time. ``reason``: the reason in results while the work is retried, if
    it is not the name of the error.
    """

    transient = False
    counts = True
    gives_up = True
    reason: str | None = None

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        transient: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        if len(message) > MESSAGE_LIMIT:
            message = message[: MESSAGE_LIMIT - 1] + "…"
        self.message = with_single_stops(message)
        super().__init__(self.message)
        self.details: dict[str, Any] = limited(details or {})
        self.retry_after = retry_after
        if transient is not None:
            self.transient = transient

    @property
    def name(self) -> str:
        """The name in results and REST replies, such as ``KojiNVRBuildNotFound``."""
        return type(self).__name__

    def as_value(self: Kind) -> Kind:
        """Return this error without its traceback and causes, so that it can be stored; see ``drop_tracebacks``."""
        drop_tracebacks(self)
        return self
