# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests in which workers and brokers are killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.books import Books, Crew, crew_of, impatient
from tests.support.bus import Bus
from tests.support.proxy import Proxy
from tests.support.rabbit import SharedRabbit
from tests.support.site import TestSite


@pytest.fixture
def quick(site: TestSite) -> TestSite:
    """The site, with short delays and timeouts."""
    return impatient(site)


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[TestSite]:
    """A quick site with a private broker, which may be stopped."""
    with TestSite(tmp_path / "lonely") as made:
        yield impatient(made)


@pytest.fixture
def crew(quick: TestSite) -> Iterator[Crew]:
    """The workers of the quick site."""
    with crew_of(quick) as crew:
        yield crew


@pytest.fixture
def books(quick: TestSite) -> Books:
    """The books of the quick site: all its results, to compare with its releases."""
    return Books(quick)


@pytest.fixture
def proxy(shared_rabbit: SharedRabbit) -> Iterator[Proxy]:
    """A proxy to the node of this test run, which can slow down or cut connections."""
    with Proxy(shared_rabbit.node.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, bus: Bus, shared_rabbit: SharedRabbit) -> str:
    """The URL of the test's bus through the proxy."""
    return bus.url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
