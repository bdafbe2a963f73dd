# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed, and what the container image is made from."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support.sources import PACKAGE, ROOT, modules


def _admitted_to_the_image() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is left out unless it is named"
    return [line[1:] for line in rules if line.startswith("!")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that the files admitted to the image build, without a network."""
    source = tmp_path_factory.mktemp("source")
    for name in _admitted_to_the_image():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", target, source], check=True, capture_output=True, timeout=120)
    (built,) = target.iterdir()
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_it_holds_every_module_and_nothing_but_the_package(wheel):
    python = {name for name in wheel.namelist() if name.endswith(".py")}

    assert python == {str(path.relative_to(ROOT)) for path in modules().values()}
    assert {name.split("/")[0] for name in wheel.namelist()} == {PACKAGE, _info(wheel)}


def test_it_brings_the_licence_and_the_readme(wheel):
    about = wheel.read(f"{_info(wheel)}/METADATA").decode()

    assert fnmatch.filter(wheel.namelist(), f"{_info(wheel)}/*LICENSE")
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in about


def test_it_registers_the_command_and_the_result_schemas(wheel):
    entries = wheel.read(f"{_info(wheel)}/entry_points.txt").decode()

    assert "omps-worker = omps_worker.cli:main" in entries
    assert "omps.ReleasePublishedV1 = omps_worker.results:ReleasePublishedV1" in entries


def _info(wheel) -> str:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    return info
