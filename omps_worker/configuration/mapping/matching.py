# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping: which build goes where.

``mapping.file.load`` reads and checks the YAML file. A Mapping is queried twice about a build: with ``possible`` before
Koji is queried, with the facts in the message, thousands of times a second; and with ``resolve`` afterwards. The first
rule that matches decides.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from omps_worker.common.errors import Fault
from omps_worker.common.model import BuildFacts, Target
from omps_worker.common.text import counted, one_line
from omps_worker.configuration.mapping.globs import matcher
from omps_worker.configuration.mapping.holds import HoldsAndPauses
from omps_worker.configuration.mapping.tables import MappingTable, RuleTable
from omps_worker.configuration.settings.tables import Location

FACTS = ("nvr", "owner", "target")
"""The facts that rules can match on in addition to the component."""

CACHED_COMPONENTS = 8192
_CACHED_LENGTH = 256


class Verdict(enum.Enum):
    """The mapping's decision about a build before Koji is queried."""

    NO_RULE = "no rule"
    """No rule that publishes can match, whatever Koji answers, and no rule that ignores is known to match."""
    IGNORED = "ignored"
    """A rule that ignores on purpose matches, whatever Koji answers."""
    POSSIBLE = "possible"
    """A rule that publishes matches, or may match after Koji was queried."""


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that decides about a build."""

    rule: int
    """Its index in the file, from 0."""
    rule_text: str
    """The rule as text for people: ``rules[2] (component: etcd-*)``."""
    superseded: str
    """What to do with a build if a newer one exists: ``skip`` or ``publish``."""
    targets: tuple[Target, ...]
    """Where the build goes; empty if the rule ignores it on purpose."""


class _Rule:
    """A rule with its globs compiled."""

    def __init__(self, index: int, table: RuleTable, line: int | None) -> None:
        conditions = table.match.conditions()
        self.conditions = conditions
        self.place = f"rules[{index}] (line {line})" if line else f"rules[{index}]"
        text = ", ".join(f"{fact}: {' | '.join(globs)}" for fact, globs in conditions.items()) or "matches all"
        self.match = Match(
            index,
            f"rules[{index}] ({text})",
            table.superseded,
            tuple(replace(target.as_target(), superseded=table.superseded) for target in table.publish),
        )
        self.component = matcher(conditions["component"]) if "component" in conditions else None
        self.others = tuple((fact, matcher(conditions[fact])) for fact in FACTS if fact in conditions)

    def matches(self, facts: BuildFacts) -> bool | None:
        """Return whether all conditions except the component's are met; None if that depends on an unknown fact."""
        known: bool | None = True
        for fact, matches in self.others:
            value = getattr(facts, fact)
            if value is None:
                known = None
            elif not matches(value):
                return False
        return known

    def why_not(self, facts: BuildFacts) -> Iterator[str]:
        """Yield each condition that ``facts`` do not meet, as a phrase."""
        for fact, globs in self.conditions.items():
            value, wanted = getattr(facts, fact), " | ".join(globs)
            if value is None:
                yield f"{fact} is not known, but must be {wanted}"
            elif not matcher(globs)(value):
                yield f"{fact} {value} is not {wanted}"


class Mapping:
    """The rules of one mapping file. Immutable, and safe to use from several threads."""

    def __init__(
        self,
        table: MappingTable,
        warnings: Sequence[Fault] = (),
        line_of: Callable[[Location], int | None] = lambda _: None,
    ) -> None:
        """Create the mapping. ``line_of`` returns the line in the file of a rule or of an entry of a list, if it is
        known.
        """
        self.warnings = tuple(warnings)
        """Entries that are valid but probably a mistake."""
        self._rules = tuple(_Rule(index, rule, line_of(("rules", index))) for index, rule in enumerate(table.rules))
        self.holds_and_pauses = HoldsAndPauses(table.hold, table.pause, line_of)
        """The entries of ``hold`` and ``pause``."""
        targets = [target for rule in table.rules for target in rule.publish]
        self.organizations = frozenset(each.organization for each in targets if each.organization is not None)
        """The organizations that any rule publishes to."""
        self.catalogs = frozenset(each.catalog for each in targets if each.catalog is not None)
        """The catalogs that any rule publishes to."""
        self._cached = lru_cache(CACHED_COMPONENTS)(self._candidates)

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def summary(self) -> str:
        """The number of entries: ``3 rules, 1 held, 0 paused``."""
        return f"{counted(len(self), 'rule')}, {self.holds_and_pauses.summary}"

    def holds(self, nvr: str) -> bool:
        """Return whether only ``push --held`` may publish the build."""
        return self.holds_and_pauses.holding(nvr) is not None

    def pauses(self, place: str) -> bool:
        """Return whether builds for an organization, or for ``catalog:NAME``, must wait."""
        return self.holds_and_pauses.pausing(place) is not None

    def possible(self, facts: BuildFacts) -> Verdict:
        """Return the verdict on a build of which only ``facts`` are known so far; a fact that is None may match."""
        verdict, candidates = self._candidates_for(facts.component)
        if verdict is not None:
            return verdict
        for rule in candidates:
            matches = rule.matches(facts)
            if matches is False:
                continue
            if rule.match.targets:
                return Verdict.POSSIBLE
            if matches and (facts.component is not None or rule.component is None):
                return Verdict.IGNORED
        return Verdict.NO_RULE

    def possible_targets(self, facts: BuildFacts) -> tuple[Target, ...]:
        """Return where a build may go of which only ``facts`` are known so far; a fact that is None may match."""
        _, candidates = self._candidates_for(facts.component)
        found: list[Target] = []
        for rule in candidates:
            matches = rule.matches(facts)
            if matches is not False:
                found += rule.match.targets
            if matches and (facts.component is not None or rule.component is None):
                break
        return tuple(found)

    def resolve(self, facts: BuildFacts) -> Match | None:
        """Return the first rule that matches a build that Koji described; an unknown fact matches no glob."""
        _, candidates = self._candidates_for(facts.component)
        for rule in candidates:
            if facts.component is None and rule.component is not None:
                continue
            if rule.matches(facts):
                return rule.match
        return None

    def why_not(self, facts: BuildFacts) -> list[str]:
        """Return a sentence about each rule before the deciding one: its line, and why it does not match."""
        sentences = []
        for rule in self._rules:
            reasons = list(rule.why_not(facts))
            if not reasons:
                break
            sentences.append(one_line(f"{rule.place}: {'; '.join(reasons)}"))
        return sentences

    def _candidates_for(self, component: str | None) -> tuple[Verdict | None, tuple[_Rule, ...]]:
        if component is not None and len(component) > _CACHED_LENGTH:
            return self._candidates(component)
        return self._cached(component)

    def _candidates(self, component: str | None) -> tuple[Verdict | None, tuple[_Rule, ...]]:
        """Return the rules that may match builds of ``component``, and the verdict if it depends on nothing else."""
        candidates = []
        for rule in self._rules:
            if component is not None and rule.component is not None and not rule.component(component):
                continue
            candidates.append(rule)
            if not rule.others and (component is not None or rule.component is None):
                break
        if not candidates:
            return Verdict.NO_RULE, ()
        first = candidates[0]
        if not first.others and (component is not None or first.component is None):
            return (Verdict.POSSIBLE if first.match.targets else Verdict.IGNORED), (first,)
        return None, tuple(candidates)


class MappingHolder(Protocol):
    """An object with the current mapping; see ``mapping.file.MappingFile``."""

    @property
    def current(self) -> Mapping:
        """The last valid mapping."""
        ...
