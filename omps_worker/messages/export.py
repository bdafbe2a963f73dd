# SPDX-License-Identifier: GPL-3.0-or-later
"""Export of messages to files, one message per file, under names that cannot point outside the directory."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omps_worker.common.errors import StorageError

NAME_LIMIT = 100
"""The number of characters of the message id that a file name contains at most."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Export:
    """A directory to export messages to. It is created if it is missing; raises StorageError if it cannot be.

    A file's name is made of the message's id, without unsafe characters, and of a hash of its content. The same message
    therefore gets the same file each time, a different copy gets another file, and no file is replaced.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: Counter[str] = Counter()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _write_error(directory, error) from None

    def write(self, message_id: str, document: Mapping[str, Any]) -> tuple[Path, bool]:
        """Write ``document`` as one line of JSON. Return the file, and False if it already existed.

        Raises StorageError if the file cannot be written, or if it exists with other content.
        """
        content = json.dumps(document).encode() + b"\n"
        path = self._directory / self._name(message_id, content)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            try:
                with partial.open("xb") as file:
                    file.write(content)
                # Unlike a rename, a link replaces nothing.
                os.link(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        except FileExistsError:
            if _holds(path, content):
                return path, False
            raise StorageError(f"{path} exists with other content and is not changed.", transient=False) from None
        except OSError as error:
            raise _write_error(path, error) from None
        return path, True

    def _name(self, message_id: str, content: bytes) -> str:
        safe_id = _UNSAFE.sub("_", message_id)[:NAME_LIMIT] or "message"
        name = f"{safe_id}-{hashlib.sha256(content).hexdigest()[:12]}"
        self._names[name] += 1
        count = self._names[name]
        return f"{name}.json" if count == 1 else f"{name}-{count}.json"


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _write_error(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror or type(error).__name__}.", transient=False)
