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
from click.testing import CliRunner

from omps_worker.cli import main
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


def typed(guide):
    """The commands of the guide from the first to the reading of one's own bundle."""
    steps = guide.partition("Set up another terminal:")[2].partition("# Start the worker")[0].splitlines()
    return "\n".join(line.strip() for line in steps if line.startswith("  "))


def sandbox_in(*directory):
    """Run ``omps-worker sandbox`` in this process, where it must not start anything."""
    ended = CliRunner().invoke(main, ["sandbox", "--directory", *map(str, directory)])
    return ended.exit_code, ended.output


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

        walk = subprocess.run(
            ["sh", "-e"], input=typed(text), capture_output=True, text=True, timeout=120, env=environment
        )
        assert walk.returncode == 0, walk.stderr
        assert '"operators.operatorframework.io.bundle.package.v1": "my-operator"' in walk.stdout
        own = {file.name for file in (place / "my-operator").iterdir()}
        assert {file.name for file in (place / "bundle" / "manifests").iterdir()} == own - {"my-operator.package.yaml"}
        (monitored,) = re.findall(r"^  (\(cat .*printf .*)$", text, re.MULTILINE)
        subprocess.run(["sh", "-ec", monitored.replace("9100", "0")], check=True, timeout=60, env=settings)

        message, bundle = re.findall(r"fedora-messaging publish (\S+)", text)
        assert omps_worker("explain", message).returncode == 0
        listed = subprocess.run(
            [place / "rabbitmqctl", "list_vhosts", "-q"], capture_output=True, text=True, timeout=60
        )
        assert "/" in listed.stdout.splitlines(), listed.stderr
        assert f"{place / 'rabbitmqctl'} list_queues" in text
        worker = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "--config", str(place / "monitored.toml"), "run"],
            stderr=subprocess.PIPE,
            text=True,
            env=settings,
        )
        try:
            assert any("consuming" in line for line in worker.stderr)
            for each, outcome in ((message, f"unchanged {nvr}"), (bundle, "published heron-operator-bundle-")):
                published = subprocess.run(
                    [Path(sys.executable).with_name("fedora-messaging"), "publish", each],
                    capture_output=True, text=True, timeout=60, env=settings,
                )  # fmt: skip
                assert published.returncode == 0, published.stderr
                assert any(outcome in line for line in worker.stderr)
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


@pytest.mark.parametrize(
    ("directory", "code", "said"),
    [
        ("", 2, "must not be empty."),
        ("file", 2, "is a file."),
        ("file/below", 1, "file/below: Not a directory."),
        ("taken", 1, "taken/broker: it is not a directory."),
    ],
)
def test_a_directory_that_cannot_be_used_is_named_with_the_reason(directory, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("taken").mkdir()
    Path("taken/broker").touch()
    ended, output = sandbox_in(directory)
    assert (ended, said in output) == (code, True), output
    assert "Errno" not in output


def test_a_directory_in_which_a_sandbox_is_running_is_refused(tmp_path):
    (tmp_path / "broker").mkdir()
    os.mkfifo(tmp_path / "broker" / "holders")
    keeper = os.open(tmp_path / "broker" / "holders", os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended, output = sandbox_in(tmp_path)
    finally:
        os.close(keeper)
    assert (ended, f"A sandbox is running in {tmp_path} already: " in output) == (1, True), output
    assert not (tmp_path / "config.toml").exists()
