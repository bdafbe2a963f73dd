# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of builds in Koji: what else there is of a component, and what was completed in a period.

Only operator builds whose manifests can become a release are listed: no bundles. The answers of the
hub are read a page at a time, so that none is too long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from omps_worker.common.errors import KojiError
from omps_worker.common.model import Build, BuildState, OperatorKind
from omps_worker.koji_client.answers import build_of, is_id, rows_of, target_of

PAGE, PAGES = 50, 1000
"""How many builds are listed at a time (each takes about 8 KB), and how many times at most."""

CONTENT_GENERATOR = "atomic-reactor"
"""What imports OSBS's builds; those of early 2019 have no type and are found only by this."""

_MARGIN = timedelta(seconds=1)
"""Listed on either side of a period, as times travel as text and as floating-point numbers."""

_WANTED = (OperatorKind.PACKAGE_MANIFESTS, OperatorKind.UNKNOWN)


class Listing:
    """Asks with ``ask(method, *arguments, **options)``, which raises KojiError; may be shared by threads."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._packages: dict[str, int] = {}

    def siblings(self, build: Build, since: datetime) -> Iterator[Build]:
        """The operator builds of its component and build target completed at ``since`` or later, the newest first.

        ``build`` is one of them. Bundles and drafts do not count. An unknown target is the same as another
        unknown one, and as no known one. Asks while it is read; raises KojiError.
        """
        if (package := self._package(build.name)) is None:
            return
        after = _hub_time(since - _MARGIN)
        for page in self._pages("-completion_ts,-build_id", packageID=package, completeAfter=after):
            for other in self._operators(page):
                known = other.completed_at is not None and other.completed_at >= since
                if known and other.name == build.name and other.target == build.target and not other.draft:
                    yield other

    def completed(self, since: datetime, until: datetime | None = None) -> list[Build]:
        """The operator builds completed from ``since`` on and before ``until``, in the order of their completion.

        Of a build that was a draft, the time of its promotion counts instead, as far as the hub can tell:
        Koji 1.36 and newer list by it, older ones only among what was completed. Drafts are among
        them, bundles are not. Raises KojiError.
        """
        completed, promoted = (
            {
                f"{event}After": _hub_time(since - _MARGIN),
                **({} if until is None else {f"{event}Before": _hub_time(until + _MARGIN)}),
            }
            for event in ("complete", "promoted")
        )

        def in_period(build: Build) -> bool:
            ready = build.promoted_at or build.completed_at
            return ready is not None and ready >= since and (until is None or ready < until)

        found: dict[Any, Build] = {}

        def look(**filters: Any) -> None:
            for page in self._pages("completion_ts,build_id", **filters):
                new = [row for row in page if not (is_id(row.get("build_id")) and row["build_id"] in found)]
                found.update({build.id: build for build in self._operators(new)})

        look(type="operator-manifests", **completed)
        look(cgID=CONTENT_GENERATOR, **completed)
        try:
            look(type="operator-manifests", **promoted)
        except KojiError as error:
            if not error.lacking:
                raise
        return sorted(filter(in_period, found.values()), key=lambda build: build.order)

    def _package(self, name: str) -> int | None:
        """The id of the component, as older hubs list builds by the id alone; None if Koji does not know it."""
        if name not in self._packages:
            package = self._ask("getPackageID", name)
            if not is_id(package):
                return None
            self._packages[name] = package
        return self._packages[name]

    def _pages(self, order: str, **filters: Any) -> Iterator[list[dict[str, Any]]]:
        """The complete builds that ``listBuilds`` knows; several at a time, so that no answer is too long."""
        for number in range(PAGES):
            options = {"order": order, "limit": PAGE, "offset": number * PAGE}
            rows = self._ask("listBuilds", state=BuildState.COMPLETE.value, queryOpts=options, **filters)
            yield (page := rows_of(rows, "listBuilds"))
            if len(page) < PAGE:
                return
        raise KojiError(f"Koji's hub lists more than {PAGE * PAGES} builds.")

    def _operators(self, rows: Iterable[dict[str, Any]]) -> list[Build]:
        """Those of ``rows`` that carry package manifests, with their targets."""
        found = []
        for row in rows:
            with suppress(KojiError):  # a build that is described oddly stands in nobody's way
                found.append((build_of(row, None), row.get("task_id")))
        found = [(build, task) for build, task in found if build.state == BuildState.COMPLETE and build.kind in _WANTED]
        tasks = [task for _, task in found if is_id(task)]
        answers = self._ask("getTaskInfo", tasks, request=True) if tasks else []
        if not isinstance(answers, list) or len(answers) != len(tasks):
            raise KojiError("Koji's hub was asked for several tasks and describes others.")
        targets = dict(zip(tasks, map(target_of, answers), strict=True))
        return [replace(build, target=targets.get(task)) for build, task in found]


def _hub_time(moment: datetime) -> str:
    # The hub would read a number as a time in its own zone.
    return moment.astimezone(timezone.utc).isoformat(" ")
