# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that lie, explode, or want to write elsewhere."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from omps_worker.sandbox.operators import zip_of
from tests.support.hostile import ARCHIVE, DONE, FLAT, GOOD, MANIFESTS, NESTED, Target, target

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")


@pytest.fixture(scope="module")
def site() -> Iterator[Target]:
    with target() as made:
        yield made


def member(name: str, **attributes: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name
    info.compress_type = zipfile.ZIP_DEFLATED
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes | str], comment: bytes = b"", good: bool = True) -> bytes:
    """A zip of ``members``, after those of a good operator."""
    buffer = io.BytesIO(GOOD if good else b"")
    with zipfile.ZipFile(buffer, "a" if good else "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in members:
            archive.writestr(info, content)
        archive.comment = comment
    return buffer.getvalue()


def named(name: str) -> bytes:
    return zipped((member(name), b"hostile"))


def special(kind: int, content: bytes = b"/etc/passwd") -> bytes:
    return zipped((member("special", external_attr=(kind | 0o777) << 16), content))


def raw_names(name: bytes, *, utf8: bool) -> bytes:
    """A member whose name is any bytes, in both of its headers."""
    placeholder = b"@" * len(name)
    content = zipped((member(placeholder.decode()), b"hostile"))
    assert content.count(placeholder) == 2
    content = content.replace(placeholder, name)
    if utf8:
        content = patched(content, -1, 8, "<H", 0x800)
        content = patched_local(content, -1, 6, "<H", 0x800)
    return content


def _central(content: bytes, index: int) -> int:
    """Where the header of a member in the central directory begins."""
    places, at = [], content.find(b"PK\x01\x02")
    while at >= 0:
        places.append(at)
        at = content.find(b"PK\x01\x02", at + 4)
    return places[index]


def patched(content: bytes, index: int, offset: int, form: str, value: int) -> bytes:
    """``content`` with a field of a central header changed."""
    at = _central(content, index) + offset
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def patched_local(content: bytes, index: int, offset: int, form: str, value: int) -> bytes:
    """``content`` with a field of a member's own header changed."""
    (start,) = struct.unpack_from("<I", content, _central(content, index) + 42)
    at = start + offset
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def end(offset: int, form: str, value: int) -> bytes:
    """A good archive with a field of its end record changed."""
    at = GOOD.rindex(b"PK\x05\x06") + offset
    return GOOD[:at] + struct.pack(form, value) + GOOD[at + struct.calcsize(form) :]


def zip64(extra: bytes) -> bytes:
    """A member that refers to zip64 sizes in ``extra``."""
    content = zipped((member("a.txt", extra=extra), b"hostile"))
    return patched(patched(content, -1, 24, "<I", 0xFFFFFFFF), -1, 20, "<I", 0xFFFFFFFF)


def bomb(megabytes: int) -> bytes:
    return zipped((member("bomb.bin"), bytes(megabytes * 2**20)))


def lying_bomb() -> bytes:
    """Says that it has ten bytes, and has fifty megabytes."""
    return patched(patched_local(bomb(50), -1, 22, "<I", 10), -1, 24, "<I", 10)


def overlapping(count: int) -> bytes:
    """Many members that are all the same bytes, as small bombs are made."""
    content = zipped((member("0000"), bytes(15 * 2**20)), good=False)
    at = _central(content, 0)
    ending = content.rindex(b"PK\x05\x06")
    header = content[at:ending]
    headers = b"".join(header.replace(b"0000", b"%04d" % number) for number in range(count))
    record = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(headers), at, 0)
    return content[:at] + headers + record


def central_only(count: int) -> bytes:
    """A central directory of ``count`` members without any members."""
    header = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    headers = header * count
    return headers + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(headers), 0, 0)


def bytes_flipped(seed: int) -> bytes:
    content, dice = bytearray(GOOD), random.Random(seed)
    for _ in range(6):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(content)


