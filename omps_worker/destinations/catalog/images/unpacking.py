# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files out of the layers of an image that comes from outside.

Nothing is written to disk, and no link is followed. Only files below the wanted directories are kept, in memory. All
bounds are checked while a layer is read: its declared sizes are not believed.

Layers are applied as container runtimes do: ``.wh.NAME`` removes NAME of the layers below, ``.wh..wh..opq`` all that
they have in a directory, and what stands in the layer itself stays.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from omps_worker.destinations.catalog.images.tar_reader import CannotUnpack, Member, TarReader
from omps_worker.manifests.archive import DEPTH, shown

_GZIP = b"\x1f\x8b"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_GZIP_MEMBERS = 1000
_CHUNK = 64 * 1024
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_LAYERS = 128

__all__ = ["CannotUnpack", "Room", "unpack"]


@dataclass(frozen=True, slots=True)
class Room:
    """How much the layers of an image may hold together."""

    kept_bytes: int
    """The files that are kept."""
    unpacked_bytes: int
    """All layers, unpacked, with what is not kept."""
    files: int
    """How many files may be kept."""


def unpack(layers: Sequence[bytes], directories: Sequence[str], room: Room, depth: int = 2) -> dict[str, bytes]:
    """Return the files that the image has below ``directories``, by path, at most ``depth`` components deep.

    ``layers``: their blobs, the lowest first, each a tar or a tar in gzip. Raises CannotUnpack if one of them is
    damaged, too large, compressed in another way, or names a path outside of the image, and if a wanted path is neither
    a file nor a directory.
    """
    if len(layers) > _LAYERS:
        raise CannotUnpack(f"it has more than {_LAYERS} layers")
    files = _Files(directories, room, depth)
    budget = [room.unpacked_bytes]
    for blob in layers:
        files.apply(TarReader(_unpacked(blob, budget)))
    return files.result()


class _Files:
    """The files of an image so far."""

    def __init__(self, directories: Sequence[str], room: Room, depth: int) -> None:
        self._wanted, self._room, self._depth = tuple(directories), room, depth
        self._files: dict[str, bytes] = {}

    def apply(self, tar: TarReader) -> None:
        """Put a layer over those before it."""
        added: dict[str, bytes] = {}
        directories: set[str] = set()
        removed: set[str] = set()
        emptied: set[str] = set()
        size = sum(map(len, self._files.values()))
        wanted = 0
        for member in tar:
            above, _, name = member.path.rpartition("/")
            if name == _OPAQUE:
                if self._concerns(above):
                    emptied.add(above)
            elif name.startswith(_WHITEOUT):
                hidden = f"{above}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
                if self._concerns(hidden):
                    removed.add(hidden)
            elif self._is_wanted(member.path):
                size += member.size
                wanted += 1
                if size > self._room.kept_bytes:
                    raise CannotUnpack(f"its files have more than {self._room.kept_bytes} bytes")
                self._add(member, tar, added, directories)
            if wanted + len(removed) + len(emptied) > 2 * self._room.files + 16:
                raise CannotUnpack(f"it has more than {self._room.files} files")
        self._remove(removed, emptied, added.keys(), directories)
        self._files.update(added)
        if len(self._files) > self._room.files:
            raise CannotUnpack(f"it has more than {self._room.files} files")

    def result(self) -> dict[str, bytes]:
        """Return the files that are left when all layers are applied."""
        for path in self._wanted:
            if path in self._files:
                raise CannotUnpack(f"{path} is no directory")
        return dict(self._files)

    def _is_wanted(self, path: str) -> bool:
        return any(path == directory or path.startswith(f"{directory}/") for directory in self._wanted)

    def _concerns(self, hidden: str) -> bool:
        above = f"{hidden}/" if hidden else ""
        return self._is_wanted(hidden) or any(directory.startswith(above) for directory in self._wanted)

    def _add(self, member: Member, tar: TarReader, added: dict[str, bytes], directories: set[str]) -> None:
        if not member.is_file and not member.is_directory:
            raise CannotUnpack(f"{shown(member.path)} is neither a file nor a directory")
        if member.path.count("/") >= DEPTH:
            raise CannotUnpack(f"{shown(member.path)} is more than {DEPTH} directories deep")
        parents = _and_above(member.path)[1:]
        for parent in parents:
            added.pop(parent, None)
        directories.update(parent for parent in parents if parent.count("/") < self._depth)
        if member.is_directory:
            added.pop(member.path, None)
            directories.add(member.path)
        elif member.path.count("/") < self._depth:
            if member.path in directories:
                directories.discard(member.path)
                for path in [path for path in added if path.startswith(f"{member.path}/")]:
                    del added[path]
            added[member.path] = tar.content()

    def _remove(self, removed: set[str], emptied: set[str], added: Set[str], directories: set[str]) -> None:
        """Remove what a layer hides of those below it."""
        for path in list(self._files):
            above = _and_above(path)
            hidden = not removed.isdisjoint(above) or not emptied.isdisjoint([*above[1:], ""])
            # A file in place of a directory hides all that was in it, and a directory hides a file.
            if hidden or not added.isdisjoint(above) or path in directories:
                del self._files[path]


def _and_above(path: str) -> list[str]:
    """Return ``path`` and all paths above it, itself first."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _unpacked(blob: bytes, budget: list[int]) -> Iterator[bytes]:
    """Yield the tar in a blob, piece by piece, until there is more of it than ``budget`` allows."""
    if blob.startswith(_ZSTANDARD):
        raise CannotUnpack("a layer is compressed with zstd; gzip is what is supported")
    pieces = (
        _inflated(blob) if blob.startswith(_GZIP) else (blob[at : at + _CHUNK] for at in range(0, len(blob), _CHUNK))
    )
    for piece in pieces:
        budget[0] -= len(piece)
        if budget[0] < 0:
            raise CannotUnpack("its layers are too large when they are unpacked")
        yield piece


def _inflated(blob: bytes) -> Iterator[bytes]:
    """Yield what is in a gzip of one or more members. What follows the last one must be zeros."""
    at = 0
    for _ in range(_GZIP_MEMBERS):
        inflater = zlib.decompressobj(wbits=31)
        waiting = b""
        while not inflater.eof:
            if not waiting:
                waiting = blob[at : at + _CHUNK]
                at += len(waiting)
                if not waiting:
                    raise CannotUnpack("a layer ends in the middle")
            try:
                piece = inflater.decompress(waiting, _CHUNK)
            except zlib.error:
                raise CannotUnpack("a layer is damaged") from None
            waiting = inflater.unconsumed_tail
            if piece:
                yield piece
        at -= len(inflater.unused_data)
        if not blob.startswith(_GZIP, at):
            break
    if blob[at:].strip(b"\0"):
        raise CannotUnpack("something follows the end of a layer")
