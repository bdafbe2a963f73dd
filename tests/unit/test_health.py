# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookout: who is away, for how long nobody knows, and who is back."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

from omps_worker.common.errors import KojiError
from omps_worker.common.work_times import WorkTimes
from omps_worker.monitoring.health import HealthChecks
from omps_worker.monitoring.readiness import STILL_SECONDS, Readiness, restart_reasons, stuck_after
from tests.support.waiting import wait_until


class Part:
    """Something that can be asked, and be away."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def test_nothing_is_said_to_be_well_before_it_was_asked():
    gate = threading.Event()
    with HealthChecks({"koji": gate.wait}, every=0.01, patience=60) as lookout:
        assert lookout.troubles() == {"koji": "has not been checked yet"}
        gate.set()
        wait_until(lambda: lookout.troubles() == {"koji": None})


def test_what_goes_away_and_comes_back_is_told_once_each(caplog):
    koji, registry, returned = Part(), Part(), []
    caplog.set_level(logging.INFO)
    with HealthChecks({"koji": koji.ask, "registry": registry.ask}, back=returned.append, every=0.01) as lookout:
        wait_until(lambda: lookout.troubles() == {"koji": None, "registry": None})
        koji.error = KojiError("Koji's hub\ncannot be reached.")
        wait_until(lambda: lookout.troubles()["koji"] == "Koji's hub cannot be reached.")
        assert lookout.troubles()["registry"] is None
        asked = koji.asked
        wait_until(lambda: koji.asked > asked + 5)
        koji.error = None
        wait_until(lambda: returned == ["koji"])
    assert [record.message for record in caplog.records if "is away" in record.message] == [
        "koji is away: Koji's hub cannot be reached."
    ]
    assert [record.levelname for record in caplog.records if "is back" in record.message] == ["INFO"]


def test_who_does_not_answer_is_away_and_holds_nobody_up():
    gate, other = threading.Event(), Part()
    with HealthChecks({"silent": gate.wait, "other": other.ask}, every=0.01, patience=0.05) as lookout:
        wait_until(lambda: "has not answered for" in (lookout.troubles()["silent"] or ""))
        asked = other.asked
        wait_until(lambda: other.asked > asked + 5)
        assert lookout.troubles()["other"] is None
        gate.set()
        wait_until(lambda: lookout.troubles()["silent"] is None)


def test_an_exception_that_nobody_thought_of_is_trouble_and_not_the_end(caplog):
    part = Part()
    part.error = RuntimeError("secret detail")
    with HealthChecks({"odd": part.ask}, every=0.01) as lookout:
        wait_until(lambda: lookout.troubles()["odd"] == "cannot be checked: RuntimeError")
        part.error = None
        wait_until(lambda: lookout.troubles()["odd"] is None)
    assert "the health check of odd failed unexpectedly" in caplog.text


def test_readiness_names_every_part_in_trouble_and_life_only_what_a_restart_mends():
    vital: list[str] = []
    readiness = Readiness(lambda: vital, {"consumer": lambda: "not consuming"}, lambda: {"koji": None, "registry": "x"})
    assert readiness.live() == []
    assert readiness.ready() == ["consumer: not consuming", "registry: x"]
    assert readiness.troubles() == {"consumer": "not consuming", "koji": None, "registry": "x"}
    vital.append("stuck")
    assert readiness.live() == ["stuck"]
    assert readiness.ready()[0] == "stuck"


def settings(seconds, **catalogs):
    named = {name: SimpleNamespace(timeout=timeout) for name, timeout in catalogs.items()}
    koji, registry = SimpleNamespace(timeout=seconds), SimpleNamespace(timeout=seconds)
    return SimpleNamespace(koji=koji, registry=registry, catalogs=named)


def test_a_loop_that_stands_still_and_work_that_never_ends_are_reasons_to_start_anew():
    assert restart_reasons(STILL_SECONDS, 1500.0, settings(30)) == []
    assert restart_reasons(STILL_SECONDS + 1, 0.0, settings(30)) == ["the main loop has not run for 61 s"]
    assert restart_reasons(0.0, 1501.0, settings(30)) == [
        "a piece of work has been in progress for 1501 s and is stuck"
    ]
    assert restart_reasons(0.0, 1501.0, settings(60)) == [], "what waits longer may take longer"
    assert restart_reasons(0.0, 1501.0, settings(30, community=60, partners=30)) == [], "and so may a catalog"


def test_with_the_defaults_stuck_work_is_noticed_before_the_broker_gives_up_on_the_consumer():
    assert stuck_after(settings(30)) < 30 * 60


def test_the_slowest_of_the_work_under_way_counts():
    works = WorkTimes()
    assert works.longest == 0
    with works.measure():
        first = works.longest
        with works.measure():
            assert works.longest >= first
        assert works.longest >= first
    assert works.longest == 0