def nested_bomb() -> bytes:
    inner = zip_of({"bomb.bin": bytes(10 * 2**20)})
    for _ in range(3):
        inner = zip_of({f"{number}.zip": inner for number in range(10)})
    return zip_of({**NESTED, "inner.zip": inner})


def wrong_crc() -> bytes:
    return patched_local(patched(GOOD, 0, 16, "<I", 0xDEADBEEF), 0, 14, "<I", 0xDEADBEEF)


def many(count: int, name: Callable[[int], str]) -> bytes:
    return zip_of({**FLAT, **{name(number): "" for number in range(count)}})


REFUSED: dict[str, Callable[[], bytes] | bytes] = {
    # not a zip
    "empty": b"",
    "one byte": b"P",
    "text": b"packageName: lantern\n",
    "html": b"<!DOCTYPE html><html><title>404</title></html>",
    "tar.gz": b"\x1f\x8b\x08\x00" + bytes(100),
    "only an end record of lies": struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, 999, 999, 0),
    "only magic numbers": b"PK\x03\x04PK\x01\x02PK\x05\x06" * 100,
    "cut in the middle": lambda: GOOD[: len(GOOD) // 2],
    "cut before the end": lambda: GOOD[:-1],
    "cut at the start": lambda: GOOD[7:],
    "zeros": bytes(1000),
    "a comment full of end records": lambda: zipped(comment=b"PK\x05\x06" * 16383),
    "noise": lambda: random.Random(1).randbytes(5000),
    # headers that lie
    "a checksum that is wrong": wrong_crc,
    "more members than there are": lambda: end(12, "<I", 1),
    "a directory beyond the end": lambda: end(16, "<I", 2**31),
    "a directory of four gigabytes": lambda: end(12, "<I", 2**32 - 2),
    "a disk of many": lambda: patched(GOOD, 0, 42, "<I", 2**31),
    "a member beyond the end": lambda: patched(GOOD, 1, 42, "<I", len(GOOD) + 5),
    "a member that begins in another": lambda: patched(GOOD, 1, 42, "<I", 3),
    "two members at one place": lambda: patched(GOOD, 1, 42, "<I", 0),
    "a size that is too small": lambda: patched(GOOD, 0, 24, "<I", 1),
    "a size that is too large": lambda: patched(GOOD, 0, 24, "<I", 5000),
    "a size of four gigabytes": lambda: patched(GOOD, 0, 24, "<I", 2**32 - 2),
    "a compressed size of four gigabytes": lambda: patched(GOOD, 0, 20, "<I", 2**32 - 2),
    "a compressed size of nothing": lambda: patched(GOOD, 0, 20, "<I", 0),
    "a name longer than the archive": lambda: patched(GOOD, 0, 28, "<H", 65535),
    "another name in the member's own header": lambda: patched_local(GOOD, 0, 30, "<I", 0x41414141),
    "a version of the format that does not exist": lambda: patched(GOOD, 0, 6, "<H", 999),
    "zip64 without its field": lambda: zip64(b""),
    "zip64 of exabytes": lambda: zip64(struct.pack("<HHQQ", 1, 16, 2**63, 2**63)),
    "zip64 that ends too early": lambda: zip64(struct.pack("<HHI", 1, 4, 9)),
    "zip64 longer than it is": lambda: zip64(struct.pack("<HH", 1, 60000)),
    # encryption and compression
    "encrypted": lambda: patched_local(patched(GOOD, 0, 8, "<H", 1), 0, 6, "<H", 1),
    "strongly encrypted": lambda: patched(GOOD, 0, 8, "<H", 0x41),
    "masked headers": lambda: patched(GOOD, 0, 8, "<H", 0x2000),
    "bzip2": lambda: zipped((member("a", compress_type=zipfile.ZIP_BZIP2), b"x")),
    "lzma": lambda: zipped((member("a", compress_type=zipfile.ZIP_LZMA), b"x")),
    "deflate64": lambda: patched_local(patched(GOOD, 0, 10, "<H", 9), 0, 8, "<H", 9),
    "an unknown compression": lambda: patched_local(patched(GOOD, 0, 10, "<H", 77), 0, 8, "<H", 77),
    "stored, says the header of what is deflated": lambda: patched_local(patched(GOOD, 0, 10, "<H", 0), 0, 8, "<H", 0),
    "deflated, says the header of noise": lambda: patched_local(
        patched(zipped((member("a", compress_type=0), b"\xff" * 99)), -1, 10, "<H", 8), -1, 8, "<H", 8
    ),
    # bombs
    "21 megabytes": lambda: bomb(21),
    "a bomb that says ten bytes": lying_bomb,
    "two halves of too much": lambda: zipped((member("a"), bytes(11 * 2**20)), (member("b"), bytes(11 * 2**20))),
    "a hundred members of the same bytes": lambda: overlapping(100),
    "four thousand members of the same bytes": lambda: overlapping(4000),
    "a hundred thousand members that are none": lambda: central_only(100_000),
    "three thousand files": lambda: many(3000, "f{}".format),
    "three thousand directories": lambda: many(3000, "d{}/".format),
    "sixty thousand directories that are implied": lambda: many(1900, lambda n: f"d{n}/" + "x/" * 30 + "f"),
    "a megabyte of names": lambda: many(1990, lambda n: f"{n:05}" + "n" * 245 + "/" + "m" * 250),
    "more than ten megabytes of noise": lambda: zipped((member("a"), random.Random(2).randbytes(11 * 2**20))),
    # names
    **{f"the name {name!r}"[:60]: (lambda name=name: named(name)) for name in (
        "/etc/cron.d/x", "../x", "a/../../x", "..", "a/..", "//x", "a//b", "C:x", "C:\\x", "a\\..\\b", "\\\\host\\x",
        "a\nb", "a\x1b[2Jb", "a\x7fb", "\u202egnp.yaml", "a\u200bb", "\ufeffa", "a\u2028b", "\ue000", "n" * 256,
        "/".join("d" * 200 for _ in range(6)), "d/" * 33 + "f", "\u00e9" * 128, "./../x",
    )},
    "a name with a NUL": lambda: raw_names(b"a.yaml\0.txt", utf8=False),
    "a name that is no UTF-8": lambda: raw_names(b"\xff\xfe\xfa.txt", utf8=True),
    "a name of surrogates": lambda: raw_names(b"\xed\xa0\x80.txt", utf8=True),
    "an overlong dot dot": lambda: raw_names(b"\xc0\xae\xc0\xae/x", utf8=True),
    "the same name twice": lambda: zipped(("twice", b"a"), ("twice", b"b")),
    "the same name twice by a dot": lambda: zipped(("twice", b"a"), (member("./twice"), b"b")),
    "a file and a directory": lambda: zipped(("both", b"a"), ("both/file", b"b")),
    "a file below a file": lambda: zipped(("both/file", b"b"), ("both", b"a")),
    "a directory with content": lambda: zipped((member("full/"), b"content")),
    # kinds
    "a symbolic link": lambda: special(stat.S_IFLNK),
    "a symbolic link and a file through it": lambda: zipped(
        (member("link", external_attr=(stat.S_IFLNK | 0o777) << 16), b"/tmp"), ("link/file", b"x")
    ),
    "a device": lambda: special(stat.S_IFCHR),
    "a disk": lambda: special(stat.S_IFBLK),
    "a pipe": lambda: special(stat.S_IFIFO),
    "a socket": lambda: special(stat.S_IFSOCK),
    "a directory without a slash": lambda: special(stat.S_IFDIR, b""),
}  # fmt: skip

