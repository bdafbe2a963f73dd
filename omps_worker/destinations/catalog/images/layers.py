# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of images: a tar in PAX format with sorted names and without times and owners, in a gzip stream.

Compressed streams differ between versions of zlib, stored blocks do not. A bundle image is named by its digest, which
all replicas must make alike, so its layer is stored. Nothing but the catalog itself names the layers of a catalog, so
these are compressed: an update reads and sends a fifth of the bytes.
"""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK_BYTES = 0xFFFF
_LEVEL = 6
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image, ready to be sent."""

    blob: bytes = field(repr=False)
    digest: str
    """``sha256:`` and the digest of the blob."""
    diff_id: str
    """``sha256:`` and the digest of the tar in it."""

    @property
    def size(self) -> int:
        """How many bytes the blob has."""
        return len(self.blob)


def layer_of(files: Mapping[str, bytes], directories: tuple[str, ...] = (), *, compressed: bool = False) -> Layer:
    """Return the layer that holds ``files`` by their paths, all directories above them, and ``directories``.

    Unless it is ``compressed``, its digest is the same on every machine.
    """
    tar = tar_of(files, directories)
    blob = compressed_gzip(tar) if compressed else stored_gzip(tar)
    return Layer(blob, sha256(blob), sha256(tar))


def sha256(data: bytes) -> str:
    """Return the digest of ``data`` as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def stored_gzip(data: bytes) -> bytes:
    """Return ``data`` as a gzip stream that compresses nothing."""
    parts = [_GZIP_HEADER]
    for start in range(0, max(len(data), 1), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        last = start + _BLOCK_BYTES >= len(data)
        parts += (struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block)
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)


def compressed_gzip(data: bytes) -> bytes:
    """Return ``data`` as a gzip stream, compressed by whatever zlib there is."""
    stream = zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW)
    return stream.compress(data) + stream.flush()


def tar_of(files: Mapping[str, bytes], directories: tuple[str, ...] = ()) -> bytes:
    """Return a tar of ``files`` and all directories above them and above ``directories``, names sorted."""
    parents = {parent for path in files for parent in _above(path)}
    parents |= {parent for directory in directories for parent in _above(f"{directory}/")}
    parts: list[bytes] = []
    for name in sorted([*files, *parents]):
        content = files.get(name)
        parts.append(_header(name, content))
        if content:
            parts += (content, bytes(-len(content) % tarfile.BLOCKSIZE))
    size = sum(map(len, parts)) + 2 * tarfile.BLOCKSIZE
    return b"".join((*parts, bytes(2 * tarfile.BLOCKSIZE + -size % tarfile.RECORDSIZE)))


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _header(name: str, content: bytes | None) -> bytes:
    member = tarfile.TarInfo(name)
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    if content is None:
        member.type, member.mode, member.size = tarfile.DIRTYPE, 0o755, 0
    else:
        member.type, member.mode, member.size = tarfile.REGTYPE, 0o644, len(content)
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
