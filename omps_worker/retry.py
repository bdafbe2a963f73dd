# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a message once the outcomes of its work are known. Pure: it decides, others do.

The worst outcome decides about the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omps_worker.errors import UnexpectedError, WorkerError
from omps_worker.model import Outcome, Status


@dataclass(frozen=True, slots=True)
class Disposition:
    """``outcomes`` are to be told; then the message is parked if ``parked`` is given; then it is acked."""

    outcomes: tuple[Outcome, ...]
    parked: Parked | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """The message goes to the failed queue.

    ``targets`` are the labels of those that failed; None where the work did not get as far as
    targets. ``error`` is the one that decided.
    """

    error: WorkerError
    targets: tuple[str, ...] | None


def decide(outcomes: Sequence[Outcome]) -> Disposition:
    """Park the message if anything failed; one copy for all targets that did."""
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    if not failed:
        return Disposition(tuple(outcomes))
    targets = None
    if all(outcome.target is not None for outcome in failed):
        targets = tuple(outcome.target.label for outcome in failed if outcome.target is not None)
    errors = [outcome.error or UnexpectedError("The work failed without saying why.") for outcome in failed]
    # Transient before permanent: as long as trying again can help one target, that is what to tell.
    error = next((error for error in errors if error.transient), errors[0])
    return Disposition(tuple(outcomes), Parked(error, targets))