HARMLESS: dict[str, Callable[[], bytes] | bytes] = {
    "a comment of 64 KiB": lambda: zipped(comment=b"nothing!" * 8191),
    "something before the zip": lambda: b"#!/bin/sh\nexit 1\n" * 100 + GOOD,
    "names in other case": lambda: zipped(("README.md", b""), ("readme.md", b""), ("Readme.MD", b"")),
    "names in other forms of Unicode": lambda: zipped(("\u00e9.txt", b""), ("e\u0301.txt", b"")),
    "a name in code page 437": lambda: raw_names(b"caf\x82.txt", utf8=False),
    "names of other scripts": lambda: zipped(("手册/说明.txt", b""), ("руководство.txt", b""), ("😀", b"")),
    "names that shells dislike": lambda: zipped(("-rf", b""), ("$(reboot)", b""), ("a b;c|d&", b""), ("*", b"")),
    "set-uid": lambda: zipped((member("run.sh", external_attr=(stat.S_IFREG | 0o6777) << 16), b"")),
    "no permissions": lambda: zipped((member("secret", external_attr=stat.S_IFREG << 16), b"")),
    "a time that does not exist": lambda: patched(GOOD, 0, 12, "<I", 0xFFFFFFFF),
    "made on another system": lambda: patched(GOOD, 0, 4, "<H", 0x0A14),
    "what macOS adds": lambda: zipped(("__MACOSX/._README.md", b"\0\x05\x16\x07"), (".DS_Store", b"\0\0\0\1Bud1")),
    "empty directories": lambda: zipped(("empty/", b""), ("empty/deeper/", b""), ("./", b"")),
    "bombs inside that nobody opens": nested_bomb,
    "unknown extra fields": lambda: zipped((member("a", extra=struct.pack("<HH", 0xCAFE, 400) + bytes(400)), b"")),
    "nineteen megabytes of zeros": lambda: zipped((member("zeros.bin"), bytes(19 * 2**20))),
    "files that operator-courier leaves out": lambda: zipped(("art.yaml", b""), ("1.0.0/image-references", b"")),
}


