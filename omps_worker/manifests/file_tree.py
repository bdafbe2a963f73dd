# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an unpacked archive: in memory if they are small, otherwise on disk.

Creating and removing a file costs more than reading a manifest of usual size, on some file systems many times more.
Most operators have a few dozen small files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

_CHUNK = 2**18


class FileTree(Protocol):
    """Files by their relative paths, with ``/`` between components. Safe to read from several threads."""

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files, sorted."""

    def read(self, path: str) -> bytes:
        """Return the content of one of the files. Raises OSError if the disk fails."""

    def pieces(self, path: str) -> tuple[int, Iterable[bytes]]:
        """Return the size of one of the files in bytes, and its content in pieces. Raises OSError like ``read``."""


class FilesInMemory:
    """A FileTree that is kept in memory."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self._content = content
        self.files = tuple(sorted(content))
        """See FileTree."""

    def read(self, path: str) -> bytes:
        """See FileTree."""
        return self._content[path]

    def pieces(self, path: str) -> tuple[int, Iterable[bytes]]:
        """See FileTree."""
        content = self._content[path]
        return len(content), (content,)


class FilesOnDisk:
    """A FileTree of the regular files ``files`` in ``directory``."""

    def __init__(self, directory: Path, files: Iterable[str]) -> None:
        self.directory = directory
        self.files = tuple(sorted(files))
        """See FileTree."""

    @classmethod
    def copy_of(cls, tree: FileTree, directory: Path) -> FilesOnDisk:
        """Write the files of ``tree`` into the new ``directory``. Raises OSError if the disk fails."""
        created = set()
        for path in tree.files:
            file = directory / path
            if file.parent not in created:
                file.parent.mkdir(parents=True, exist_ok=True)
                created.add(file.parent)
            with file.open("xb") as opened:
                opened.writelines(tree.pieces(path)[1])
        return cls(directory, tree.files)

    def read(self, path: str) -> bytes:
        """See FileTree."""
        return (self.directory / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """Replace the content of one of the files. Raises OSError if the disk fails."""
        (self.directory / path).write_bytes(content)

    def pieces(self, path: str) -> tuple[int, Iterable[bytes]]:
        """See FileTree."""
        return (self.directory / path).stat().st_size, self._pieces(path)

    def _pieces(self, path: str) -> Iterable[bytes]:
        with (self.directory / path).open("rb", buffering=0) as file:
            yield from iter(partial(file.read, _CHUNK), b"")
