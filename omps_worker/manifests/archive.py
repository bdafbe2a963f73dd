# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an untrusted archive of manifests.

Nothing that a zip says about itself can be trusted: neither the sizes, nor the number of members, nor the names. So
sizes are counted while unpacking, all names are checked before anything is unpacked, and only regular files are
created, each of them new and inside the given directory.

How each peculiarity is handled:

=========================================== =================================================
``./a``                                     harmless: becomes ``a``
directory entries                           harmless: directories are created when a file needs them
modes and times of members                  harmless: every file is new and has mode 0644
data before the zip, comments               harmless: ignored
``__MACOSX`` and the like                   harmless: files like any others
absolute, ``..``, ``a//b``, ``C:``, ``\\``  refused
NUL, control and invisible characters       refused
long names, deep paths                      refused (``COMPONENT_BYTES``, ``PATH_BYTES``, ``DEPTH``)
names that differ only in case or form      harmless: different files
the same name twice                         refused: it is not clear which one is meant
``a`` and ``a/b``, directories with data    refused
symbolic links, devices, pipes              refused
encrypted, damaged, overlapping members     refused
compressions other than deflate             refused: bzip2 and LZMA can allocate gigabytes at once
=========================================== =================================================
"""

from __future__ import annotations

import copy
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from omps_worker.common.errors import OMPSUploadedFileError
from omps_worker.common.limits import Limits, limit_advice
from omps_worker.manifests.file_tree import FilesInMemory, FilesOnDisk, FileTree

COMPONENT_BYTES = 255
"""The longest name of a file or directory, in bytes: the limit of common file systems."""

PATH_BYTES = 1000
"""The longest path inside the archive, in bytes."""

DEPTH = 32
"""The most components of a path. Removing a tree needs one open file for each level."""

IN_MEMORY = 2 * 2**20
"""The most bytes of files that are kept in memory for one archive. The largest operators are slightly larger."""

NAMES_BYTES = 512 * 1024
"""The most bytes of all paths together. The result message contains all paths."""

_CENTRAL_HEADER = b"PK\x01\x02"
_LOCAL_HEADER_BYTES = 30
_CHUNK = 64 * 1024
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UNREADABLE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, zlib.error,
    EOFError, ValueError, OverflowError, LookupError, OSError,
)  # fmt: skip


def unpack(archive: Path, directory: Path, limits: Limits, in_memory: int = IN_MEMORY) -> FileTree:
    """Unpack ``archive`` and return its files.

    The files are kept in memory if their declared sizes add up to at most ``in_memory`` bytes. Otherwise they are
    written into ``directory``, which must be empty or not exist yet. An archive without members gives no files; the
    caller decides what that means.

    Raises OMPSUploadedFileError, naming the member, if the archive is not a zip, is damaged, exceeds ``limits`` or has
    a member that is refused; trying again does not help. Files that are already written stay, and the caller removes
    the directory. Raises OSError if the disk fails.
    """
    size = archive.stat().st_size
    if size > limits.archive_bytes:
        raise OMPSUploadedFileError(
            f"Archive is larger than limit ({size}B>{limits.archive_bytes}B): {limit_advice('archive_bytes')}"
        )
    data = archive.read_bytes()
    most_members = 2 * limits.files + 16
    # Counted in the raw bytes, because zipfile would first create an object for each of millions of members.
    if data.count(_CENTRAL_HEADER) > most_members:
        raise OMPSUploadedFileError(f"Archive has too many members: more than {most_members}; {limit_advice('files')}")
    try:
        opened = zipfile.ZipFile(io.BytesIO(data))
    except UnicodeDecodeError:
        raise OMPSUploadedFileError("Archive has a member whose name is marked as UTF-8 but is not") from None
    except _UNREADABLE as error:
        raise OMPSUploadedFileError(_zip_reason(error, "File is not a zip file")) from None
    with opened:
        members = _checked_members(opened, limits)
        pieces = _Pieces(opened, limits.uncompressed_bytes)
        if sum(member.file_size for member in members.values()) <= in_memory:
            return FilesInMemory({path: b"".join(pieces.read(member)) for path, member in members.items()})
        directory.mkdir(parents=True, exist_ok=True)
        for path, member in members.items():
            _write(directory / path, pieces.read(member))
    return FilesOnDisk(directory, members)


def _checked_members(opened: zipfile.ZipFile, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Return the members to unpack, by path. Raises OMPSUploadedFileError if any member is refused."""
    members: dict[str, zipfile.ZipInfo] = {}
    directories: set[str] = set()
    total = 0
    for member in opened.infolist():
        path = _path(member)
        _check_kind(member)
        total += len(path.encode())
        if member.is_dir():
            directories.add(path)
            continue
        if not path:
            raise OMPSUploadedFileError(f"Member {shown(member.orig_filename)} has no name")
        if path in members:
            raise OMPSUploadedFileError(f"Member {shown(path)} occurs more than once")
        members[path] = member
    if len(members) > limits.files:
        raise OMPSUploadedFileError(
            f"Archive has too many files: {len(members)}, the limit is {limits.files}; {limit_advice('files')}"
        )
    if total > NAMES_BYTES:
        raise OMPSUploadedFileError(
            f"The names in the archive are too long: {total} bytes in total, the limit is {NAMES_BYTES}"
        )
    _check_names(members, directories, limits.files)
    _check_ranges(opened)
    declared = sum(member.file_size for member in members.values())
    if declared > limits.uncompressed_bytes:
        raise _too_large(declared, limits.uncompressed_bytes)
    return members


