# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a result one fact, and the id that it has by that.

The same fact has the same id, however often it is told and by whom: a message that is delivered again after its worker
died, or a result whose confirmation was lost, is counted once by whoever keeps the ids. Two facts never have the same.

=========================================== ===================================================================
every result                                status, registry, organization, repo, version, digest, nvr
published                                   when the registry says that the release was made: one that is made
                                            again after it was deleted is another
unchanged, skipped, failed, retrying,       reason; and the message they came of
deleted
failed, retrying                            error; attempt; how often it was put off; how often, and when last,
                                            the message was sent again
all but published, where somebody asked     the run: each command and each request is one of its own
=========================================== ===================================================================

What an id is made of is hashed, and nothing of it is secret: of an error only its name.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from omps_worker.common.model import Attempt, ManualRequest, Origin, Outcome, Status

NAMESPACE = uuid.UUID("6f1cf5b5-5f0f-5a6c-9d0b-0d4d2f4a7c1e")
"""Result message ids are uuid5 in this namespace."""


def result_id(registry: str, outcome: Outcome, origin: Origin, attempt: Attempt) -> str:
    """The id of the result that tells of ``outcome``; ``registry`` is the base URL of where it came to pass."""
    fact: dict[str, Any] = {
        "status": outcome.status.value,
        "registry": registry,
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "digest": outcome.digest,
        "nvr": outcome.nvr,
    }
    if outcome.status is Status.PUBLISHED:
        fact["released_at"] = outcome.released_at
    else:
        fact |= {"reason": outcome.reason, **_of_origin(origin)}
    if outcome.status in (Status.FAILED, Status.RETRYING):
        fact |= {"error": outcome.error_name, **_of_try(origin, attempt)}
    return str(uuid.uuid5(NAMESPACE, json.dumps(fact, sort_keys=True, separators=(",", ":"))))


def _of_origin(origin: Origin) -> dict[str, Any]:
    return {"run": origin.run} if isinstance(origin, ManualRequest) else {"source": origin.message_id}


def _of_try(origin: Origin, attempt: Attempt) -> dict[str, Any]:
    if isinstance(origin, ManualRequest):
        return {}
    return {
        "attempt": attempt.number,
        "waits": attempt.waits,
        "replayed": origin.replayed,
        "replayed_at": origin.replayed_at,
    }
