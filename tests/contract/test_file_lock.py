# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PackageLock promises, of the one in a process and the one on a host; and what only the latter can do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from omps_worker.common.errors import PackageBusy, SettingsError, StorageError
from omps_worker.common.locks import file as file_lock
from omps_worker.common.locks import package_lock as process_lock
from omps_worker.common.locks.file import FileLock, directory_trouble, state_directory
from omps_worker.common.locks.package_lock import ProcessLock
from tests.support.sources import ROOT
from tests.support.waiting import wait_until

ETCD = ("https://registry.example.com", "community", "etcd")
OTHER = ("https://registry.example.com", "community", "lantern")
CATALOG = "quay.example.com/community/catalog:latest"


@pytest.fixture(autouse=True)
def quick_registries(monkeypatch):
    for module in (file_lock, process_lock):
        monkeypatch.setattr(module, "STORING_SECONDS", 0.1)


@pytest.fixture(params=["process", "files"])
def make(request, tmp_path):
    """Makes the lock under test."""

    def made(push_seconds=1.0, **options):
        if request.param == "process":
            return ProcessLock(push_seconds, **options)
        return FileLock(tmp_path, push_seconds, **options)

    return made


def held(lock, package=ETCD):
    with lock.hold(*package):
        return True


def test_only_one_holds_a_package(make):
    lock, inside, most = make(), [], []

    def work(_):
        with lock.hold(*ETCD):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(40)))
    assert most == [1] * 40


def test_packages_do_not_wait_for_each_other(make):
    lock = make(patience=0.0)
    with lock.hold(*ETCD):
        assert held(lock, OTHER)


def test_who_waits_in_vain_gives_up(make):
    lock = make(patience=0.1)
    with (
        ThreadPoolExecutor() as threads,
        lock.hold(*ETCD),
        pytest.raises(PackageBusy, match="community/etcd") as caught,
    ):
        threads.submit(held, lock).result(10)
    assert caught.value.transient


def test_a_package_is_free_again_after_an_error(make):
    lock = make(patience=0.0)
    with pytest.raises(ZeroDivisionError), lock.hold(*ETCD):
        raise ZeroDivisionError
    assert held(lock)


def test_a_push_has_its_time(make):
    with make(push_seconds=7.0).hold(*ETCD) as hold:
        assert 6.0 < hold.begin_push() - time.monotonic() <= 7.0


def test_a_push_whose_outcome_is_known_holds_up_nobody(make):
    lock = make(push_seconds=60.0, patience=0.0)
    with lock.hold(*ETCD) as hold:
        hold.begin_push()
        hold.end_push()
    assert held(lock)


def test_a_push_whose_outcome_is_unknown_is_waited_for(make):
    lock = make(push_seconds=0.3)
    with lock.hold(*ETCD) as hold:
        until = hold.begin_push()
    assert held(lock)
    assert time.monotonic() >= until + 0.1
    assert held(make(patience=0.0))


def test_what_cannot_be_outwaited_is_not_waited_for(make):
    lock = make(push_seconds=60.0, patience=0.1)
    with lock.hold(*ETCD) as hold:
        hold.begin_push()
    with pytest.raises(PackageBusy):
        held(lock)


def test_who_takes_too_long_to_get_ready_does_not_push(make):
    with make(push_seconds=0.02).hold(*ETCD) as hold:
        latest = time.monotonic() + 0.05
        wait_until(lambda: time.monotonic() > latest)
        with pytest.raises(PackageBusy, match="nothing was pushed") as caught:
            hold.begin_push()
    assert caught.value.counts


HOLDER = """
import sys, threading
from pathlib import Path
from omps_worker.common.locks.file import FileLock
with FileLock(Path(sys.argv[1]), float(sys.argv[2])).hold("https://registry.example.com", "community", "etcd") as hold:
    if sys.argv[3] == "pushing":
        hold.begin_push()
    print("holding", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the package, and is killed at the end."""
    processes = []

    def start(push_seconds=1.0, state="looking"):
        command = [sys.executable, "-c", HOLDER, str(tmp_path), str(push_seconds), state]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_other_processes_wait(other_process, tmp_path):
    other_process()
    with pytest.raises(PackageBusy):
        held(FileLock(tmp_path, patience=0.05))


def test_who_dies_lets_go_at_once(other_process, tmp_path):
    process = other_process()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert held(FileLock(tmp_path, patience=0.05))


