# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts behind make, where they can be tried without changing the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sources import ROOT
from tests.support.waiting import wait_until

SCRIPTS = ROOT / "scripts"
IN_OWN_TMPDIR = [sys.executable, str(SCRIPTS / "in_own_tmpdir.py")]
SAY_TMPDIR = [sys.executable, "-c", "import os; print(os.environ['TMPDIR'])"]


def test_a_command_gets_a_tmpdir_of_its_own_that_is_gone_afterwards(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = subprocess.run([*IN_OWN_TMPDIR, *SAY_TMPDIR], env=environment, capture_output=True, text=True, check=True)

    assert Path(said.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_tmpdir_that_does_not_exist_does_no_harm():
    environment = {**os.environ, "TMPDIR": "/does/not/exist"}
    said = subprocess.run([*IN_OWN_TMPDIR, *SAY_TMPDIR], env=environment, capture_output=True, text=True, check=True)

    assert not Path(said.stdout.strip()).exists()


def test_the_exit_code_is_the_command_s():
    assert subprocess.run([*IN_OWN_TMPDIR, sys.executable, "-c", "raise SystemExit(75)"]).returncode == 75


def test_a_command_that_is_told_to_stop_is_waited_for(tmp_path):
    program = (
        "import os, pathlib, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('stopped').touch() or os._exit(7))\n"
        "pathlib.Path('ready').touch()\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([*IN_OWN_TMPDIR, sys.executable, "-c", program], cwd=tmp_path) as process:
        wait_until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGTERM)

        assert process.wait(15) == 7
    assert (tmp_path / "stopped").exists()


@pytest.fixture
def bare_path(tmp_path):
    """A PATH on which only the shell's own helpers are, and nothing that the worker needs."""
    for tool in ("bash", "env", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho apt-get was run; exit 99\n")
    for tool in ("id", "apt-get"):
        (tmp_path / tool).chmod(0o755)
    return tmp_path


def test_somebody_who_may_not_install_packages_is_told_which(bare_path):
    refused = subprocess.run(
        [SCRIPTS / "system-packages", "build"], env={"PATH": str(bare_path)}, capture_output=True, text=True
    )

    assert refused.returncode == 1
    assert "sudo apt-get install" in refused.stderr
    assert "gcc libc6-dev libkrb5-dev" in refused.stderr
    assert "apt-get was run" not in refused.stdout + refused.stderr


def test_what_only_tests_run_is_named_apart(bare_path):
    refused = subprocess.run(
        [SCRIPTS / "system-packages", "images"], env={"PATH": str(bare_path)}, capture_output=True, text=True
    )

    # Where the tools are installed in one of the directories that the script adds, it has nothing to say.
    assert refused.returncode in (0, 1)
    assert "apt-get was run" not in refused.stdout + refused.stderr
    if refused.returncode:
        assert "docker-registry skopeo umoci" in refused.stderr


def test_the_demo_needs_no_image_registry():
    levels = dict(re.findall(r"^(demo|test|all)\) .*needs=\((.*?)\)", (SCRIPTS / "setup").read_text(), re.MULTILINE))

    assert levels == {"demo": "broker", "test": "broker images", "all": "broker images"}


def test_python_is_the_one_asked_for_if_it_will_do():
    found = subprocess.run(
        [SCRIPTS / "find-python"], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True
    )

    assert found.stdout.strip() == sys.executable


def test_a_python_that_will_not_do_is_passed_over(tmp_path):
    too_old = tmp_path / "python"
    too_old.write_text("#!/bin/sh\nexit 1\n")
    too_old.chmod(0o755)
    found = subprocess.run(
        [SCRIPTS / "find-python"], env={**os.environ, "PYTHON": str(too_old)}, capture_output=True, text=True
    )

    assert found.returncode == 0
    assert found.stdout.strip() != str(too_old)


@pytest.mark.parametrize(
    "script",
    ["setup", "system-packages", "find-python", "without-services", "check-image", "check-deploy", "check-alerts"],
)
def test_shell_scripts_can_be_run_and_stop_at_the_first_error(script):
    path = SCRIPTS / script

    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", path], check=True)
