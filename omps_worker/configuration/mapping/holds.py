# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys ``hold`` and ``pause`` of a mapping: which builds they stop, and by which entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omps_worker.configuration.mapping.globs import matcher
from omps_worker.configuration.mapping.tables import EVERYWHERE
from omps_worker.configuration.settings.tables import Location, dotted

_EVERYTHING = "all organizations and catalogs"


class HoldsAndPauses:
    """The entries of both keys. ``line_of`` returns the line of an entry in the file, if it is known."""

    def __init__(self, hold: Sequence[str], pause: Sequence[str], line_of: Callable[[Location], int | None]) -> None:
        self._hold = [(glob, _place(("hold", index), line_of)) for index, glob in enumerate(hold)]
        self._holds_any = matcher(hold) if hold else None
        places: dict[str, str] = {}
        for index, place in enumerate(pause):
            places.setdefault(place, _place(("pause", index), line_of))
        self._places = places

    @property
    def summary(self) -> str:
        """The number of entries: ``1 held, 2 paused``."""
        return f"{len(self._hold)} held, {len(self.paused())} paused"

    def holding(self, nvr: str) -> str | None:
        """Return the entry that holds a build, as text: ``hold[0] 'etcd-1.4-*' (line 2)``; None if none does."""
        if self._holds_any is None or not self._holds_any(nvr):
            return None
        return next(place.format(repr(glob)) for glob, place in self._hold if matcher([glob])(nvr))

    def pausing(self, place: str) -> str | None:
        """Return the entry that pauses a place, as text: ``pause[0] '*' (line 3)``; None if none does.

        A place is an organization, or ``catalog:NAME``.
        """
        name = place if place in self._places else EVERYWHERE
        return self._places[name].format(repr(name)) if name in self._places else None

    def paused(self) -> list[str]:
        """Return a sentence about each paused organization and catalog, or about all."""
        return [
            f"{place.format(repr(name))} pauses {_EVERYTHING if name == EVERYWHERE else name}: builds wait "
            "until it is removed from the mapping"
            for name, place in self._places.items()
        ]


def _place(location: Location, line_of: Callable[[Location], int | None]) -> str:
    """Return the place of an entry, with ``{}`` for its value."""
    line = line_of(location)
    return f"{dotted(location)} {{}} (line {line})" if line else f"{dotted(location)} {{}}"
