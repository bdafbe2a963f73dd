# SPDX-License-Identifier: GPL-3.0-or-later
"""``StartupRefusals``: which refusals of the broker end a worker. Only those of a step that has never succeeded do.

Before a step has succeeded, a refusal most likely means a mistake in the configuration, so it is reported at once and
ends the worker. Later it means that something changed on the broker, and may change back.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from omps_worker.common.errors import BrokerRefused


class StartupRefusals:
    """Remembers which steps have succeeded."""

    def __init__(self) -> None:
        self._succeeded: set[str] = set()
        self._final: weakref.ref[BaseException] | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step as the body of a ``with`` block. Exceptions pass through unchanged."""
        try:
            yield
        except BrokerRefused as error:
            if name not in self._succeeded:
                self._final = weakref.ref(error)
            raise
        self._succeeded.add(name)

    def is_final(self, error: BaseException) -> bool:
        """Return whether ``error`` is the refusal of a step that had never succeeded."""
        return self._final is not None and self._final() is error
