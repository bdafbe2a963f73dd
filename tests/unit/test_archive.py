# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tracemalloc
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omps_worker.common.errors import OMPSUploadedFileError
from omps_worker.manifests import archive
from omps_worker.manifests.file_tree import FilesInMemory, FilesOnDisk, FileTree
from omps_worker.sandbox.operators import nested_operator, zip_of


@dataclass(frozen=True)
class Limits:
    archive_bytes: int = 10 * 2**20
    uncompressed_bytes: int = 20 * 2**20
    files: int = 2000


class Place:
    """Where an archive is unpacked, with something beside it that must stay as it is.

    ``in_memory``: up to how many bytes are unpacked in memory instead.
    """

    def __init__(self, path: Path, in_memory: int = 0) -> None:
        self.in_memory = in_memory
        self.tree: FileTree | None = None
        self.archive = path / "archive.zip"
        self.directory = path / "inside" / "tree"
        self.directory.mkdir(parents=True)
        (path / "inside" / "neighbour").write_text("untouched")

    def extract(self, content: bytes, limits: Limits = Limits()) -> tuple[str, ...]:
        return self.unpack(content, limits).files

    def unpack(self, content: bytes, limits: Limits = Limits()) -> FileTree:
        self.archive.write_bytes(content)
        self.tree = archive.unpack(self.archive, self.directory, limits, self.in_memory)
        return self.tree

    def refuse(self, content: bytes, limits: Limits = Limits()) -> str:
        with pytest.raises(OMPSUploadedFileError) as caught:
            self.extract(content, limits)
        assert not caught.value.transient
        assert str(self.directory.parent) not in caught.value.message
        return caught.value.message

    def files(self) -> dict[str, bytes]:
        """What was unpacked, wherever it is."""
        root = self.directory
        on_disk = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        if not isinstance(self.tree, FilesInMemory):
            return on_disk
        assert not on_disk
        return {path: self.tree.read(path) for path in self.tree.files}

    def is_intact(self) -> bool:
        return (
            sorted(path.name for path in self.directory.parent.iterdir()) == ["neighbour", "tree"]
            and (self.directory.parent / "neighbour").read_text() == "untouched"
        )


ON_DISK, IN_MEMORY = 0, 10 * 2**20


