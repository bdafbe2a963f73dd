# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of builds in Koji: the other builds of a component, and the builds completed in a period.

Only operator builds are listed, bundles included: whether one can be published depends on its targets. The lists are
read from the hub in pages, so that no answer is too long.
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
"""The number of builds per page (each takes about 8 KB), and the largest number of pages."""

CONTENT_GENERATOR = "atomic-reactor"
"""The content generator that imports OSBS's builds. Builds of early 2019 have no type and are found only by this."""

_MARGIN = timedelta(seconds=1)
"""Added to both ends of a period, because times are sent as text and as floating-point numbers."""


class Listing:
    """Lists builds. ``ask(method, *arguments, **options)`` calls the hub and raises KojiError. Threads may share it."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._packages: dict[str, int] = {}

    def siblings(self, build: Build, since: datetime) -> Iterator[Build]:
        """Yield the operator builds of the same component and build target completed since ``since``, newest first.

        A build completed exactly at ``since`` is included, and so is ``build`` itself if it is in the period. Drafts
        are left out. An unknown target equals another unknown target, and no known one. The hub is asked
        while the result is read. Raises KojiError.
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
        """Return the operator builds completed at or after ``since`` and before ``until``, in order of completion.

        For a build that was a draft, the time of its promotion counts instead, as far as the hub supports it: Koji 1.36
        and newer can list by promotion time; older hubs find a promoted build only if it was completed in the period.
        Drafts and bundles are included. Raises KojiError.
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

        def collect(**filters: Any) -> None:
            for page in self._pages("completion_ts,build_id", **filters):
                new = [row for row in page if not (is_id(row.get("build_id")) and row["build_id"] in found)]
                found.update({build.id: build for build in self._operators(new)})

        collect(type="operator-manifests", **completed)
        collect(cgID=CONTENT_GENERATOR, **completed)
        try:
            collect(type="operator-manifests", **promoted)
        except KojiError as error:
            if not error.lacking:
                raise
        return sorted(filter(in_period, found.values()), key=lambda build: build.order)

    def _package(self, name: str) -> int | None:
        """Return the id of the component, or None if Koji does not know it. Older hubs list builds only by this id."""
        if name not in self._packages:
            package = self._ask("getPackageID", name)
            if not is_id(package):
                return None
            self._packages[name] = package
        return self._packages[name]

    def _pages(self, order: str, **filters: Any) -> Iterator[list[dict[str, Any]]]:
        """Yield the complete builds from ``listBuilds`` in pages, so that no answer is too long."""
        for number in range(PAGES):
            options = {"order": order, "limit": PAGE, "offset": number * PAGE}
            rows = self._ask("listBuilds", state=BuildState.COMPLETE.value, queryOpts=options, **filters)
            yield (page := rows_of(rows, "listBuilds"))
            if len(page) < PAGE:
                return
        raise KojiError(f"Koji's hub lists more than {PAGE * PAGES} builds.")

    def _operators(self, rows: Iterable[dict[str, Any]]) -> list[Build]:
        """Return the operator builds of ``rows``, with their targets."""
        builds = []
        for row in rows:
            with suppress(KojiError):  # a build with an unusable description does not block the others
                builds.append((build_of(row, None), row.get("task_id")))
        builds = [
            (build, task)
            for build, task in builds
            if build.state == BuildState.COMPLETE and build.kind is not OperatorKind.NONE
        ]
        tasks = [task for _, task in builds if is_id(task)]
        answers = self._ask("getTaskInfo", tasks, request=True) if tasks else []
        if not isinstance(answers, list) or len(answers) != len(tasks):
            raise KojiError("Koji's hub was asked for several tasks, but its answer describes other tasks.")
        targets = dict(zip(tasks, map(target_of, answers), strict=True))
        return [replace(build, target=targets.get(task)) for build, task in builds]


def _hub_time(moment: datetime) -> str:
    # The hub reads a number as a time in its own time zone.
    return moment.astimezone(timezone.utc).isoformat(" ")
