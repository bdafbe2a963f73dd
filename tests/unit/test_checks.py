# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers to the questions of ``omps-worker check``."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from omps_worker.common.errors import KojiError
from omps_worker.common.inconclusive import Inconclusive
from omps_worker.monitoring.checks import Check, answer, check_koji_files


def raising(error):
    def ask():
        raise error

    return Check("part", ask)


def test_a_part_that_is_well_says_something_about_itself():
    assert answer(Check("Koji hub", lambda: "1.35.3")).as_json() == {
        "part": "Koji hub",
        "state": "ok",
        "detail": "1.35.3",
        "error": None,
        "transient": None,
    }


def test_a_doubt_is_no_failure():
    assert answer(raising(Inconclusive("cannot tell"))).state == "warning"


def test_a_failure_says_whether_trying_again_can_help():
    finding = answer(raising(KojiError("away"))).as_json()
    assert (finding["state"], finding["error"], finding["transient"]) == ("failed", "KojiError", True)


def test_a_check_that_breaks_is_a_finding_too(caplog):
    with caplog.at_level(logging.ERROR):
        finding = answer(raising(ZeroDivisionError("hush")))
    assert (finding.state, finding.error.name) == ("failed", "UnexpectedError")
    assert "hush" not in finding.detail
    assert "hush" in caplog.text


@pytest.mark.parametrize(
    ("status", "state"), [(200, "ok"), (404, "warning"), (302, "failed"), (304, "failed"), (502, "failed")]
)
def test_a_file_server_that_redirects_to_nowhere_serves_nothing(status, state):
    client = SimpleNamespace(request=lambda _method, _url: SimpleNamespace(status=status))
    assert (
        answer(Check("Koji files", lambda: check_koji_files("https://koji.example.com/files/", client))).state == state
    )
