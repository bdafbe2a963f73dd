# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages go into files of their own, wherever their ids would like to lead."""

from __future__ import annotations

import json

import pytest

from omps_worker.common.errors import StorageError
from omps_worker.messages.export import Export


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_each_message_gets_a_file_that_holds_one_line(tmp_path):
    path, fresh = Export(tmp_path / "new" / "place").write("abc", {"id": "abc"})
    assert fresh
    assert path.parent == tmp_path / "new" / "place"
    assert path.name.startswith("abc-")
    assert path.read_text() == json.dumps({"id": "abc"}) + "\n"


@pytest.mark.parametrize(
    "message_id",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a\x00b", "a\nb", "-rf", "ü" * 400, "x" * 5000, "C:\\x"],
)
def test_no_id_is_a_path(tmp_path, message_id):
    place = tmp_path / "a" / "b"
    path, _ = Export(place).write(message_id, {"id": message_id})
    assert names(place) == [path.name]
    assert names(tmp_path) == ["a"]
    assert path.name.isascii()
    assert len(path.name) < 130
    assert not path.name.startswith(".")


def test_exporting_again_leaves_everything_as_it_is(tmp_path):
    for fresh in (True, False):
        export = Export(tmp_path)
        assert [export.write("same", {"n": n})[1] for n in (1, 2, 2)] == [fresh] * 3
    assert len(names(tmp_path)) == 3, "copies that differ in nothing are still copies"


def test_a_file_that_holds_something_else_is_never_replaced(tmp_path):
    path, _ = Export(tmp_path).write("abc", {})
    path.write_text("mine")
    with pytest.raises(StorageError, match="exists with other content"):
        Export(tmp_path).write("abc", {})
    assert path.read_text() == "mine"
    assert names(tmp_path) == [path.name]


def test_a_link_at_its_place_is_not_followed(tmp_path):
    path, _ = Export(tmp_path / "out").write("abc", {})
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        Export(tmp_path / "out").write("abc", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file") as caught:
        Export(tmp_path / "file" / "below")
    assert not caught.value.transient