@pytest.fixture(params=[ON_DISK, IN_MEMORY], ids=["on disk", "in memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


@pytest.fixture
def place_on_disk(tmp_path: Path) -> Place:
    return Place(tmp_path, ON_DISK)


def zip_with(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as writer:
        for name, content in members:
            writer.writestr(name, content, None if isinstance(name, zipfile.ZipInfo) else compression)
    return buffer.getvalue()


def zip_named(name: bytes, *, utf8: bool = True) -> bytes:
    """A zip of one member whose name is exactly these bytes."""
    content = bytearray(zip_with(("n" * len(name), b"content")))
    content = content.replace(b"n" * len(name), name)
    if utf8:
        central = content.index(b"PK\x01\x02")
        for flags in (6, central + 8):
            content[flags : flags + 2] = struct.pack("<H", 0x800)
    return bytes(content)


def patched(content: bytes, header: bytes, offset: int, value: bytes) -> bytes:
    """``content`` with ``value`` written ``offset`` bytes into the first ``header``."""
    at = content.index(header) + offset
    return content[:at] + value + content[at + len(value) :]


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def test_an_operator_comes_out_as_it_went_in(place: Place) -> None:
    operator = nested_operator()

    files = place.extract(zip_of(operator))

    assert files == tuple(sorted(operator))
    assert place.files() == {path: text.encode() for path, text in operator.items()}
    assert place.is_intact()


def test_files_are_plain_and_readable_whatever_the_archive_and_the_umask_say(place_on_disk: Place) -> None:
    place = place_on_disk
    member = zipfile.ZipInfo("a/run.sh")
    member.external_attr = (stat.S_IFREG | 0o6777) << 16
    before = os.umask(0o077)
    try:
        place.extract(zip_with((member, b"#!/bin/sh\n")))
    finally:
        os.umask(before)

    assert stat.S_IMODE((place.directory / "a/run.sh").stat().st_mode) == 0o644


def test_an_archive_without_members_gives_no_files(place: Place) -> None:
    assert place.extract(zip_with()) == ()


def test_directories_alone_give_no_files(place: Place) -> None:
    assert place.extract(zip_with(("1.0.0/", b""), ("./", b""))) == ()


def test_dots_for_here_are_dropped(place: Place) -> None:
    assert place.extract(zip_with(("./", b""), ("./a/./b.yaml", b"x"))) == ("a/b.yaml",)


def test_leftovers_of_other_systems_are_files_like_any_other(place: Place) -> None:
    assert place.extract(zip_with(("__MACOSX/._a", b"x"), (".DS_Store", b""))) == (".DS_Store", "__MACOSX/._a")


def test_an_empty_file_is_a_file(place: Place) -> None:
    place.extract(zip_with(("empty", b""), compression=zipfile.ZIP_STORED))

    assert place.files() == {"empty": b""}


def test_data_before_the_zip_and_a_comment_do_no_harm(place: Place) -> None:
    buffer = BytesIO(b"#!/bin/sh\n")
    buffer.seek(0, 2)
    with zipfile.ZipFile(buffer, "a") as writer:
        writer.writestr("a.yaml", b"x")
        writer.comment = b"a comment"

    assert place.extract(buffer.getvalue()) == ("a.yaml",)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", b"PK\x05\x06", b"\0" * 5000])
def test_what_is_no_zip_is_refused(place: Place, content: bytes) -> None:
    assert place.refuse(content) == "File is not a zip file"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"/etc/passwd", "absolute"),
        (b"//server/share", "absolute"),
        (b"C:/windows", "absolute"),
        (b"c:autoexec.bat", "absolute"),
        (b"../outside", ".."),
        (b"a/../../outside", ".."),
        (b"a/..", ".."),
        (b"..", ".."),
        (b"a\\..\\b", "backslash"),
        (b"..\\outside", "backslash"),
        (b"a//b", "empty component"),
        (b"a/b//", "empty component"),
        (b".", "no name"),
        (b"a\0b", "NUL"),
        (b"a\nb", "control"),
        (b"a\x1b[2Jb", "control"),
        (b"a\x7fb", "control"),
        ("a\u202eb".encode(), "invisible"),
        ("a\u2028b".encode(), "invisible"),
        (b"n" * 256, "too long"),
        ("é".encode() * 128, "too long"),
        (b"/".join([b"d" * 200] * 6), "too long"),
        (b"d/" * 40 + b"f", "directories deep"),
    ],
)
def test_hostile_names_are_refused(place: Place, name: bytes, reason: str) -> None:
    message = place.refuse(zip_named(name))

    assert reason in message
    assert message.isprintable()
    assert len(message) < 300
    assert place.files() == {}
    assert place.is_intact()


def test_a_name_that_claims_to_be_utf8_and_is_not_is_refused(place: Place) -> None:
    assert "UTF-8" in place.refuse(zip_named(b"caf\xe9.yaml"))


def test_a_name_in_the_old_encoding_is_read_as_such(place: Place) -> None:
    assert place.extract(zip_named(b"caf\x82.yaml", utf8=False)) == ("café.yaml",)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.yaml", "a.yaml"), "more than once"),
        (("a.yaml", "./a.yaml"), "more than once"),
        (("a", "a/b"), "a file and a directory"),
        (("a/b/c", "a/b"), "a file and a directory"),
        (("a", "a/"), "a file and a directory"),
    ],
)
def test_names_that_collide_are_refused(place: Place, names: tuple[str, ...], reason: str) -> None:
    contents = [(name, b"" if name.endswith("/") else name.encode()) for name in names]

    assert reason in place.refuse(zip_with(*contents))
    assert place.files() == {}


@pytest.mark.parametrize(
    "names", [("README.md", "readme.md"), ("e\u0301.yaml", "\u00e9.yaml"), ("A", "a/b"), ("a/c", "A/b")]
)
def test_names_that_differ_only_in_case_or_form_are_different_names(place: Place, names: tuple[str, str]) -> None:
    assert place.extract(zip_with(*((name, name.encode()) for name in names))) == tuple(sorted(names))
    assert place.files() == {name: name.encode() for name in names}


def test_there_may_be_as_many_directories_as_files_named_or_not(place: Place) -> None:
    deep = zip_with(("a/b/c/d/file", b""), ("e/", b""))

    assert "too many directories: 5, the limit is 4" in place.refuse(deep, Limits(files=4))
    assert place.extract(deep, Limits(files=5)) == ("a/b/c/d/file",)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_only_files_and_directories_come_out(place: Place, kind: int) -> None:
    member = zipfile.ZipInfo("special")
    member.external_attr = (kind | 0o777) << 16

    assert "'special' is neither a file nor a directory" in place.refuse(zip_with((member, b"/etc/passwd")))
    assert not (place.directory / "special").is_symlink()


