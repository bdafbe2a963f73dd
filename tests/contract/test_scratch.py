# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary directories go with their process, or at the next start; nobody else's are touched."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from omps_worker.common.files import scratch
from omps_worker.common.files.scratch import PREFIX, ScratchDirectory, sweep


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_behind(place, name: str = "killed"):
    directory = place / f"{PREFIX}{name}"
    (directory / "manifests/deep").mkdir(parents=True)
    (directory / "manifests/deep/csv.yaml").write_text("a: b")
    return directory


def test_what_a_killed_process_left_is_removed_and_what_lives_is_not(place):
    gone, living = left_behind(place), ScratchDirectory()
    (living.path / "archive.zip").write_bytes(b"zip")
    assert sweep() == 1
    assert not gone.exists()
    assert (living.path / "archive.zip").exists()
    living.remove()
    assert list(place.iterdir()) == []
    assert sweep() == 0


def test_it_belongs_to_its_process_until_that_is_killed(place):
    script = (
        "import sys; from omps_worker.common.files.scratch import ScratchDirectory; "
        "d = ScratchDirectory(); print(d.path, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip
    with owner:
        path = owner.stdout.readline().strip()
        assert sweep() == 0
        owner.kill()
    assert sweep() == 1
    assert not os.path.lexists(path)


@pytest.mark.parametrize("name", ["omps-worker-0", "omps-worker-demo-x", "omps-worker-abc", "somebody-elses"])
def test_other_names_are_left_alone(place, name):
    (place / name).mkdir()
    assert sweep() == 0
    assert (place / name).exists()


def test_links_are_not_followed_at_the_top_or_inside(place):
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (left_behind(place) / "link").symlink_to(elsewhere)
    assert sweep() == 1
    assert (elsewhere / "kept").read_text() == "kept"
    assert (place / f"{PREFIX}link").is_symlink()


def test_files_and_pipes_of_that_name_hold_nothing_up(place):
    (place / f"{PREFIX}file").write_text("")
    os.mkfifo(place / f"{PREFIX}pipe")
    assert sweep() == 0


def test_another_users_directory_is_left_alone(place, monkeypatch):
    left_behind(place)
    monkeypatch.setattr(scratch.os, "geteuid", lambda: os.getuid() + 1)
    assert sweep() == 0


def test_what_is_swept_while_it_is_made_is_made_anew(place, monkeypatch):
    flock, swept = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(True)
            (only,) = place.iterdir()
            only.rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(scratch.fcntl, "flock", late)
    with ScratchDirectory() as path:
        assert path.is_dir()
        assert sweep() == 0
        assert path.is_dir()


def test_without_locks_on_its_file_system_it_works_and_nothing_is_swept(place, monkeypatch):
    def unsupported(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(scratch.fcntl, "flock", unsupported)
    with ScratchDirectory() as path:
        assert sweep() == 0
        assert path.is_dir()
    assert not path.exists()


def test_a_place_that_is_gone_is_no_matter(place):
    place.rmdir()
    assert sweep() == 0
