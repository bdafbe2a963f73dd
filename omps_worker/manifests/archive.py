# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an archive of manifests that comes from outside.

Nothing in a zip can be believed: not the sizes, not the number of members, not a name. So
sizes are counted while unpacking, every name is judged before anything is unpacked, and only
plain files are ever created, each new and inside the given directory.

What is done with each oddity:

=========================================== =================================================
``./a``                                     harmless: becomes ``a``
directory entries                           harmless: a directory exists where a file needs it
modes and times of members                  harmless: every file is 0644 and new
data before the zip, comments               harmless: ignored
``__MACOSX`` and the like                   harmless: files like any other
absolute, ``..``, ``a//b``, ``C:``, ``\\``  refused
NUL, control and invisible characters       refused
long names, deep paths                      refused (``COMPONENT_BYTES``, ``PATH_BYTES``, ``DEPTH``)
names that differ only in case or form      harmless: different files
the same name twice                         refused: nobody knows which one is meant
``a`` beside ``a/b``, a directory with data refused
symbolic links, devices, pipes              refused
encrypted, damaged, overlapping members     refused
other compressions than deflate             refused: bzip2 and LZMA can ask for gigabytes at once
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
from omps_worker.common.limits import Limits, whose
from omps_worker.manifests.file_tree import FilesInMemory, FilesOnDisk, FileTree

COMPONENT_BYTES = 255
"""The longest name of a file or directory: what common file systems take."""

PATH_BYTES = 1000
"""The longest path inside the archive."""

DEPTH = 32
"""The most directories a file may be inside of: removing a tree holds one open file for each."""

IN_MEMORY = 2 * 2**20
"""How many bytes the files of one archive may have to be kept in memory. The largest operators have some more."""

NAMES_BYTES = 512 * 1024
"""What all paths together may take; they travel in the result message."""

_CENTRAL_HEADER = b"PK\x01\x02"
_LOCAL_HEADER_BYTES = 30
_CHUNK = 64 * 1024
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UNREADABLE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, zlib.error,
    EOFError, ValueError, OverflowError, LookupError, OSError,
)  # fmt: skip


def unpack(archive: Path, directory: Path, limits: Limits, in_memory: int = IN_MEMORY) -> FileTree:
    """The files in ``archive``: in memory if they say that they have no more than ``in_memory`` bytes together.

    Otherwise they are written into ``directory``, which must be empty or not exist yet. An archive without
    members is none of this function's business: it gives no files.

    Raises OMPSUploadedFileError, naming the member, when the archive is no zip, is damaged,
    exceeds ``limits`` or has a member that is refused; trying again does not help. What was
    written until then stays: the caller removes the directory. Raises OSError if the disk fails.
    """
    size = archive.stat().st_size
    if size > limits.archive_bytes:
        raise OMPSUploadedFileError(
            f"Archive is larger than limit ({size}B>{limits.archive_bytes}B): {whose('archive_bytes')}"
        )
    data = archive.read_bytes()
    most_members = 2 * limits.files + 16
    # Counted in the raw bytes: zipfile would first build an object for each of millions of members.
    if data.count(_CENTRAL_HEADER) > most_members:
        raise OMPSUploadedFileError(f"Archive has too many members: more than {most_members}; {whose('files')}")
    try:
        opened = zipfile.ZipFile(io.BytesIO(data))
    except UnicodeDecodeError:
        raise OMPSUploadedFileError("Archive has a member whose name is not UTF-8 although it says so") from None
    except _UNREADABLE as error:
        raise OMPSUploadedFileError(_told(error, "File is not a zip file")) from None
    with opened:
        members = _judged(opened, limits)
        pieces = _Pieces(opened, limits.uncompressed_bytes)
        if sum(member.file_size for member in members.values()) <= in_memory:
            return FilesInMemory({path: b"".join(pieces.of(member)) for path, member in members.items()})
        directory.mkdir(parents=True, exist_ok=True)
        for path, member in members.items():
            _write(directory / path, pieces.of(member))
    return FilesOnDisk(directory, members)


