# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader for tars that come from outside, in one pass and within bounds.

Python's own reader recurses for each header that describes the next one, and keeps all members. Here a loop reads
ustar, PAX and GNU's long names; everything else that describes contents in its own way is refused or no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omps_worker.manifests.archive import shown

_BLOCK = 512
_HEADER_BYTES = 64 * 1024
"""How large a header may be that describes the next one: names of 4096 bytes are the longest anywhere."""

_DESCRIPTIONS = 8
"""How many such headers may precede one member."""

PATH_BYTES = 4096
"""How long the path of a member may be."""

_LARGEST = 2**40


class CannotUnpack(ValueError):
    """A layer cannot be read; the message is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar; ``path`` has no ``.`` and no empty components, and does not begin with ``/``."""

    path: str
    is_file: bool
    is_directory: bool
    size: int
    """How many bytes the file says that it has."""


class TarReader:
    """Iterates over the members of a tar; ``content`` belongs to the member that came last."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = 0
        """How much of the buffer was read."""
        self._left = 0
        """How many bytes of the current member, with its padding, were not read yet."""
        self._size = 0

    def __iter__(self) -> Iterator[Member]:
        while True:
            member = self._next()
            if member is None:
                return
            yield member

    def content(self) -> bytes:
        """Return what is in the file that came last. To be called once for a member."""
        content = self._read(self._size)
        self._left -= self._size
        return content

    def _next(self) -> Member | None:
        self._skip(self._left)
        self._left = 0
        described: dict[str, str] = {}
        for _ in range(_DESCRIPTIONS):
            header = self._header()
            if header is None:
                return None
            kind = header[156:157]
            size = _number(header[124:136])
            if kind in b"xLKg" and kind:
                if size > _HEADER_BYTES:
                    raise CannotUnpack("a header in a layer is too large")
                text = self._read(size)
                self._skip(-size % _BLOCK)
                _describe(described, kind, text)
                continue
            if "size" in described:
                size = _decimal(described["size"])
            if size > _LARGEST or any(key.startswith("GNU.sparse") for key in described):
                raise CannotUnpack("a layer has a sparse file, or one that is too large")
            is_file, is_directory = kind in (b"0", b"\0", b"7"), kind == b"5"
            path = described.get("path") or _name(header)
            is_directory = is_directory or (is_file and path.endswith("/"))
            self._size = 0 if is_directory else size
            # Links and devices have no content, whatever their size says; a directory's is skipped.
            self._left = size + -size % _BLOCK if kind not in (b"1", b"2", b"3", b"4", b"6") else 0
            return Member(_path(path), is_file and not is_directory, is_directory, self._size)
        raise CannotUnpack("a layer has too many headers in a row that describe the next one")

    def _header(self) -> bytes | None:
        header = self._read(_BLOCK, short=True)
        if not header.strip(b"\0"):
            for _ in self._pieces:
                pass  # to the end, where the checksum of the gzip is
            return None
        if len(header) < _BLOCK:
            raise CannotUnpack("a layer ends in the middle")
        expected = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if _number(header[148:156]) != expected:
            raise CannotUnpack("a layer is no tar, or is damaged")
        return header

    def _read(self, size: int, *, short: bool = False) -> bytes:
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        if len(data) == size:
            return data
        parts = [data]
        missing = size - len(data)
        while missing:
            if not self._refill():
                if short:
                    break
                raise CannotUnpack("a layer ends in the middle")
            part = self._buffer[:missing]
            self._at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size > len(self._buffer) - self._at:
            size -= len(self._buffer) - self._at
            if not self._refill():
                raise CannotUnpack("a layer ends in the middle")
        self._at += size

    def _refill(self) -> bool:
        self._buffer, self._at = next(self._pieces, b""), 0
        return bool(self._buffer)


def _describe(described: dict[str, str], kind: bytes, text: bytes) -> None:
    """Add what a header says about the next member to ``described``."""
    if kind == b"L":
        described.setdefault("path", _decoded(text.rstrip(b"\0")))
    elif kind == b"x":
        described.update(_records(text))
    elif kind == b"g" and {"path", "size"} & _records(text).keys():
        raise CannotUnpack("a layer has a header that names all files alike")


def _records(text: bytes) -> dict[str, str]:
    """Return the records of a PAX header: each is its own length, a blank, key=value and a line break."""
    records: dict[str, str] = {}
    at = 0
    while at < len(text) and text[at : at + 1] != b"\0":
        blank = text.find(b" ", at, at + 10)
        length = _decimal(text[at:blank].decode("ascii", "replace")) if blank > at else 0
        record = text[blank + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if length <= blank - at + 1 or at + length > len(text) or not record.endswith(b"\n") or not equals:
            raise CannotUnpack("a header in a layer is damaged")
        records[_decoded(key)] = _decoded(value[:-1])
        at += length
    return records


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CannotUnpack("a name in a layer is not UTF-8 text") from None


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 13):
        raise CannotUnpack("a number in a layer is none")
    return int(text)


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or binary if the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise CannotUnpack("a number in a layer is negative or too large")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise CannotUnpack("a number in a layer is none")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return _decoded(name)


def _path(name: str) -> str:
    """Return the path of a member from the root of the image. Raises CannotUnpack if it leads out of it."""
    if len(name.encode()) > PATH_BYTES or "\0" in name:
        raise CannotUnpack("a path in a layer is too long, or has a NUL")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CannotUnpack(f"a layer has a path with .. in it, {shown(name)}")
    return "/".join(parts)
