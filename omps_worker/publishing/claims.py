# SPDX-License-Identifier: GPL-3.0-or-later
"""What a message claims about a build, held against what Koji's hub says of it.

Whoever sent the message saw a build complete. A hub that does not know that yet is a replica that
lags behind, and is asked again. But a message may also come from another Koji, whose build has an id
that one of ours has, too: then nothing of ours is meant.
"""

from __future__ import annotations

from datetime import timedelta

from omps_worker.common.errors import KojiBuildMismatch, KojiError, KojiNVRBuildNotFound
from omps_worker.common.model import Build, BuildEvent, BuildState, Ignored
from omps_worker.common.text import one_line
from omps_worker.messages.events import as_draft

NO_LONGER_COMPLETE = "no_longer_complete"
"""Reason to ignore a message: its build was deleted or reset since."""

_MARGIN = timedelta(milliseconds=1)
"""Times travel as text and as floating-point numbers."""


def check_names(event: BuildEvent, build: Build) -> None:
    """Return if the message and the hub mean the same build.

    Raises KojiBuildMismatch, never to be retried, if they do not, and KojiError if the build was
    promoted and the hub does not know that yet: trying again may help.
    """
    if event.build_id is None:
        return
    told = {"id": event.build_id, "nvr": event.nvr, "name": event.name, "version": event.version}
    known = {"id": build.id, "nvr": build.nvr, "name": build.name, "version": build.version}
    different = {key for key, value in told.items() if value is not None and value != known[key]}
    if different == {"nvr"}:
        if build.draft and event.nvr is not None and build.nvr == as_draft(event.nvr, build.id):
            raise KojiError(
                f"A message says that {event.nvr} is no draft, and Koji's hub calls it {build.nvr}: it seems to lag "
                "behind, and is asked again."
            )
        if not build.draft and event.nvr == as_draft(build.nvr, build.id):
            return  # It was promoted since.
    if different:
        named = one_line(event.nvr or event.name or "without a name")
        raise KojiBuildMismatch(
            f"The message means build {event.build_id}, {named}; to Koji's hub, build {build.id} is {build.nvr}. The "
            "message seems to come from another Koji: if several are on the bus, set instance in "
            "[consumer_config.koji]."
        )


def check_state(event: BuildEvent, build: Build) -> Ignored | None:
    """Why the build that a message calls complete is so no longer; None: nothing speaks against it.

    Raises KojiError if the hub does not know yet what the message knows: trying again may help.
    """
    if build.state == BuildState.COMPLETE:
        return None
    state = state_name(build.state)
    if build.state == BuildState.DELETED or _is_news(event, build):
        return Ignored(NO_LONGER_COMPLETE, f"{build.nvr} was complete and is in state {state} now")
    raise KojiError(
        f"A message says that {build.nvr} is complete, and Koji's hub says {state}: it seems to lag behind, and is "
        "asked again."
    )


def unknown(error: KojiNVRBuildNotFound) -> KojiNVRBuildNotFound:
    """``error`` about a build that a message calls complete: the hub may know it later."""
    return KojiNVRBuildNotFound(
        f"{error.message} A message says that it is complete: the hub seems to lag behind, or the message is another "
        "Koji's (see instance).",
        transient=True,
    )


def state_name(state: int) -> str:
    """Koji's name of a state; the number, if it has none."""
    try:
        return BuildState(state).name
    except ValueError:
        return str(state)


def _is_news(event: BuildEvent, build: Build) -> bool:
    """Whether the hub's state came after that of which the message tells, as when a build is reset."""
    return (
        build.state != BuildState.BUILDING
        and event.completed_at is not None
        and build.completed_at is not None
        and build.completed_at >= event.completed_at - _MARGIN
    )