def test_a_directory_that_is_named_like_a_file_is_refused(place: Place) -> None:
    member = zipfile.ZipInfo("a")
    member.external_attr = (stat.S_IFDIR | 0o755) << 16

    assert "the mode of a directory" in place.refuse(zip_with((member, b"")))


def test_a_directory_with_content_is_refused(place: Place) -> None:
    content = zip_with(("a?", b"content"), compression=zipfile.ZIP_STORED).replace(b"a?", b"a/")

    assert "'a/' is a directory with content" in place.refuse(content)


def test_an_encrypted_member_is_refused(place: Place) -> None:
    content = zip_with(("secret.yaml", b"x" * 100))
    content = patched(patched(content, LOCAL, 6, b"\1\0"), CENTRAL, 8, b"\1\0")

    assert place.refuse(content) == "Member 'secret.yaml' is encrypted"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_other_compressions_than_deflate_are_refused(place: Place, method: int) -> None:
    content = zip_with(("a.yaml", b"x" * 100))
    content = patched(patched(content, LOCAL, 8, struct.pack("<H", method)), CENTRAL, 10, struct.pack("<H", method))

    assert "'a.yaml' uses the unsupported compression method" in place.refuse(content)


def test_a_wrong_checksum_is_noticed(place: Place) -> None:
    content = zip_with(("a.yaml", b"x" * 100), compression=zipfile.ZIP_STORED).replace(b"x" * 100, b"y" * 100)

    assert "'a.yaml' is damaged: Bad CRC-32" in place.refuse(content)


def test_a_damaged_stream_is_noticed(place: Place) -> None:
    content = zip_with(("a.yaml", bytes(range(256)) * 4))
    middle = content.index(b"a.yaml") + 6

    assert "'a.yaml' is damaged" in place.refuse(content[:middle] + b"\xff" * 20 + content[middle + 20 :])


def test_a_truncated_archive_is_refused(place: Place) -> None:
    content = zip_of(nested_operator())

    assert place.refuse(content[:-30]) == "File is not a zip file"


def test_a_name_that_differs_in_the_two_headers_is_refused(place: Place) -> None:
    assert "'a.yaml' is damaged" in place.refuse(patched(zip_with(("a.yaml", b"x")), LOCAL, 30, b"b.yaml"))


def test_members_that_share_bytes_are_refused(place: Place) -> None:
    content = zip_with(("a.yaml", b"x" * 100), ("b.yaml", b"x" * 100))
    second = content.index(CENTRAL, content.index(CENTRAL) + 4)
    content = content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]

    assert "'a.yaml' and 'b.yaml' overlap" in place.refuse(content)


@pytest.mark.parametrize("declared", [0, 1, 99, 101, 2**31])
def test_a_size_that_is_a_lie_is_noticed(place: Place, declared: int) -> None:
    content = zip_with(("a.yaml", b"x" * 100))
    size = struct.pack("<L", declared)
    content = patched(patched(content, LOCAL, 22, size), CENTRAL, 24, size)

    message = place.refuse(content)

    assert "'a.yaml' is damaged" in message or "larger than limit" in message


@pytest.mark.parametrize(
    "extra", [b"\1\0\x08\0" + b"\xff" * 8, b"\1\0\x10\0" + b"\xff" * 16, b"\1\0\x40\0", b"\1\0\0\0"]
)
def test_lies_of_the_zip64_kind_are_refused(place: Place, extra: bytes) -> None:
    content = zip_with(("a.yaml", b"x" * 100))
    at = content.index(CENTRAL)
    header = bytearray(content[at : at + 46 + 6])
    header[20:28] = b"\xff" * 8
    header[30:32] = struct.pack("<H", len(extra))
    end = bytearray(content[-22:])
    end[12:16] = struct.pack("<L", len(header) + len(extra))

    assert place.refuse(content[:at] + bytes(header) + extra + bytes(end))


