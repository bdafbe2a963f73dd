# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keys ``hold`` and ``pause`` of a mapping keep back, and which entry of them does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omps_worker.configuration.mapping.globs import matcher
from omps_worker.configuration.mapping.rules import CATALOG, EVERYWHERE
from omps_worker.configuration.settings.tables import Location, dotted


class HoldsAndPauses:
    """The entries of both keys. ``line_of`` gives the line of one in the file, if it is known."""

    def __init__(self, hold: Sequence[str], pause: Sequence[str], line_of: Callable[[Location], int | None]) -> None:
        self._hold = [(glob, _place(("hold", index), line_of)) for index, glob in enumerate(hold)]
        self._holds_any = matcher(hold) if hold else None
        places: dict[str, str] = {}
        for index, place in enumerate(pause):
            places.setdefault(place, _place(("pause", index), line_of))
        self._places = places

    @property
    def summary(self) -> str:
        """How much it is: ``1 held, 2 paused``, each an entry."""
        return f"{len(self._hold)} held, {len(self.paused())} paused"

    def holding(self, nvr: str) -> str | None:
        """The entry that holds a build, for people: ``hold[0] 'etcd-1.4-*' (line 2)``; None: none does."""
        if self._holds_any is None or not self._holds_any(nvr):
            return None
        return next(place.format(repr(glob)) for glob, place in self._hold if matcher([glob])(nvr))

    def pausing(self, organization: str) -> str | None:
        """The entry that makes builds for an organization wait, ``pause[0] '*' (line 3)``; None: none does."""
        name = organization if organization in self._places else EVERYWHERE
        return self._places[name].format(repr(name)) if name in self._places else None

    def paused(self) -> list[str]:
        """A sentence about each organization that is paused, or about all."""
        return [
            f"{place.format(repr(name))} pauses {'all organizations' if name == EVERYWHERE else name}: builds wait "
            "until it is gone from the mapping"
            for name, place in self._places.items()
            if not name.startswith(CATALOG)
        ]


def _place(location: Location, line_of: Callable[[Location], int | None]) -> str:
    """Where an entry stands, with ``{}`` for what it is."""
    line = line_of(location)
    return f"{dotted(location)} {{}} (line {line})" if line else f"{dotted(location)} {{}}"