def _path(member: zipfile.ZipInfo) -> str:
    """Return the relative path of a member, without ``.`` components; empty for the root itself."""
    name = member.orig_filename
    if not name.replace("\0", "?").isprintable():
        reason = "has control or invisible characters in its name"
    elif "\0" in name or not name:
        reason = "has a NUL in its name" if name else "has no name"
    elif "\\" in name:
        reason = "has a backslash in its name; directories are separated by /"
    elif name.startswith("/") or name[1:2] == ":":
        reason = "has an absolute name"
    else:
        parts = name.removesuffix("/").split("/")
        if ".." in parts:
            reason = "has .. in its name"
        elif "" in parts:
            reason = "has an empty component in its name"
        elif len(parts) > DEPTH:
            reason = f"is more than {DEPTH} directories deep"
        elif len(name.encode()) > PATH_BYTES or any(len(part.encode()) > COMPONENT_BYTES for part in parts):
            reason = f"has a name that is too long (limit {COMPONENT_BYTES} bytes, {PATH_BYTES} with directories)"
        else:
            return "/".join(part for part in parts if part != ".")
    raise OMPSUploadedFileError(f"Member {shown(name)} {reason}")


def _check_kind(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.flag_bits & _ENCRYPTED:
        reason = "is encrypted"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        reason = "is neither a file nor a directory"
    elif kind == stat.S_IFDIR and not member.is_dir():
        reason = "has the mode of a directory but the name of a file"
    elif member.is_dir() and member.file_size:
        reason = "is a directory with content"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = f"uses the unsupported compression method {member.compress_type}; only deflate is supported"
    else:
        return
    raise OMPSUploadedFileError(f"Member {shown(member.orig_filename)} {reason}")


def _check_names(members: dict[str, zipfile.ZipInfo], directories: set[str], limit: int) -> None:
    """Refuse names that are both a file and a directory, and more than ``limit`` directories."""
    needed: set[str] = set()
    for path in directories | {path.rpartition("/")[0] for path in members}:
        while path and path not in needed:
            if path in members:
                raise OMPSUploadedFileError(f"Member {shown(path)} is both a file and a directory")
            needed.add(path)
            path = path.rpartition("/")[0]
    if len(needed) > limit:
        raise OMPSUploadedFileError(
            f"Archive has too many directories: {len(needed)}, the limit is {limit}; {limit_advice('files')}"
        )


def _check_ranges(opened: zipfile.ZipFile) -> None:
    """Refuse members that share bytes, because small zip bombs are made of them."""
    end, last = 0, ""
    for member in sorted(opened.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise OMPSUploadedFileError(f"Members {shown(last)} and {shown(member.orig_filename)} overlap")
        end, last = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size, member.orig_filename


class _Pieces:
    """Reads the members of a zip, and stops when they have more than ``limit`` bytes in total."""

    def __init__(self, opened: zipfile.ZipFile, limit: int) -> None:
        self._opened = opened
        self._limit = self._remaining = limit

    def read(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the content of ``member`` in pieces, but never more than its declared size.

        Raises OMPSUploadedFileError if the content is damaged, exceeds the limit or is not of the declared size.
        """
        # zipfile stops at the declared size, so give it a size that is larger than the limit.
        unbounded = copy.copy(member)
        unbounded.file_size = self._remaining + 2 * _CHUNK
        try:
            stream = self._opened.open(unbounded)
        except _UNREADABLE as error:
            raise _damaged(member, error) from None
        size = 0
        with stream:
            while chunk := _read(stream, member):
                size += len(chunk)
                if size > self._remaining:
                    raise _too_large(self._limit - self._remaining + size, self._limit)
                if size <= member.file_size:
                    yield chunk
        if size != member.file_size:
            raise _damaged(member, None)
        self._remaining -= size


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write ``pieces`` to a new file."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.writelines(pieces)


def _read(stream: IO[bytes], member: zipfile.ZipInfo) -> bytes:
    try:
        return stream.read(_CHUNK)
    except _UNREADABLE as error:
        raise _damaged(member, error) from None


def _damaged(member: zipfile.ZipInfo, error: Exception | None) -> OMPSUploadedFileError:
    reason = _zip_reason(error, "it cannot be read") if error else "its size is not what the archive says"
    return OMPSUploadedFileError(f"Member {shown(member.orig_filename)} is damaged: {reason}")


def _too_large(size: int, limit: int) -> OMPSUploadedFileError:
    return OMPSUploadedFileError(
        f"Uncompressed archive is larger than limit ({size}B>{limit}B): {limit_advice('uncompressed_bytes')}"
    )


def _zip_reason(error: Exception, otherwise: str) -> str:
    """Return zipfile's own message if users can read it (it quotes names with ``repr``), else ``otherwise``."""
    text = str(error)
    return text if isinstance(error, zipfile.BadZipFile) and 0 < len(text) < 300 else otherwise


def shown(name: str, length: int = 80) -> str:
    """Return an untrusted name for use in an error message: escaped, and of limited length."""
    return repr(name) if len(name) <= length else f"{name[:length]!r}…"
