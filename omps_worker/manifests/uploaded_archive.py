# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that somebody brings: what results call them, and their bytes as a plain file."""

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
"""How many characters of a file's name are repeated."""

_CHUNK = 256 * 1024


def base_name(name: str) -> str:
    """The last component of what somebody calls a file, on whatever system, fit to be shown."""
    return printable(name.replace("\\", "/").rstrip("/").rpartition("/")[2], NAME_LIMIT)


@contextmanager
def brought(path: Path, most: int) -> Iterator[tuple[Path, UploadedArchive]]:
    """The file to read, and what results say of it; raises StorageError.

    It is ``path`` itself, unless that is none that can be read twice, like a pipe: then a copy of it, of
    which no more is read than shows that it has more than ``most`` bytes.
    """
    with ExitStack() as kept:
        try:
            file = path
            if not path.is_file():
                file = Path(kept.enter_context(ScratchDirectory()), "archive.zip")
                _copy(path, file, most + 1)
            archive = UploadedArchive(base_name(path.name), _sha256(file))
        except OSError as error:
            raise StorageError.wrap(error) from error
        yield file, archive


def _copy(source: Path, target: Path, most: int) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        while most > 0 and (piece := reading.read(min(_CHUNK, most))):
            writing.write(piece)
            most -= len(piece)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
