# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from omps_worker.common.model import BuildEvent, Target
from omps_worker.configuration.mapping.matching import Mapping, MappingTable
from omps_worker.publishing.pending import SHOWN, PendingMessage, concerns, warning_lines

MAPPING = Mapping(
    MappingTable.model_validate(
        {
            "version": 1,
            "hold": ["held-*"],
            "rules": [
                {"match": {"component": "exact"}, "publish": [{"organization": "org", "repository": "lantern"}]},
                {"match": {"component": "any", "owner": "jdoe"}, "publish": [{"organization": "org"}]},
                {"match": {"component": "any"}, "publish": [{"organization": "elsewhere"}]},
                {"match": {"component": "held"}, "publish": [{"organization": "org"}]},
            ],
        }
    )
)


@pytest.mark.parametrize(
    ("nvr", "labels", "meant"),
    [
        ("exact-1-1", None, True),
        ("any-1-1", None, None),
        ("stranger-1-1", None, False),
        ("held-1-1", None, False),
        ("held-1-1", ["org/lantern"], False),
        ("any-1-1", ["elsewhere"], False),
        ("stranger-1-1", ["org/lantern", "org"], True),
        ("exact-1-1", ["org"], None),
    ],
)
def test_a_message_concerns_a_package_by_its_header_or_else_by_the_mapping(nvr, labels, meant):
    assert concerns(BuildEvent(nvr=nvr, name=nvr.partition("-")[0]), labels, Target("org", "lantern"), MAPPING) is meant


def test_what_cannot_be_read_publishes_nothing():
    assert concerns(None, ["org/lantern"], Target("org", "lantern"), MAPPING) is False


def test_people_are_shown_a_bounded_number_and_only_the_advice_that_fits():
    many = [PendingMessage(f"id-{number}", "q.failed", None, True, True) for number in range(SHOWN + 5)]
    package = Target("org", "lantern")
    lines = list(warning_lines(many, package))
    assert lines[0] == f"{SHOWN + 5} messages may publish org/lantern again:"
    assert "… and 5 more" in lines[SHOWN + 1]
    assert len(lines) == SHOWN + 3
    assert "failed discard" in lines[-1]
    assert list(warning_lines([], package)) == []


def test_what_is_not_certain_is_said_of_the_organization_or_of_the_catalog():
    waiting = [PendingMessage("id", "q.retry.1s", "any-1-1", False, False)]
    for package in (Target("org", "lantern"), Target(None, "lantern", catalog="community")):
        heading, line, _ = warning_lines(waiting, package)
        assert heading == f"1 message may publish {package.label} again:"
        assert line.endswith(f"(for {package.place}; its packageName is not known yet)")
