# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that compare what a message says about a build with what Koji's hub says.

The sender of the message saw the build complete. If the hub does not know that yet, it is a replica that lags behind,
and is asked again. A message can also come from another Koji instance in which the same id belongs to another build.
Such a message is about no build of the configured Koji.
"""

from __future__ import annotations

from datetime import timedelta

from omps_worker.common.errors import KojiBuildMismatch, KojiError, KojiNVRBuildNotFound
from omps_worker.common.model import Build, BuildEvent, BuildState, Ignored
from omps_worker.common.text import one_line
from omps_worker.messages.events import as_draft

NO_LONGER_COMPLETE = "no_longer_complete"
"""Reason to ignore a message: its build has been deleted or reset since."""

_MARGIN = timedelta(milliseconds=1)
"""Tolerance when two times are compared: they are sent as text and as floating-point numbers."""


def check_names(event: BuildEvent, build: Build) -> None:
    """Return if the message and the hub mean the same build.

    Raises KojiBuildMismatch, a permanent failure, if they do not. Raises KojiError if the build was promoted and the
    hub does not know that yet: trying again may help.
    """
    if event.build_id is None:
        return
    claimed = {"id": event.build_id, "nvr": event.nvr, "name": event.name, "version": event.version}
    known = {"id": build.id, "nvr": build.nvr, "name": build.name, "version": build.version}
    different = {key for key, value in claimed.items() if value is not None and value != known[key]}
    if different == {"nvr"}:
        if build.draft and event.nvr is not None and build.nvr == as_draft(event.nvr, build.id):
            raise KojiError(
                f"A message says that {event.nvr} is no draft, but Koji's hub calls it {build.nvr}. The hub seems to "
                "lag behind and is asked again."
            )
        if not build.draft and event.nvr == as_draft(build.nvr, build.id):
            return  # It has been promoted since.
    if different:
        named = one_line(event.nvr or event.name or "without a name")
        raise KojiBuildMismatch(
            f"The message is about build {event.build_id}, {named}, but for Koji's hub build {build.id} is "
            f"{build.nvr}. The message seems to come from another Koji instance. If several instances use the bus, set "
            "instance in [consumer_config.koji]."
        )


def check_state(event: BuildEvent, build: Build) -> Ignored | None:
    """Return why a build that the message calls complete is no longer complete, or None if it still is.

    Raises KojiError if the hub does not know yet that the build is complete: trying again may help.
    """
    if build.state == BuildState.COMPLETE:
        return None
    state = state_name(build.state)
    if build.state == BuildState.DELETED or _is_newer_state(event, build):
        return Ignored(NO_LONGER_COMPLETE, f"{build.nvr} was complete and is now in state {state}")
    raise KojiError(
        f"A message says that {build.nvr} is complete, but Koji's hub says {state}. The hub seems to lag behind and is "
        "asked again."
    )


def not_known_yet(error: KojiNVRBuildNotFound) -> KojiNVRBuildNotFound:
    """Return ``error`` as a transient one: a message calls the build complete, so the hub may know it later."""
    return KojiNVRBuildNotFound(
        f"{error.message} A message says that it is complete. The hub seems to lag behind, or the message comes from "
        "another Koji instance (see the key instance).",
        transient=True,
    )


def state_name(state: int) -> str:
    """Return Koji's name of a state, or the number as text if the state has no name."""
    try:
        return BuildState(state).name
    except ValueError:
        return str(state)


def _is_newer_state(event: BuildEvent, build: Build) -> bool:
    """Return whether the hub's state is newer than the one in the message, for example after a reset."""
    return (
        build.state != BuildState.BUILDING
        and event.completed_at is not None
        and build.completed_at is not None
        and build.completed_at >= event.completed_at - _MARGIN
    )
