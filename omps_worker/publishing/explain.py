# SPDX-License-Identifier: GPL-3.0-or-later
"""Explanations of what would become of a build, step by step, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.errors import WorkerError
from omps_worker.common.model import Attempt, Build, BuildEvent, Ignored, Outcome, Status
from omps_worker.common.push_request import PushRequest
from omps_worker.common.text import one_line
from omps_worker.configuration.mapping.matching import Mapping as Rules
from omps_worker.configuration.mapping.matching import MappingHolder, Verdict
from omps_worker.messages.catalog_texts import catalog_of, channel_lines, plan_text
from omps_worker.messages.reasons import in_words
from omps_worker.messages.reporting import full_reason_of, reason_of, warnings_of
from omps_worker.publishing import claims
from omps_worker.publishing.holds import with_pauses
from omps_worker.publishing.processor import Builds, Processor
from omps_worker.publishing.targets import IGNORED_BY_RULE, NO_RULE

PUBLISH, IGNORE, SKIP, FAIL = "publish", "ignore", "skip", "fail"
"""The decisions. A build whose content is already released is still ``publish``; its target is then ``unchanged``."""

RULES_TOLD = 30
"""The number of rules that did not decide and are listed in the text; the JSON form lists all of them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision about one build, with the reasons for it."""

    decision: str
    reason: str | None = None
    rule: int | None = None
    """The index of the rule that decided, from 0."""
    build: Build | None = None
    why_not: Sequence[str] = ()
    """Why each rule before the deciding one did not decide; all rules if none decided."""
    outcomes: Sequence[Outcome] = ()
    without_pauses: Sequence[Outcome] = ()
    """The same outcomes as they would be if the mapping paused nothing."""
    paused: Mapping[str, str] = field(default_factory=dict)
    """The entry of ``pause`` in the mapping that makes builds wait, by organization or ``catalog:NAME``."""
    error: WorkerError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the output of ``explain --json``."""
        build = self.build
        return {
            "decision": self.decision,
            "reason": self.reason,
            "rule": self.rule,
            "other_rules": list(self.why_not),
            "build": {
                "id": build.id,
                "nvr": build.nvr,
                "name": build.name,
                "version": build.version,
                "release": build.release,
                "owner": build.owner,
                "target": build.target,
                "kind": build.kind.value,
            }
            if build
            else None,
            "targets": [
                {
                    "organization": outcome.organization,
                    "catalog": catalog_of(outcome),
                    "repository": outcome.repo,
                    "version": outcome.version,
                    "status": outcome.status.value,
                    "digest": outcome.digest,
                    "reason": outcome.reason,
                    "superseded_by": outcome.superseded_by,
                    "held_by": outcome.held_by,
                    "paused_by": self.paused.get(outcome.place),
                    "warnings": list(outcome.warnings),
                    "files": list(outcome.extracted_files or ()),
                    "error": {"name": outcome.error.name, "message": outcome.error.message} if outcome.error else None,
                }
                for outcome in self.outcomes
                if outcome.place is not None
            ],
        }


def explain(event: BuildEvent | Ignored, mapping: MappingHolder, builds: Builds, processor: Processor) -> Explanation:
    """Return what would become of the build that ``event`` names."""
    if isinstance(event, Ignored):
        return Explanation(IGNORE, f"{event.reason}: {event.detail}" if event.detail else event.reason)
    verdict = mapping.current.possible(event.facts)
    if event.name is not None and verdict is Verdict.NO_RULE:
        return Explanation(IGNORE, NO_RULE, why_not=mapping.current.why_not(event.facts))
    if event.name is not None and verdict is Verdict.IGNORED:
        rule_match = mapping.current.resolve(event.facts)
        reason = f"{IGNORED_BY_RULE}: {rule_match.rule_text} ignores it on purpose" if rule_match else IGNORED_BY_RULE
        index = rule_match.rule if rule_match else None
        return Explanation(IGNORE, reason, index, why_not=mapping.current.why_not(event.facts))
    try:
        build = builds.find(build_id=event.build_id, nvr=event.nvr)
        claims.check_names(event, build)
        # Only a message claims that the build is complete; a bare NVR claims nothing.
        outdated = claims.check_state(event, build) if event.name is not None else None
    except WorkerError as error:
        return Explanation(FAIL, f"{error.name}: {error.message}", error=error.as_value())
    match = mapping.current.resolve(build.facts)
    rule = match.rule if match else None
    why_not = mapping.current.why_not(build.facts)
    planned = outdated or processor.process_build(build, Attempt(), PushRequest(dry_run=True))
    if isinstance(planned, Ignored):
        return Explanation(IGNORE, f"{planned.reason}: {planned.detail}", rule, build, why_not)
    outcomes = with_pauses(mapping.current, planned, waits=True)
    decision, why, fault = _worst(outcomes)
    paused = _pauses(mapping.current, outcomes)
    return Explanation(decision, why, rule, build, why_not, outcomes, planned, paused, fault)


