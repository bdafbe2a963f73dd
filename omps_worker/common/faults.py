# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults in configuration files."""

from __future__ import annotations

from dataclasses import dataclass

from omps_worker.common.text import with_single_stops


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a file that a user wrote: its place, and how to fix it."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        return with_single_stops(": ".join(filter(None, (self.file, self.key, self.reason))))
