# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Koji's file server is well: asked for its directory, and for what it failed to give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from omps_worker.common.errors import KojiError
from omps_worker.configuration.settings.models import KojiSettings, Limits, RegistrySettings, WorkerSettings
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.monitoring.checks import CheckClients
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault

ZIP = operators.zip_of({"otter.package.yaml": "not looked into here\n" * 100})
ZIPS = "GET .*zip"


@pytest.fixture
def koji() -> Iterator[SandboxKoji]:
    with SandboxKoji() as koji:
        for version in ("1.0", "2.0"):
            koji.add_build("otter-operator-container", version, "1", manifests=ZIP)
        yield koji


@pytest.fixture
def builds(koji: SandboxKoji) -> KojiBuilds:
    settings = KojiSettings(hub_url=koji.hub_url, root_url=koji.root_url)
    return KojiBuilds(settings, Limits(), pause=lambda _: None)


@pytest.fixture
def ask(koji: SandboxKoji, builds: KojiBuilds) -> Callable[[], object]:
    """The question that a worker asks of the file server."""
    worker = SimpleNamespace(
        koji=KojiSettings(hub_url=koji.hub_url, root_url=koji.root_url),
        registry=RegistrySettings(url="http://127.0.0.1:9"),
        limits=Limits(),
        ca_bundle=None,
        greenwave=None,
    )
    return CheckClients.of(cast("WorkerSettings", worker), 3.0, builds).questions()["koji_files"]


def fail(builds: KojiBuilds, directory: Path, version: str = "1.0") -> None:
    with pytest.raises(KojiError):
        download(builds, directory, version)


def download(builds: KojiBuilds, directory: Path, version: str = "1.0") -> None:
    builds.download(builds.find(nvr=f"otter-operator-container-{version}-1"), directory / "archive.zip")


@pytest.mark.parametrize(
    "fault", [Fault(ZIPS, status=502, times=None), Fault(ZIPS, drop=True, times=None)], ids=["502", "cut off"]
)
def test_a_server_that_fails_a_download_is_not_well_until_it_gives_that_file(koji, builds, ask, tmp_path, fault):
    ask()
    koji.faults.add(fault)
    ask()
    fail(builds, tmp_path)
    for _ in range(2):
        with pytest.raises(KojiError, match=r"files cannot be downloaded|502 to the download of .*\.zip"):
            ask()
    koji.faults.clear()
    ask()
    koji.faults.add(fault)
    ask()


def test_another_download_that_goes_well_ends_it_too(koji, builds, ask, tmp_path):
    koji.faults.add(Fault("GET .*/1.0/.*zip", status=503, times=None))
    fail(builds, tmp_path)
    with pytest.raises(KojiError):
        ask()
    download(builds, tmp_path, "2.0")
    ask()


def test_a_file_that_is_missing_says_nothing_against_the_server(koji, builds, ask, tmp_path):
    koji.faults.add(Fault(ZIPS, status=404, times=None))
    fail(builds, tmp_path)
    ask()