def test_the_size_limit_is_for_all_members_together(place: Place) -> None:
    content = zip_with(("a", b"x" * 600), ("b", b"x" * 600))

    assert place.refuse(content, Limits(uncompressed_bytes=1000)) == (
        "Uncompressed archive is larger than limit (1200B>1000B): that is this worker's limit, uncompressed_bytes in "
        "[consumer_config.limits]"
    )
    assert place.extract(content, Limits(uncompressed_bytes=1200)) == ("a", "b")


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_unfolds(place: Place) -> None:
    content = zip_with(("bomb", b"\0" * 50_000_000))
    content = patched(patched(content, LOCAL, 22, b"\1\0\0\0"), CENTRAL, 24, b"\1\0\0\0")

    assert "Uncompressed archive is larger than limit" in place.refuse(content, Limits(uncompressed_bytes=1_000_000))
    assert sum(len(written) for written in place.files().values()) <= 1_000_000


@pytest.mark.parametrize(("more", "kind"), [(0, FilesInMemory), (1, FilesOnDisk)])
def test_small_files_stay_in_memory(tmp_path: Path, more: int, kind: type[FileTree]) -> None:
    place = Place(tmp_path, in_memory=1000)

    tree = place.unpack(zip_with(("a.yaml", b"x" * 600), ("b/c.yaml", b"y" * (400 + more))))

    assert type(tree) is kind
    assert [(path, tree.read(path)) for path in tree.files] == [
        ("a.yaml", b"x" * 600),
        ("b/c.yaml", b"y" * (400 + more)),
    ]
    assert place.is_intact()


def test_a_bomb_that_says_it_is_small_takes_no_memory(tmp_path: Path) -> None:
    place = Place(tmp_path, IN_MEMORY)
    content = zip_with(("bomb", b"\0" * 19_000_000))
    content = patched(patched(content, LOCAL, 22, b"\1\0\0\0"), CENTRAL, 24, b"\1\0\0\0")
    tracemalloc.start()
    try:
        assert "its size is not what the archive says" in place.refuse(content)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_archive_itself_may_be_too_large(place: Place) -> None:
    content = zip_of(nested_operator())

    assert f"Archive is larger than limit ({len(content)}B>1000B)" in place.refuse(content, Limits(archive_bytes=1000))


@pytest.mark.parametrize("key", ["archive_bytes", "uncompressed_bytes", "files"])
def test_who_exceeds_a_limit_learns_whose_it_is_and_which_key_raises_it(place: Place, key: str) -> None:
    told = place.refuse(zip_of(nested_operator()), Limits(**{key: 2}))

    assert told.endswith(f"that is this worker's limit, {key} in [consumer_config.limits]")


def test_too_many_files_are_refused(place: Place) -> None:
    content = zip_with(*((f"{number}", b"") for number in range(11)))

    assert "too many files: 11, the limit is 10" in place.refuse(content, Limits(files=10))


def test_an_archive_of_very_many_members_is_refused_before_it_is_read(place: Place) -> None:
    content = zip_with(*((f"{number}/", b"") for number in range(37)))

    assert "too many members" in place.refuse(content, Limits(files=10))


def test_names_are_bounded_together_too(place: Place) -> None:
    content = zip_with(*((f"{'d' * 200}/{'d' * 200}/{'f' * 200}{number}", b"") for number in range(1000)))

    assert "names in the archive are too long" in place.refuse(content)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_are_refused_or_give_nothing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    Place(tmp_path_factory.mktemp("place")).refuse(content)


wherever = st.sampled_from([ON_DISK, IN_MEMORY])
names = st.text(st.sampled_from("ab./\\:é\0\n A~") | st.characters(codec="utf-8"), min_size=1, max_size=12)
names = names.filter(lambda name: not name.startswith("\0"))  # zipfile writes none of those


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(names, min_size=1, max_size=4), wherever)
@settings(max_examples=200, deadline=None)
def test_whatever_members_are_called_nothing_leaves_the_directory(
    tmp_path_factory: pytest.TempPathFactory, called: list[str], in_memory: int
) -> None:
    place = Place(tmp_path_factory.mktemp("place"), in_memory)
    content = zip_with(*((name, b"" if name.endswith("/") else b"content") for name in called))

    with contextlib.suppress(OMPSUploadedFileError):
        assert place.extract(content) == tuple(sorted(place.files()))
    assert place.is_intact()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_zip_with_any_bytes_changed_is_extracted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = Place(tmp_path_factory.mktemp("place"), data.draw(wherever))
    content = bytearray(zip_with(("a.yaml", b"packageName: a\n" * 5), ("1.0.0/b.yaml", b"x")))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(OMPSUploadedFileError):
        assert place.extract(bytes(content)) == tuple(sorted(place.files()))
    assert place.is_intact()
