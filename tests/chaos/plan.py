# SPDX-License-Identifier: GPL-3.0-or-later
"""How bad a storm gets, and what is said about it afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """How bad it gets. Times are in seconds, chances from 0 to 1."""

    seed: int = 1
    builds: int = 40
    """How many builds of package manifests share ``packages``."""
    packages: int = 4
    operators: int = 8
    """How many builds of package manifests go to the catalog, too."""
    bundles: int = 12
    """How many bundle builds share ``packages`` others; they go to the catalog alone."""
    workers: int = 2
    repeated: float = 0.2
    kill_every: float = 1.0
    most_kills: int = 8
    """With fewer than nine, no message can be taken for one that kills workers."""
    nodes: int = 1
    """Of how many nodes the broker is a cluster."""
    broker_restarts: int = 0
    """How often a node of it is stopped or killed, and started again."""
    lost_answers: float = 0.05
    refused: float = 0.05
    image_faults: float = 0.7
    """How many faults of the image registry there are for each update of the catalog."""
    outages: int = 2
    superseded: str = "publish"
    patience: float = 120.0
    """How long after the last message the workers may take to settle everything."""


@dataclass
class Report:
    """What happened, and what was wrong with the outcome."""

    plan: Plan
    messages: int = 0
    kills: int = 0
    broker_restarts: int = 0
    lost_answers: int = 0
    refused: int = 0
    image_faults: Counter[str] = field(default_factory=Counter)
    """How many faults of the image registry came to pass, by kind."""
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    releases: int = 0
    catalog_packages: int = 0
    catalog_bundles: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            f"seed {plan.seed}: {plan.builds} builds of {plan.packages} packages, "
            f"{plan.operators} for the catalog, too, {plan.bundles} bundle builds, "
            f"{plan.workers} workers, {self.messages} messages, superseded: {plan.superseded}",
            f"kills {self.kills}, restarts of one of {plan.nodes} broker node(s) {self.broker_restarts}, "
            f"answers lost {self.lost_answers}, requests refused {self.refused}, {self.seconds:.0f} s",
            f"faults of the image registry {dict(sorted(self.image_faults.items()))}",
            f"releases {self.releases}, packages of the catalog {self.catalog_packages} with {self.catalog_bundles} "
            f"bundles, results {dict(sorted(self.results.items()))}",
        ]
        return "\n".join([*lines, *(f"WRONG: {fault}" for fault in self.faults)])
