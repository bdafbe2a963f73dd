# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release consists of: built twice it is the same, and the sdist is the whole source."""

from __future__ import annotations

import configparser
import os
import shutil
import tarfile
import zipfile
from email.parser import Parser

import pytest

import omps_worker
from scripts import dist
from tests.support.sources import ROOT, relative, text_files

EPOCH = 1_750_000_000
VERSION = omps_worker.__version__


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel."""
    return dist.build(tmp_path_factory.mktemp("dist"), EPOCH)


def test_somebody_else_s_build_of_the_same_source_has_the_same_bytes(built, tmp_path):
    source = tmp_path / "elsewhere"
    dist.copy(ROOT, source)
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.stat().st_mode & 0o100 else 0o600)
        os.utime(path, (1, 1))
    (source / "omps_worker" / "__pycache__").mkdir()
    (source / "omps_worker" / "__pycache__" / "left.cpython-310.pyc").write_bytes(b"left over")
    before = os.umask(0o077)
    try:
        again = dist.build(tmp_path / "dist", EPOCH, source)
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in built]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_another_time_makes_another_sdist_so_that_the_time_is_in_it(built, tmp_path):
    made = tmp_path / "made.tar.gz"
    dist.repack(built[0], made, EPOCH + 1)
    assert made.read_bytes() != built[0].read_bytes()


def test_the_sdist_is_the_whole_source(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        owners = {(member.uid, member.uname, member.mtime) for member in archive}
    assert {relative(path) for path in text_files()} - names == set()
    assert "LICENSE" in names
    assert {name for name in names if "__pycache__" in name or name.endswith(".pyc")} == set()
    assert owners == {(0, "", EPOCH)}


def test_scripts_in_the_sdist_can_be_run(built):
    with tarfile.open(built[0]) as archive:
        modes = {member.name.partition("/")[2]: member.mode for member in archive if member.isfile()}
    assert {modes[name] for name in ("scripts/setup", "scripts/check-image", ".ci/run")} == {0o755}
    assert modes["README.md"] == 0o644


def test_the_wheel_says_what_setup_cfg_says(built):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    with zipfile.ZipFile(built[1]) as archive:
        about = Parser().parsestr(archive.read(f"omps_worker-{VERSION}.dist-info/METADATA").decode())
        tags = archive.read(f"omps_worker-{VERSION}.dist-info/WHEEL").decode()
    assert (about["Name"], about["Version"]) == ("omps-worker", VERSION)
    assert about["Requires-Python"] == setup["options"]["python_requires"]
    assert setup["metadata"]["license"] in (about["License"], about["License-Expression"])
    assert about["Description-Content-Type"] == "text/markdown"
    assert set(about.get_all("Provides-Extra")) == set(setup["options.extras_require"])
    always = [need for need in about.get_all("Requires-Dist") if "extra ==" not in need]
    wanted = [line for line in setup["options"]["install_requires"].splitlines() if line and not line.startswith("#")]
    assert len(always) == len(wanted)
    assert "Tag: py3-none-any" in tags


def test_without_git_the_time_must_be_given(monkeypatch, tmp_path):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert dist.epoch() == 17
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    with pytest.raises(SystemExit, match="SOURCE_DATE_EPOCH"):
        dist.epoch()
