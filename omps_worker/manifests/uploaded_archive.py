# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that a user uploads or names on the command line: their names in results, and their bytes as a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omps_worker.common.errors import StorageError
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.http_client.client import printable
from omps_worker.common.model import UploadedArchive

NAME_LIMIT = 255
"""The most characters of a file name that are shown."""

_CHUNK = 256 * 1024


def base_name(name: str) -> str:
    """Return the last component of a user's file name, from any operating system, without unprintable characters."""
    return printable(name.replace("\\", "/").rstrip("/").rpartition("/")[2], NAME_LIMIT)


@contextmanager
def open_archive(path: Path, limit: int) -> Iterator[tuple[Path, UploadedArchive]]:
    """Yield a file to read the archive from, and the archive's description for results. Raises StorageError.

    The file is ``path`` itself if it is a regular file. Otherwise, as for a pipe, which can be read only once, it is a
    temporary copy. At most ``limit`` + 1 bytes are copied, enough to see that the archive exceeds the limit.
    """
    with ExitStack() as stack:
        try:
            file = path
            if not path.is_file():
                file = Path(stack.enter_context(ScratchDirectory()), "archive.zip")
                _copy(path, file, limit + 1)
            archive = UploadedArchive(base_name(path.name), _sha256(file))
        except OSError as error:
            raise StorageError.wrap(error) from error
        yield file, archive


def _copy(source: Path, target: Path, limit: int) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        while limit > 0 and (piece := reading.read(min(_CHUNK, limit))):
            writing.write(piece)
            limit -= len(piece)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
