# SPDX-License-Identifier: GPL-3.0-or-later
"""Which refusals of the broker end a worker: only those of a step that never worked.

Before anything worked, a refusal most likely means a mistake in the configuration, which is told at once
and ends the worker. Later it means that something changed at the broker, and may change back.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from omps_worker.common.errors import BrokerRefused


class FinalRefusals:
    """Knows which steps have worked."""

    def __init__(self) -> None:
        self._worked: set[str] = set()
        self._final: weakref.ref[BaseException] | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take a step; what is raised inside comes out as it is."""
        try:
            yield
        except BrokerRefused as error:
            if name not in self._worked:
                self._final = weakref.ref(error)
            raise
        self._worked.add(name)

    def is_final(self, error: BaseException) -> bool:
        """Whether ``error`` refused a step that never worked."""
        return self._final is not None and self._final() is error
