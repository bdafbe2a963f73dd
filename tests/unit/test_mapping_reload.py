# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping file is edited while the worker runs."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from omps_worker.common.errors import MappingError
from omps_worker.common.model import BuildFacts
from omps_worker.configuration.mapping.file import MappingFile

RULE = "- match: {{component: {}}}\n  publish: [{{organization: community}}]\n"


def rules(*components: str) -> str:
    """A mapping that publishes ``components``."""
    return "version: 1\nrules:\n" + "".join(RULE.format(component) for component in components)


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.seconds


class Edited:
    """A mapping file on disk and its holder."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "mapping.yaml"
        self.path.write_text(rules("a"))
        self.clock = Clock()
        self.file = MappingFile(self.path, ["community"], clock=self.clock)

    def look(self) -> bool:
        """A second passes, and the file is looked at."""
        self.clock.seconds += 1.01
        return self.file.reload_if_changed()

    def settle(self) -> list[bool]:
        """The file is looked at until its change has settled."""
        return [self.look() for _ in range(3)]

    def publishes(self, component: str) -> bool:
        """Whether ``component`` is published now."""
        return self.file.current.resolve(BuildFacts(component)) is not None


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    return Edited(tmp_path)


def test_a_mapping_that_is_broken_from_the_start_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(MappingError):
        MappingFile(tmp_path / "mapping.yaml", ["community"])


def test_a_file_that_does_not_change_is_not_read_again(edited: Edited) -> None:
    before = edited.file.current
    assert edited.settle() == [False, False, False]
    assert edited.file.current is before


def test_a_change_counts_once_it_has_settled(edited: Edited) -> None:
    edited.path.write_text(rules("a", "b"))
    assert edited.look() is False
    assert not edited.publishes("b")
    assert edited.look() is True
    assert edited.publishes("b")
    assert edited.look() is False


def test_a_file_that_is_still_being_written_is_left_alone(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    whole = rules("a", "b", "c")
    for length in range(0, len(whole), 9):
        edited.path.write_text(whole[:length])
        assert edited.look() is False
        assert edited.publishes("a")
    edited.path.write_text(whole)
    assert any(edited.settle())
    assert edited.publishes("c")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_file_is_looked_at_once_a_second_at_most(edited: Edited) -> None:
    edited.path.write_text(rules("b"))
    for _ in range(100):
        edited.clock.seconds += 0.001
        assert edited.file.reload_if_changed() is False
    assert edited.publishes("a")


def test_a_broken_edit_keeps_the_last_good_one_and_is_told_once(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    edited.path.write_text(rules("b") + "  oops: 1\n")
    for _ in range(5):
        assert edited.look() is False
    assert edited.publishes("a")
    assert edited.file.last_error is not None
    assert "rules[0].oops" in edited.file.last_error
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "rules[0].oops" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_each_broken_edit_is_told(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("[", "version: 1"):
        edited.path.write_text(text)
        edited.settle()
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_mended_edit_counts_and_is_told(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.path.write_text("[")
    edited.settle()
    edited.path.write_text(rules("b"))
    with caplog.at_level(logging.INFO):
        assert True in edited.settle()
    assert edited.publishes("b")
    assert edited.file.last_error is None
    assert "read again" in caplog.text


def test_what_is_kept_back_is_told_with_each_reading(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.path.write_text(f"hold: [a-1-*]\npause: [community]\n{rules('a')}")
    with caplog.at_level(logging.INFO):
        assert True in edited.settle()
    assert "the mapping was read: 1 rule, 1 held, 1 paused" in caplog.text
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("pause[0] 'community' (line 2) pauses community")


def test_an_editor_that_replaces_the_file_is_noticed(edited: Edited) -> None:
    new = edited.path.with_suffix(".new")
    new.write_text(rules("b"))
    new.rename(edited.path)
    assert True in edited.settle()
    assert edited.publishes("b")


def test_a_config_map_that_swaps_its_link_is_noticed(tmp_path: Path) -> None:
    for version, component in (("1", "a"), ("2", "b")):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "mapping.yaml").write_text(rules(component))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "mapping.yaml").symlink_to("..data/mapping.yaml")
    clock = Clock()
    file = MappingFile(tmp_path / "mapping.yaml", ["community"], clock=clock)
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    looked = []
    for _ in range(3):
        clock.seconds += 2
        looked.append(file.reload_if_changed())
    assert looked == [False, True, False]
    assert file.current.resolve(BuildFacts("b")) is not None


def test_a_file_that_is_missing_for_a_moment_is_no_fault(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.path.unlink()
    assert edited.look() is False
    edited.path.write_text(rules("b"))
    assert True in edited.settle()
    assert edited.publishes("b")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_that_stays_away_is_told_once_and_missed_no_more_when_it_is_back(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    content = edited.path.read_text()
    edited.path.unlink()
    edited.settle()
    edited.settle()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no such file" in (edited.file.last_error or "")
    edited.path.write_text(content)
    edited.settle()
    assert edited.file.last_error is None
    assert edited.publishes("a")


def test_a_signal_reads_the_file_at_once(edited: Edited) -> None:
    edited.path.write_text(rules("b"))
    assert edited.file.reload() is True
    assert edited.publishes("b")
    assert edited.settle() == [False, False, False]


def test_a_signal_never_raises_and_keeps_the_last_good_one(edited: Edited) -> None:
    edited.path.write_text("[")
    assert edited.file.reload() is False
    assert edited.publishes("a")
    assert edited.file.last_error is not None


def test_doubts_about_an_edit_are_told(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.path.write_text("version: 1\nrules: []\n")
    edited.settle()
    assert "every build is ignored" in caplog.text


def test_threads_see_one_whole_mapping_or_the_next(edited: Edited) -> None:
    torn = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            current = edited.file.current
            known = {component for component in ("a", "b", "c", "d") if current.resolve(BuildFacts(component))}
            if known not in ({"a"}, {"a", "b"}, {"c", "d"}):
                torn.append(known)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(8):
            edited.path.write_text(rules("a", "b") if turn % 2 else rules("c", "d"))
            edited.file.reload()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert torn == []
