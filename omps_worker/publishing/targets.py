# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets of a build, and which of them are still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omps_worker.common.model import Attempt, BuildFacts, Ignored, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.mapping.matching import Mapping
from omps_worker.destinations import versions

NO_RULE = "no_rule"
IGNORED_BY_RULE = "ignored_by_rule"
"""Reasons to ignore a build because it has no targets."""


def targets_of(mapping: Mapping, facts: BuildFacts, what: str, request: PushRequest) -> Sequence[Target] | Ignored:
    """Return the targets that ``request`` names, or else those of the mapping for ``facts``.

    ``what`` names the build or archive in the texts of Ignored.
    """
    if request.catalog is not None:
        # The rule says how to write to the catalog, if it is one of its targets.
        match = mapping.resolve(facts)
        known = [target for target in (match.targets if match else ()) if target.catalog == request.catalog]
        target = known[0] if known else Target(None, catalog=request.catalog)
        repository = request.repository or (target.repository if len(known) == 1 else None)
        return [replace(target, repository=repository)]
    if request.organization is not None:
        return [Target(request.organization, request.repository, request.version or versions.INCREMENT)]
    match = mapping.resolve(facts)
    if match is None:
        return Ignored(NO_RULE, f"no rule of the mapping matches {what}")
    if not match.targets:
        return Ignored(IGNORED_BY_RULE, f"{match.rule_text} ignores {what} on purpose")
    return [
        replace(
            target,
            repository=request.repository or target.repository,
            version=request.version or target.version,
        )
        for target in match.targets
    ]


def still_open(targets: Sequence[Target] | Ignored, attempt: Attempt) -> Sequence[Target] | Ignored:
    """Return the targets that an earlier attempt left open.

    If the mapping was edited in the meantime and no longer names one of them, return all targets. Those that are done
    are then found to be released, and no target is forgotten whose mapping was corrected.
    """
    if isinstance(targets, Ignored) or attempt.targets is None:
        return targets
    still_named = [target for target in targets if target.label in attempt.targets]
    return still_named if {target.label for target in still_named} == set(attempt.targets) else targets
