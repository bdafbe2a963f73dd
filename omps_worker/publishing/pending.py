# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that may still publish a package: those that wait for a retry, and those that are parked.

They are shown before releases are deleted, because each of them could publish the same content again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omps_worker.common.model import BuildEvent, Target
from omps_worker.common.text import counted
from omps_worker.configuration.mapping.matching import Mapping

SHOWN = 20
"""The number of pending messages that the text lists."""


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that may still publish a package.

    ``certain`` is True if the mapping or the message's header names the package. Otherwise they name only the
    organization or the catalog, and the packageName is not known before the build is unpacked.
    """

    id: str
    queue: str
    nvr: str | None
    parked: bool
    certain: bool

    def as_json(self) -> dict[str, Any]:
        """Return the message's element of ``pending`` in the output of ``delete --json``."""
        return {
            "id": self.id,
            "queue": self.queue,
            "nvr": self.nvr,
            "parked": self.parked,
            "certain": self.certain,
        }


def concerns(event: BuildEvent | None, labels: Sequence[str] | None, package: Target, mapping: Mapping) -> bool | None:
    """Return whether a message about ``event`` may still publish ``package``, a place with a repository.

    True: the message is for this package. None: it may be, because only the place is known. False: it is not.
    ``labels`` are the targets that the message's header names; without a header (None) the mapping decides. A message
    that cannot be read (``event`` None) publishes nothing, and neither does one whose build the mapping holds.
    """
    if event is None or (event.nvr is not None and mapping.holds(event.nvr)):
        return False
    if labels is None:
        labels = [target.label for target in mapping.possible_targets(event.facts)]
    if package.label in labels:
        return True
    return None if package.place in labels else False


def warning_lines(pending: Sequence[PendingMessage], package: Target) -> Iterator[str]:
    """Yield the lines to show before ``package`` is deleted; none if nothing is pending."""
    if not pending:
        return
    yield f"{counted(len(pending), 'message')} may publish {package.label} again:"
    for message in pending[:SHOWN]:
        certain = "" if message.certain else f" (for {package.place}; its packageName is not known yet)"
        state = "parked" if message.parked else "waits"
        yield f"  {message.nvr or 'a build'}: {state} in {message.queue}, ID {message.id}{certain}"
    if len(pending) > SHOWN:
        yield f"  … and {len(pending) - SHOWN} more; --json lists all of them"
    if any(message.parked for message in pending):
        yield "Parked messages publish it when they are replayed: `omps-worker failed discard ID` prevents that."
    if any(not message.parked for message in pending):
        yield "Waiting messages publish it at their next attempt: `hold` with the NVR in the mapping prevents that."