def content_of(attack: Callable[[], bytes] | bytes) -> bytes:
    return attack if isinstance(attack, bytes) else attack()


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED)
def test_a_hostile_archive_is_refused_by_name(site: Target, attack: Callable[[], bytes] | bytes) -> None:
    content = content_of(attack)
    outcome = site.attack(content)
    # What is not even downloaded for its size has the same name.
    assert outcome == {ARCHIVE}


@pytest.mark.parametrize("attack", HARMLESS.values(), ids=HARMLESS)
def test_an_odd_archive_is_published(site: Target, attack: Callable[[], bytes] | bytes) -> None:
    assert site.attack(content_of(attack)) <= set(DONE)


@pytest.mark.parametrize("seed", range(30))
def test_bits_that_flip_lead_to_an_outcome_with_a_name(site: Target, seed: int) -> None:
    assert site.attack(bytes_flipped(seed)) <= {ARCHIVE, MANIFESTS, *DONE}


@pytest.mark.parametrize(
    "content",
    [zip_of({}), zip_of({"a/b/c/package.yaml": FLAT["lantern.package.yaml"]}), zip_of({"package.yaml": ""})],
    ids=["no files", "manifests too deep", "an empty file"],
)
def test_an_archive_without_manifests_is_no_package(site: Target, content: bytes) -> None:
    assert site.attack(content) == {MANIFESTS}


def test_an_archive_of_zlib_streams_that_never_end_is_refused(site: Target) -> None:
    endless = zlib.compressobj(wbits=-15)
    data = endless.compress(os.urandom(1000)) + endless.flush(zlib.Z_SYNC_FLUSH)
    content = zipped((member("endless", compress_type=0), data))
    content = patched_local(patched(content, -1, 10, "<H", 8), -1, 8, "<H", 8)
    assert site.attack(patched(content, -1, 24, "<I", 1000)) == {ARCHIVE}
