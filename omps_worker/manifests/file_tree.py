# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that came out of an archive: in memory where they are small, on disk otherwise.

To make a file and to remove it again costs more than to read a manifest of usual size, on some file systems
many times more. Most operators have some dozens of small files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

_CHUNK = 2**18


class FileTree(Protocol):
    """Files by their relative paths, with ``/`` between components; safe to read from several threads."""

    @property
    def files(self) -> tuple[str, ...]:
        """The path of each file, sorted."""

    def read(self, path: str) -> bytes:
        """What is in one of the files. Raises OSError if the disk fails."""

    def pieces(self, path: str) -> tuple[int, Iterable[bytes]]:
        """How many bytes one of the files has, and these, a piece after the other. Raises OSError as ``read``."""


class FilesInMemory:
    """A FileTree of files that are nowhere else."""

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
    """A FileTree of the plain files ``files``, which are in ``directory``."""

    def __init__(self, directory: Path, files: Iterable[str]) -> None:
        self.directory = directory
        self.files = tuple(sorted(files))
        """See FileTree."""

    @classmethod
    def copy_of(cls, tree: FileTree, directory: Path) -> FilesOnDisk:
        """The files of ``tree``, written into ``directory``, which is made. Raises OSError if the disk fails."""
        made = set()
        for path in tree.files:
            file = directory / path
            if file.parent not in made:
                file.parent.mkdir(parents=True, exist_ok=True)
                made.add(file.parent)
            with file.open("xb") as opened:
                opened.writelines(tree.pieces(path)[1])
        return cls(directory, tree.files)

    def read(self, path: str) -> bytes:
        """See FileTree."""
        return (self.directory / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """Put ``content`` in the place of what is in one of the files. Raises OSError if the disk fails."""
        (self.directory / path).write_bytes(content)

    def pieces(self, path: str) -> tuple[int, Iterable[bytes]]:
        """See FileTree."""
        return (self.directory / path).stat().st_size, self._pieces(path)

    def _pieces(self, path: str) -> Iterable[bytes]:
        with (self.directory / path).open("rb", buffering=0) as file:
            yield from iter(partial(file.read, _CHUNK), b"")
