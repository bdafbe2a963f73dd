# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omps_worker.sandbox.broker import RabbitNode
from tests.support.rabbit import SharedRabbit


@pytest.fixture(scope="session")
def shared_rabbit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRabbit]:
    """The RabbitMQ node of this test run; fails where RabbitMQ is not installed."""
    place = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        place = place.parent
    rabbit = SharedRabbit(place)
    yield rabbit
    rabbit.release()


@pytest.fixture
def amqp_url(shared_rabbit: SharedRabbit) -> str:
    """The URL of an empty virtual host on the run's node."""
    return shared_rabbit.new_vhost()


@pytest.fixture
def own_rabbit() -> Iterator[RabbitNode]:
    """A node of the test's own, for tests that stop or kill it."""
    with RabbitNode() as node:
        yield node
