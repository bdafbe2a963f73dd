# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker demo`` and ``omps-worker sandbox``: the first things that a newcomer tries."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands_page import examples, fits
from tests.support.waiting import wait_until


@pytest.fixture
def environment(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}


def processes_that_mention(text):
    found = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in command_line.read_bytes():
                found.append(command_line.parent.name)
        except OSError:
            continue
    return found


def test_the_demo_tells_its_story_and_leaves_nothing_behind(environment, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "omps_worker", "demo", "--plain"],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Everything went as expected." in ran.stdout
    assert "UNEXPECTED" not in ran.stdout
    assert "\x1b" not in ran.stdout
    assert fits(examples()["demo"][1], ran.stdout)
    for status in ("published", "unchanged", "skipped", "failed", "ignored"):
        assert f"{status}: " in ran.stdout
    wait_until(lambda: not processes_that_mention(str(tmp_path)), what="the demo's processes to end")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_sandbox_stays_until_it_is_told_to_end_and_says_how_to_use_it(environment, tmp_path):
    place = tmp_path / "site"
    beside = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if each != beside)
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "sandbox", "--directory", str(place)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        guide = []
        for line in sandbox.stdout:
            guide.append(line)
            if "that the mapping excludes" in line:
                break
        text = "".join(guide)
        assert fits(examples()["sandbox"][1], text)
        nvr = re.search(r"omps-worker push (\S+)", text)[1]
        assert f"export PATH={beside}:$PATH" in text
        settings = {**environment, "FEDORA_MESSAGING_CONF": str(place / "config.toml")}

        def omps_worker(*arguments):
            return subprocess.run(
                [sys.executable, "-m", "omps_worker", *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                env=settings,
            )

        assert omps_worker("check").returncode == 0
        assert omps_worker("push", nvr).returncode == 0
        message = re.search(r"fedora-messaging publish (\S+)", text)[1]
        assert omps_worker("explain", message).returncode == 0
        listed = subprocess.run(
            [place / "rabbitmqctl", "list_vhosts", "-q"], capture_output=True, text=True, timeout=60
        )
        assert "/" in listed.stdout.splitlines(), listed.stderr
        assert f"{place / 'rabbitmqctl'} list_queues" in text
        worker = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "run"], stderr=subprocess.PIPE, text=True, env=settings
        )
        try:
            assert any("consuming" in line for line in worker.stderr)
            published = subprocess.run(
                [Path(sys.executable).with_name("fedora-messaging"), "publish", message],
                capture_output=True, text=True, timeout=60, env=settings,
            )  # fmt: skip
            assert published.returncode == 0, published.stderr
            assert any(f"unchanged {nvr}" in line for line in worker.stderr)
        finally:
            worker.terminate()
            assert worker.wait(30) == 0
            worker.stderr.close()
        sandbox.send_signal(signal.SIGTERM)
        assert sandbox.wait(30) == 0
    finally:
        if sandbox.poll() is None:
            sandbox.kill()
        sandbox.wait()
        sandbox.stdout.close()
    wait_until(lambda: not processes_that_mention(str(place)), what="the sandbox's processes to end")
