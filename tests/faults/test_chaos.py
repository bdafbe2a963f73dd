# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form of ``make chaos``: a small storm after which the books must be right."""

from __future__ import annotations

import pytest

from tests.chaos.storm import Plan, Storm

PLANS = [Plan(seed=7, builds=25), Plan(seed=11, builds=25, superseded="skip")]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.superseded)
def test_after_a_small_storm_every_build_is_released_once_and_everything_is_accounted_for(plan, tmp_path):
    report = Storm(tmp_path / "site", plan).rage()
    assert report.faults == [], str(report)
    assert report.kills > 0
