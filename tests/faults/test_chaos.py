# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form of ``make chaos``: a small storm after which the books must be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.plan import Plan
from tests.chaos.storm import Storm

SMALL = Plan(builds=12, operators=4, bundles=6, most_kills=5)
PLANS = [replace(SMALL, seed=7), replace(SMALL, seed=11, superseded="skip")]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.superseded)
def test_after_a_small_storm_every_build_is_at_each_target_once_and_everything_is_accounted_for(plan, tmp_path):
    report = Storm(tmp_path / "site", plan).rage()
    assert report.faults == [], str(report)
    assert report.kills > 0
    assert sum(report.image_faults.values()) > 0
    assert report.catalog_bundles > SMALL.bundles
