# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from omps_worker.broker.queues.bindings import MOST_WARNINGS, UnconfiguredBindings, matches

KOJI = "org.example.buildsys.build.state.change"


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("*", "", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#.c", "a.b.c", True),
        ("#.c", "c", True),
        ("#.c", "a.c.b", False),
        ("a.#.c", "a.c", True),
        ("a.#.c.#", "a.b.c.d", True),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
        ("", "", True),
        ("", "a", False),
        (".".join(["#", "a"] * 20), ".".join("a" * 120), True),
        (".".join(["#", "a"] * 20), ".".join("a" * 119 + "b"), False),
    ],
)
def test_topics_match_as_the_broker_has_it(pattern, key, expected):
    assert matches(pattern, key) is expected


@pytest.fixture
def strangers():
    return UnconfiguredBindings("omps-worker", [("amq.topic", "org.example.buildsys.#"), ("fan", "")])


@pytest.mark.parametrize(
    ("exchange", "key"),
    [("amq.topic", KOJI), ("upstream.of.it", KOJI), ("fan", "whatever"), ("", "omps-worker")],
)
def test_what_comes_by_the_configurations_bindings_is_no_news(strangers, caplog, exchange, key):
    strangers.record(exchange, key)
    assert caplog.text == ""


def test_a_route_that_the_configuration_does_not_have_is_told_once(strangers, caplog):
    for _ in range(3):
        strangers.record("amq.topic", "org.old.state")
    (told,) = caplog.messages
    assert "amq.topic" in told
    assert "org.old.state" in told
    assert "omps-worker unbind" in told


def test_no_number_of_routes_fills_the_log(strangers, caplog):
    for number in range(3 * MOST_WARNINGS):
        strangers.record("amq.topic", f"org.old.{number}")
    assert len(caplog.messages) == MOST_WARNINGS


def test_where_others_bind_the_queue_nothing_is_strange(caplog):
    UnconfiguredBindings("omps-worker", []).record("amq.topic", "org.old.state")
    assert caplog.text == ""
