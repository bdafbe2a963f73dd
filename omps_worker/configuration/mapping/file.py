# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the mapping file, and reading it again while the worker runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from pydantic import ValidationError

from omps_worker.common.errors import Fault, MappingError, SettingsError
from omps_worker.common.files.regular import NOT_PLAIN
from omps_worker.common.files.versions import Version, version_of
from omps_worker.common.observer import NO_OBSERVER
from omps_worker.configuration.file_text import text_of
from omps_worker.configuration.mapping import positioned_yaml
from omps_worker.configuration.mapping.globs import suspicion
from omps_worker.configuration.mapping.matching import Mapping
from omps_worker.configuration.mapping.tables import MappingTable
from omps_worker.configuration.settings.tables import Location, Reading, dotted, plain_reason

log = logging.getLogger(__name__)


def load(path: Path, organizations: Collection[str] | None = None, catalogs: Collection[str] | None = None) -> Mapping:
    """Load the mapping in ``path``.

    Its targets must be among ``organizations`` and ``catalogs`` (None: not checked). Raises MappingError with every
    fault; trying again does not help.
    """
    return parse(_content(path), str(path), organizations, catalogs)


def parse(
    text: str, file: str, organizations: Collection[str] | None = None, catalogs: Collection[str] | None = None
) -> Mapping:
    """Parse ``text`` as a mapping; ``file`` is its name in faults. Raises MappingError with every fault."""
    try:
        document = positioned_yaml.read(text)
    except positioned_yaml.YamlError as error:
        reason = str(error)
    else:
        reason = "is empty: it must have the keys version and rules" if document.value is None else ""
    if reason:
        raise MappingError([Fault(file, "", reason)])
    found, table = list(document.faults), None
    unreadable = {location for location, _ in found}
    try:
        table = MappingTable.model_validate(
            document.value, context=Reading(organizations=organizations, catalogs=catalogs)
        )
    except ValidationError as error:
        details = error.errors(include_url=False)
        found += [(detail["loc"], plain_reason(detail)) for detail in details if detail["loc"] not in unreadable]

    def fault(location: Location, reason: str) -> Fault:
        line = document.line(location)
        return Fault(file, dotted(location), f"{reason} (line {line})" if line else reason)

    if table is None or found:
        raise MappingError([fault(*each) for each in found])
    return Mapping(table, [fault(*each) for each in _warnings_about(table)], document.line)


def _warnings_about(table: MappingTable) -> Iterator[tuple[Location, str]]:
    """Yield the entries that are valid but probably a mistake."""
    for index, glob in enumerate(table.hold):
        if reason := suspicion("nvr", glob):
            yield ("hold", index), f"{glob!r} {reason}"
    if not table.rules:
        yield ("rules",), "has no entries: every build is ignored"
    earlier: dict[tuple[tuple[str, tuple[str, ...]], ...], int] = {}
    for index, rule in enumerate(table.rules):
        conditions = tuple(rule.match.conditions().items())
        before = earlier.get((), earlier.get(conditions))
        if before is not None:
            yield (
                ("rules", index),
                f"can never decide: rules[{before}] comes first and matches every build that this rule matches",
            )
        earlier.setdefault(conditions, index)
        for fact, globs in conditions:
            for glob in globs:
                if reason := suspicion(fact, glob):
                    yield ("rules", index, "match", fact), f"{glob!r} {reason}"
        everywhere = {target.place for target in rule.publish if target.repository is None}
        for number, target in enumerate(rule.publish):
            if target.repository is not None and target.place in everywhere:
                yield (
                    ("rules", index, "publish", number),
                    f"another target also publishes to {target.place}, with any packageName",
                )


def _content(path: Path) -> str:
    try:
        # The file is read repeatedly, which only a regular file allows.
        if path.exists() and not path.is_file():
            raise MappingError([Fault(str(path), "", NOT_PLAIN)])
        return text_of(path)
    except SettingsError as error:
        raise MappingError(error.faults) from None


class MappingFile:
    """The current mapping, which is the last valid one.

    Call ``reload_if_changed`` often, in a loop. It checks the file about once a second, and reads it when it has
    changed and then stayed the same until the next check, so that a file is never read half written. An invalid edit is
    logged once. Safe to use from several threads.
    """

    def __init__(
        self,
        path: Path,
        organizations: Collection[str] | None = None,
        catalogs: Collection[str] | None = None,
        *,
        look_every: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file. Raises MappingError if it is invalid. ``look_every``: seconds between checks of the file."""
        self.observer = NO_OBSERVER
        """The observer that is told when the file is read again."""
        self._path = path
        self._organizations = organizations
        self._catalogs = catalogs
        self._look_every = look_every
        self._clock = clock
        self._lock = threading.Lock()
        self._next_look = clock() + look_every
        self._last_error: str | None = None
        self._read = self._pending = version_of(self._path)
        self._current = load(path, organizations, catalogs)

    @property
    def current(self) -> Mapping:
        """The last valid mapping."""
        return self._current

    @property
    def last_error(self) -> str | None:
        """Why the current content of the file is invalid; None if it is valid."""
        return self._last_error

    def reload_if_changed(self) -> bool:
        """Read the file if it has changed and settled. Return whether there is a new mapping. Never raises."""
        if self._clock() < self._next_look:
            return False
        with self._lock:
            self._next_look = self._clock() + self._look_every
            version = version_of(self._path)
            settled, self._pending = version == self._pending, version
            return settled and version != self._read and self._reload(version)

    def reload(self) -> bool:
        """Read the file now, even if it has not changed. Return whether it is valid. Never raises."""
        with self._lock:
            return self._reload(version_of(self._path))

    def _reload(self, version: Version) -> bool:
        self._read = self._pending = version
        try:
            mapping = load(self._path, self._organizations, self._catalogs)
        except MappingError as error:
            self._last_error = "; ".join(error.message.splitlines())
            self.observer.mapping_read(good=False)
            log.error("the mapping is invalid, and the last good one stays in use: %s", self._last_error)
            return False
        again = " again" if self._last_error else ""
        self._current, self._last_error = mapping, None
        self.observer.mapping_read(good=True)
        log.info("the mapping was read%s: %s", again, mapping.summary)
        for warning in (*mapping.warnings, *mapping.holds_and_pauses.paused()):
            log.warning("%s", warning)
        return True
