# SPDX-License-Identifier: GPL-3.0-or-later
"""What both services tell systemd of themselves, as processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.monitoring import free_port
from tests.support.site import edit
from tests.support.systemd import listening


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    with listening(str(tmp_path / "notify")) as made:
        for name, value in made.environment(1.0).items():
            monkeypatch.setenv(name, value)
        yield made


def test_a_worker_tells_that_it_has_begun_and_lives_and_stops(site, systemd):
    with site.running():
        systemd.wait_for("READY=1")
        systemd.wait_for_a_sign()
        systemd.wait_for_a_sign()
    assert systemd.heard[0] == "READY=1"
    assert systemd.heard[-1] == "STOPPING=1"
    assert systemd.heard.count("READY=1") == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_so_does_the_rest_api_with_one_voice(site, systemd, processes):
    edit(
        site.config, "[consumer_config.koji]", f"[consumer_config.api]\nport = {free_port()}\n\n[consumer_config.koji]"
    )
    command = [sys.executable, "-m", "omps_worker", "--config", site.config, "api", "--workers", processes]
    with (site.directory / "api.log").open("w") as log:
        api = subprocess.Popen(command, stderr=log)
    try:
        systemd.wait_for("READY=1")
        systemd.wait_for_a_sign()
        api.send_signal(signal.SIGTERM)
        assert api.wait(60) == 0, (site.directory / "api.log").read_text()
    finally:
        api.kill()
        api.wait()
    assert systemd.heard[-1] == "STOPPING=1"
    assert systemd.heard.count("READY=1") == 1
