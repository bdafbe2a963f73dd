# SPDX-License-Identifier: GPL-3.0-or-later
"""Result ids: the id of a result message is derived from the fact that it reports.

The same fact always has the same id, however often it is reported and by whichever worker. A monitor that keeps the ids
therefore counts a fact once, for example when a message is redelivered after its worker died, or when the confirmation
of a result was lost. Two different facts never have the same id.

=========================================== ===================================================================
status                                      what the id is made of
=========================================== ===================================================================
all                                         status, registry, organization, repo, version, digest, nvr
of a catalog                                the name of the catalog, and its image if that is known; of a bundle that
                                            is in it, the bundle's image, not version and digest: those are of its
                                            package, which other bundles change before a message is redelivered
published                                   the time at which, according to the registry, the release was made: a
                                            release that is made again after a deletion is a different fact
unchanged, skipped, failed, retrying,       the reason, and the id of the source message
deleted
failed, retrying                            the error's name; the attempt; how often the work was postponed;
                                            how often, and when last, the message was replayed
all but published, for manual work          the run, instead of the message: each command and each request is a run
=========================================== ===================================================================

The parts are hashed. None of them is secret: of an error only the name is used.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from omps_worker.common.model import Attempt, ManualRequest, Origin, Outcome, Status

NAMESPACE = uuid.UUID("6f1cf5b5-5f0f-5a6c-9d0b-0d4d2f4a7c1e")
"""The uuid5 namespace of result message ids."""


def result_id(registry: str, outcome: Outcome, origin: Origin, attempt: Attempt) -> str:
    """Return the id of the result that reports ``outcome``; ``registry`` is the base URL of the registry."""
    fact: dict[str, Any] = {
        "status": outcome.status.value,
        "registry": registry,
        "organization": outcome.organization,
        "repo": outcome.repo,
        "version": outcome.version,
        "digest": outcome.digest,
        "nvr": outcome.nvr,
    }
    if outcome.catalog_name is not None:
        fact |= {"catalog": outcome.catalog_name, "image": outcome.catalog.image if outcome.catalog else None}
        if outcome.catalog is not None and outcome.catalog.added is not None:
            fact |= {"version": None, "digest": None, "bundle": outcome.catalog.added}
    if outcome.status is Status.PUBLISHED:
        fact["released_at"] = outcome.released_at
    else:
        fact |= {"reason": outcome.reason, **_origin_parts(origin)}
    if outcome.status in (Status.FAILED, Status.RETRYING):
        fact |= {"error": outcome.error_name, **_attempt_parts(origin, attempt)}
    return str(uuid.uuid5(NAMESPACE, json.dumps(fact, sort_keys=True, separators=(",", ":"))))


def _origin_parts(origin: Origin) -> dict[str, Any]:
    return {"run": origin.run} if isinstance(origin, ManualRequest) else {"source": origin.message_id}


def _attempt_parts(origin: Origin, attempt: Attempt) -> dict[str, Any]:
    if isinstance(origin, ManualRequest):
        return {}
    return {
        "attempt": attempt.number,
        "waits": attempt.waits,
        "replayed": origin.replayed,
        "replayed_at": origin.replayed_at,
    }
