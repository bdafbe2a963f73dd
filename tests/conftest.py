# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from omps_worker.sandbox.broker import RabbitNode
from tests.support.rabbit import SharedRabbit
from tests.support.site import TestSite

# The same examples on every run and machine, and no deadline, because that would depend on how busy the machine is.
settings.register_profile("ours", deadline=None, derandomize=True)
settings.load_profile("ours")


@pytest.fixture(scope="session")
def shared_rabbit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRabbit]:
    """The RabbitMQ node of this test run. Fails if RabbitMQ is not installed."""
    place = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        place = place.parent
    rabbit = SharedRabbit(place)
    yield rabbit
    rabbit.release()


@pytest.fixture
def amqp_url(shared_rabbit: SharedRabbit) -> str:
    """The URL of an empty virtual host on the node of this test run."""
    return shared_rabbit.new_vhost()


@pytest.fixture
def own_rabbit() -> Iterator[RabbitNode]:
    """A private node, for tests that stop or kill it."""
    with RabbitNode() as node:
        yield node


@pytest.fixture
def site(amqp_url: str, tmp_path: Path) -> Iterator[TestSite]:
    """A sandbox site: a Koji, a registry, a virtual host, and a configuration for them."""
    with TestSite(tmp_path / "site", amqp_url=amqp_url) as made:
        yield made
