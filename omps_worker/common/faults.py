# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong in a file that somebody wrote."""

from __future__ import annotations

from dataclasses import dataclass

from omps_worker.common.text import with_single_stops


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a file that somebody wrote: where, and what to do about it."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        return with_single_stops(": ".join(filter(None, (self.file, self.key, self.reason))))
