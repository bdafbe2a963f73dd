# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for files that are made of others: no two are equal, and none is too long."""

from __future__ import annotations

from collections.abc import Iterable

_NUMBER = 8
"""How many bytes a number in a name may need, with its dot."""


class FileNames:
    """The names of the files of one directory, each of ``length`` bytes at most.

    A name that needs a number gets it before its ending: ``crds.yaml`` becomes ``crds.1.yaml``. Numbers only grow, so
    the time is proportional to the number of names, whatever they are.
    """

    def __init__(self, taken: Iterable[str], length: int) -> None:
        self._taken = set(taken)
        self._length = length
        self._last: dict[tuple[str, str], int] = {}

    def free(self, name: str) -> str:
        """Return ``name``, shortened if it is too long and numbered if it is taken, and take it."""
        made = self._shortened(name)
        if made in self._taken:
            return self.numbered(name)
        self._taken.add(made)
        return made

    def numbered(self, name: str) -> str:
        """Return ``name`` with the next number that gives a free one, and take that."""
        stem, dot, ending = self._shortened(name, _NUMBER).rpartition(".")
        number = self._last.get((stem, ending), 0)
        while True:
            number += 1
            made = f"{stem}.{number}{dot}{ending}"
            if made not in self._taken:
                break
        self._last[stem, ending] = number
        self._taken.add(made)
        return made

    def _shortened(self, name: str, reserved: int = 0) -> str:
        # The beginning stays, so a file does not become a hidden one, and the ending, which says what is in it.
        stem, dot, ending = name.rpartition(".")
        room = self._length - reserved - len(f"{dot}{ending}".encode())
        kept = stem.encode()[:room].decode(errors="ignore")
        return f"{kept}{dot}{ending}"
