# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking every part whether it would work, before the first build depends on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from omps_worker.errors import UnexpectedError, WorkerError

log = logging.getLogger(__name__)

OK, WARNING, FAILED = "ok", "warning", "failed"


class Doubt(Exception):
    """A check that can neither say yes nor no; its text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question; ``ask`` returns a detail for a person, or raises Doubt or a WorkerError."""

    part: str
    ask: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to a Check."""

    part: str
    state: str
    detail: str
    error: WorkerError | None = None

    def as_json(self) -> dict[str, object]:
        """What ``check --json`` prints for it."""
        return {
            "part": self.part,
            "state": self.state,
            "detail": self.detail,
            "error": self.error.name if self.error else None,
            "transient": self.error.transient if self.error else None,
        }


def answer(check: Check) -> Finding:
    """The answer, whatever it is: no check stops the next."""
    try:
        return Finding(check.part, OK, check.ask())
    except Doubt as doubt:
        return Finding(check.part, WARNING, str(doubt))
    except WorkerError as error:
        return Finding(check.part, FAILED, error.message, error)
    except Exception as error:
        log.exception("the check of %s broke", check.part)
        wrapped = UnexpectedError.wrap(error)
        return Finding(check.part, FAILED, wrapped.message, wrapped)