def _judged(opened: zipfile.ZipFile, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The members to write, by path; raises if any member is to be refused."""
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
            raise OMPSUploadedFileError(f"Member {shown(path)} is there more than once")
        members[path] = member
    if len(members) > limits.files:
        raise OMPSUploadedFileError(
            f"Archive has too many files: {len(members)}, the limit is {limits.files}; {whose('files')}"
        )
    if total > NAMES_BYTES:
        raise OMPSUploadedFileError(f"Archive has too long names: {total} bytes together, the limit is {NAMES_BYTES}")
    _check_names(members, directories, limits.files)
    _check_ranges(opened)
    declared = sum(member.file_size for member in members.values())
    if declared > limits.uncompressed_bytes:
        raise _too_large(declared, limits.uncompressed_bytes)
    return members


def _path(member: zipfile.ZipInfo) -> str:
    """The relative path of a member, without ``.`` components; empty for the root itself."""
    name = member.orig_filename
    if not name.replace("\0", "?").isprintable():
        reason = "has control or invisible characters in its name"
    elif "\0" in name or not name:
        reason = "has a NUL in its name" if name else "has no name"
    elif "\\" in name:
        reason = "has a backslash in its name; / is what separates directories"
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
        reason = "is a directory by its mode and a file by its name"
    elif member.is_dir() and member.file_size:
        reason = "is a directory with content"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = f"is compressed in an unsupported way ({member.compress_type}); only deflate is supported"
    else:
        return
    raise OMPSUploadedFileError(f"Member {shown(member.orig_filename)} {reason}")


def _check_names(members: dict[str, zipfile.ZipInfo], directories: set[str], most: int) -> None:
    """Refuse names that are two things at once, and more than ``most`` directories."""
    needed: set[str] = set()
    for path in directories | {path.rpartition("/")[0] for path in members}:
        while path and path not in needed:
            if path in members:
                raise OMPSUploadedFileError(f"Member {shown(path)} is a file and a directory")
            needed.add(path)
            path = path.rpartition("/")[0]
    if len(needed) > most:
        raise OMPSUploadedFileError(
            f"Archive has too many directories: {len(needed)}, the limit is {most}; {whose('files')}"
        )


def _check_ranges(opened: zipfile.ZipFile) -> None:
    """Refuse members that share bytes: that is how small zip bombs are made."""
    end, last = 0, ""
    for member in sorted(opened.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise OMPSUploadedFileError(f"Members {shown(last)} and {shown(member.orig_filename)} overlap")
        end, last = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size, member.orig_filename


class _Pieces:
    """What is in the members of a zip, until they have more than ``limit`` bytes together."""

    def __init__(self, opened: zipfile.ZipFile, limit: int) -> None:
        self._opened = opened
        self._limit = self._room = limit

    def of(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """What is in ``member``, a piece after the other; of one that has more than it says, no more than that."""
        # zipfile stops at the declared size, so it is told one that is larger than what may come.
        unbounded = copy.copy(member)
        unbounded.file_size = self._room + 2 * _CHUNK
        try:
            stream = self._opened.open(unbounded)
        except _UNREADABLE as error:
            raise _damaged(member, error) from None
        size = 0
        with stream:
            while chunk := _read(stream, member):
                size += len(chunk)
                if size > self._room:
                    raise _too_large(self._limit - self._room + size, self._limit)
                if size <= member.file_size:
                    yield chunk
        if size != member.file_size:
            raise _damaged(member, None)
        self._room -= size


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
    reason = _told(error, "it cannot be read") if error else "its size is not what the archive says"
    return OMPSUploadedFileError(f"Member {shown(member.orig_filename)} is damaged: {reason}")


def _too_large(size: int, limit: int) -> OMPSUploadedFileError:
    return OMPSUploadedFileError(
        f"Uncompressed archive is larger than limit ({size}B>{limit}B): {whose('uncompressed_bytes')}"
    )


def _told(error: Exception, otherwise: str) -> str:
    """What zipfile says is wrong, if it is fit for a person; it quotes names with ``repr``."""
    text = str(error)
    return text if isinstance(error, zipfile.BadZipFile) and 0 < len(text) < 300 else otherwise


def shown(name: str, length: int = 80) -> str:
    """A name from outside, as an error message may show it: escaped and of bounded length."""
    return repr(name) if len(name) <= length else f"{name[:length]!r}…"