def _pauses(mapping: Rules, outcomes: Sequence[Outcome]) -> dict[str, str]:
    places = dict.fromkeys(outcome.place for outcome in outcomes if outcome.place)
    entries = ((place, mapping.holds_and_pauses.pausing(place)) for place in places)
    return {place: entry for place, entry in entries if entry is not None}


def _worst(outcomes: Sequence[Outcome]) -> tuple[str, str | None, WorkerError | None]:
    for outcome in outcomes:
        if outcome.status is Status.FAILED and outcome.error:
            return FAIL, f"{outcome.error.name}: {outcome.error.message}", outcome.error
    for outcome in outcomes:
        if outcome.status is Status.SKIPPED:
            return SKIP, reason_of(outcome), None
    for outcome in outcomes:
        if outcome.status is Status.RETRYING:
            return PUBLISH, outcome.reason, None
    return PUBLISH, None, None


def as_text(explanation: Explanation) -> str:
    """Return the explanation as text for a terminal."""
    lines = []
    build = explanation.build
    if build:
        lines.append(f"build     {build.nvr} (id {build.id}, {build.kind.value})")
        facts = [f"component {build.name}", f"owner {build.owner or 'unknown'}", f"target {build.target or 'unknown'}"]
        lines.append(f"          {', '.join(facts)}")
    if explanation.rule is not None:
        lines.append(f"rule      rules[{explanation.rule}]")
    sentences = list(explanation.why_not[:RULES_TOLD])
    if len(explanation.why_not) > RULES_TOLD:
        sentences.append(f"and {len(explanation.why_not) - RULES_TOLD} more; --json lists all of them")
    lines += [f"{'no match' if index == 0 else '':9} {sentence}" for index, sentence in enumerate(sentences)]
    waits = any(outcome.status is Status.RETRYING for outcome in explanation.outcomes)
    reason = "it would wait (paused)" if waits and explanation.decision == PUBLISH else explanation.reason
    lines.append(f"decision  {explanation.decision}{_where(explanation)}" + (f": {in_words(reason)}" if reason else ""))
    for outcome, planned in zip(explanation.outcomes, explanation.without_pauses, strict=True):
        if outcome.target is None:
            continue
        waits_for = "would wait; without the pause: " if outcome.status is Status.RETRYING else ""
        place = f"{outcome.place}/{outcome.repo or '(packageName)'}"
        lines.append(f"target    {place}: {waits_for}{_prospect(planned)}")
        if planned.catalog is not None:
            lines += [
                f"{'channels' if index == 0 else '':9} {line}"
                for index, line in enumerate(channel_lines(planned.catalog))
            ]
    for index, (place, entry) in enumerate(explanation.paused.items()):
        lines.append(f"{'paused' if index == 0 else '':9} {place}, by {entry} of the mapping")
    for index, warning in enumerate(warnings_of(explanation.outcomes)):
        lines.append(f"{'warnings' if index == 0 else '':9} {warning}")
    packed = next((outcome for outcome in explanation.outcomes if outcome.digest), None)
    if packed:
        lines += _digests(explanation.outcomes)
        lines += [
            f"{'files' if index == 0 else '':9} {name}" for index, name in enumerate(packed.extracted_files or ())
        ]
    return "\n".join(one_line(line) for line in lines)


def _digests(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the digest that is compared at each target; it says which one if there are several."""
    known = [outcome for outcome in outcomes if outcome.digest]
    for index, outcome in enumerate(known):
        whose = f"{outcome.place}/{outcome.repo or '(packageName)'}: " if len(outcomes) > 1 else ""
        yield f"{'digest' if index == 0 else '':9} {whose}{outcome.digest}"


def _where(explanation: Explanation) -> str:
    """Return at which targets a build fails or is skipped, if it is not at all of them."""
    status = {FAIL: Status.FAILED, SKIP: Status.SKIPPED}.get(explanation.decision)
    places = [outcome.place for outcome in explanation.outcomes if outcome.place and outcome.status is status]
    return f" at {', '.join(places)}" if 0 < len(places) < len(explanation.outcomes) else ""


def _prospect(planned: Outcome) -> str:
    """Return what would become of a build at one target."""
    if planned.error:
        return f"{planned.error.name}: {planned.error.message}"
    if planned.catalog is not None and planned.status in (Status.PUBLISHED, Status.UNCHANGED):
        return plan_text(planned) or ""
    if planned.status is Status.PUBLISHED:
        return f"would become release {planned.version}"
    if planned.status is Status.UNCHANGED:
        return f"this content is already release {planned.version}"
    reason = full_reason_of(planned)
    return f"{planned.status}: {reason}" if reason else planned.status.value