def test_the_mark_outlives_who_dies_in_the_middle_of_a_push(other_process, tmp_path):
    process = other_process(push_seconds=0.6, state="pushing")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(PackageBusy):
        held(FileLock(tmp_path, 0.6, patience=0.0))
    assert held(FileLock(tmp_path, 0.6))


def test_nothing_is_left_in_the_directory(tmp_path):
    lock = FileLock(tmp_path)
    with lock.hold(*ETCD) as hold:
        hold.begin_push()
        hold.end_push()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "soon", "nan", "1e300", "9" * 400])
def test_a_mark_that_says_nothing_sensible_stands_as_long_as_one_may(tmp_path, text):
    with FileLock(tmp_path, 0.2).hold(*ETCD) as hold:
        hold.begin_push()
    (mark,) = tmp_path.iterdir()
    mark.write_text(text)
    start = time.monotonic()
    assert held(FileLock(tmp_path, 0.2))
    assert 0.25 < time.monotonic() - start < 5


@pytest.mark.parametrize("trap", ["pipe", "link", "dangling link"])
def test_what_lies_in_place_of_a_mark_holds_nobody_up_for_ever_and_is_not_followed(tmp_path, trap):
    kept = tmp_path.parent / f"{tmp_path.name}-kept"
    with FileLock(tmp_path, 0.2).hold(*ETCD) as hold:
        hold.begin_push()
    (mark,) = tmp_path.iterdir()
    mark.unlink()
    if trap == "pipe":
        os.mkfifo(mark)
    else:
        if trap == "link":
            kept.write_text("0.0")
        mark.symlink_to(kept)
    start = time.monotonic()
    with FileLock(tmp_path, 0.2).hold(*ETCD) as hold:
        assert 0.25 < time.monotonic() - start < 5, "what it says is not known"
        hold.begin_push()
        assert (mark.is_symlink(), mark.is_file()) == (False, True)
        hold.end_push()
    assert list(tmp_path.iterdir()) == []
    assert (kept.exists(), not kept.exists() or kept.read_text() == "0.0") == (trap == "link", True)


def test_a_trap_that_is_laid_while_the_package_is_held_is_replaced(tmp_path):
    with FileLock(tmp_path, 5).hold(*ETCD) as hold:
        hold.begin_push()
        (mark,) = tmp_path.glob("*.pushing")
        mark.unlink()
        os.mkfifo(mark)
        hold.begin_push()
        assert mark.is_file()
        hold.end_push()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o722])
@pytest.mark.parametrize("variable", ["OMPS_WORKER_STATE_DIRECTORY", "STATE_DIRECTORY"])
def test_a_named_directory_that_others_can_write_to_is_refused(tmp_path, variable, mode):
    tmp_path.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}"):
        state_directory({variable: str(tmp_path)})
    assert state_directory({variable: str(tmp_path / "own")}).stat().st_mode & 0o777 == 0o700


def test_a_named_directory_of_somebody_else_is_refused_and_one_behind_a_link_is_not(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    assert state_directory({"STATE_DIRECTORY": str(tmp_path / "link")}) == tmp_path / "link"
    ours = os.geteuid()
    monkeypatch.setattr(file_lock.os, "geteuid", lambda: ours + 1)
    with pytest.raises(SettingsError, match="not a private directory"):
        state_directory({"STATE_DIRECTORY": str(tmp_path)})


def test_a_directory_that_cannot_be_had_is_a_transient_failure_without_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    lock = FileLock(tmp_path / "file" / "gone")
    with pytest.raises(StorageError) as caught:
        held(lock)
    assert caught.value.transient
    assert str(tmp_path) not in caught.value.message


def test_processes_take_turns(tmp_path):
    """One that takes the package again and again does not keep another from it."""
    ours, theirs, stop = FileLock(tmp_path), FileLock(tmp_path), threading.Event()

    def again_and_again():
        while not stop.is_set():
            held(ours)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            threads.submit(again_and_again)
        try:
            for _ in range(5):
                assert held(theirs)
        finally:
            stop.set()


def test_the_directory_is_the_one_that_is_named(tmp_path):
    environment = {"OMPS_WORKER_STATE_DIRECTORY": str(tmp_path / "a" / "b"), "STATE_DIRECTORY": "/nowhere"}
    assert state_directory(environment) == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert state_directory({"STATE_DIRECTORY": f"{tmp_path / 'first'}:{tmp_path / 'second'}"}) == tmp_path / "first"


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_what_is_named_and_is_no_directory_is_called_that(tmp_path, make):
    make(tmp_path / "place")
    with pytest.raises(SettingsError, match=r"OMPS_WORKER_STATE_DIRECTORY is not a directory"):
        state_directory({"OMPS_WORKER_STATE_DIRECTORY": str(tmp_path / "place")})


def test_without_a_name_it_is_one_of_ours_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock.tempfile, "tempdir", str(tmp_path))
    found = state_directory({})
    assert found == state_directory({}) == tmp_path / f"omps-worker-{os.geteuid()}"
    assert found.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_one_among_the_temporary_files_that_others_can_write_to_is_refused(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(file_lock.tempfile, "tempdir", str(tmp_path))
    directory = tmp_path / f"omps-worker-{os.geteuid()}"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        directory.symlink_to(tmp_path / "elsewhere")
    elif trap == "open":
        directory.mkdir()
        directory.chmod(0o777)
    else:
        directory.write_text("")
    with pytest.raises(SettingsError, match=r"omps-worker-\d+"):
        state_directory({})


def test_a_foreign_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock.tempfile, "tempdir", str(tmp_path))
    ours = os.geteuid()
    (tmp_path / f"omps-worker-{ours + 1}").mkdir(mode=0o700)
    monkeypatch.setattr(file_lock.os, "geteuid", lambda: ours + 1)
    with pytest.raises(SettingsError, match="not a private directory"):
        state_directory({})


