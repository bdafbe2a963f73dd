# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of files for tests."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from omps_worker.manifests.file_tree import FilesInMemory, FilesOnDisk


def write_tree(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write ``files`` (relative path: content) into ``directory``, and return ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def tree_of(files: Mapping[str, str | bytes]) -> FilesInMemory:
    """Return ``files`` (relative path: content) as a tree in memory."""
    return FilesInMemory({path: text.encode() if isinstance(text, str) else text for path, text in files.items()})


def tree_below(directory: Path) -> FilesOnDisk:
    """Return a tree of all files in ``directory`` and its subdirectories."""
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return FilesOnDisk(directory, found)


def packed_files(blob: bytes) -> dict[str, bytes]:
    """Return the files in a tar.gz, without its top-level directory."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                files[member.name.partition("/")[2]] = content.read()
    return files