def test_a_catalog_is_locked_by_the_name_of_its_image(make):
    lock = make(patience=0.05)
    with lock.hold_catalog(CATALOG, 1.0):
        assert held(lock), "a package is something else"
        with pytest.raises(PackageBusy, match=f"Another push to {CATALOG} was under way"), catalog_of(lock):
            pass
        with lock.hold_catalog(CATALOG.replace(":latest", ":v2"), 1.0):
            pass


def test_the_files_of_a_catalog_are_named_by_its_image_as_those_of_packages_are_by_theirs(tmp_path):
    for lockable, name in ((lambda lock: lock.hold(*ETCD), "/".join(ETCD)), (catalog_of, CATALOG)):
        with lockable(FileLock(tmp_path)):
            assert [each.stem for each in tmp_path.iterdir()] == [sha256(name.encode()).hexdigest()[:32]]


def catalog_of(lock, push_seconds=1.0):
    return lock.hold_catalog(CATALOG, push_seconds)


def test_the_mark_of_an_update_lasts_as_long_as_a_call_to_its_own_registry(make):
    lock = make(push_seconds=30, patience=5)
    with catalog_of(lock, 0.2) as hold:
        assert hold.begin_push() <= time.monotonic() + 0.2
    begun = time.monotonic()
    with catalog_of(lock, 0.2):
        assert 0.2 <= time.monotonic() - begun < 3
    with catalog_of(lock, 40) as hold:
        assert 35 < hold.begin_push() - time.monotonic() <= 40
        hold.end_push()


def test_after_a_directory_was_removed_each_waits_as_long_as_its_own_pushes_may_take(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    lock = FileLock(directory, 0.1)
    shutil.rmtree(directory)
    begun = time.monotonic()
    assert held(lock)
    with catalog_of(lock, 0.6):
        assert 0.65 <= time.monotonic() - begun < 5


def test_a_directory_that_was_removed_is_made_again(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    lock = FileLock(directory, 0.1)
    assert held(lock)
    shutil.rmtree(directory)
    begun = time.monotonic()
    assert held(lock, OTHER)
    assert time.monotonic() - begun >= 0.2, "a push from before may be under way"
    assert directory.stat().st_mode & 0o777 == 0o700
    begun = time.monotonic()
    assert held(lock)
    assert time.monotonic() - begun < 0.2


def test_who_held_a_package_in_a_directory_that_was_removed_does_not_push(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    lock = FileLock(directory, 0.1)
    with lock.hold(*ETCD) as hold:
        shutil.rmtree(directory)
        assert held(lock, OTHER)
        with pytest.raises(PackageBusy, match="removed before the push"):
            hold.begin_push()


def test_one_that_cannot_be_made_again_is_named(tmp_path):
    directory = tmp_path / "there" / "state"
    directory.mkdir(parents=True, mode=0o700)
    lock = FileLock(directory, 0.1)
    assert directory_trouble(directory) is None
    shutil.rmtree(directory.parent)
    directory.parent.write_text("a file")
    with pytest.raises(StorageError):
        held(lock)
    assert str(directory) in (directory_trouble(directory) or "")
