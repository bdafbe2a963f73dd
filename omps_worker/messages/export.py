# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping messages in files, one each, under names that cannot lead anywhere else."""

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
"""How many letters of a message's id its file name has at most."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Export:
    """Writes into one directory, which is made if it is missing. Raises StorageError where it cannot.

    A file is named by the message's id, as far as that is harmless, and by its content. So the same
    message gets the same file each time, another copy another one, and no file is ever replaced.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: Counter[str] = Counter()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explained(directory, error) from None

    def write(self, message_id: str, document: Mapping[str, Any]) -> tuple[Path, bool]:
        """Keep ``document`` as one line of JSON; returns the file, and False if it was there already."""
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
            raise StorageError(
                f"{path} exists and holds something else; it is left as it is.", transient=False
            ) from None
        except OSError as error:
            raise _explained(path, error) from None
        return path, True

    def _name(self, message_id: str, content: bytes) -> str:
        known = _UNSAFE.sub("_", message_id)[:NAME_LIMIT] or "message"
        name = f"{known}-{hashlib.sha256(content).hexdigest()[:12]}"
        self._names[name] += 1
        count = self._names[name]
        return f"{name}.json" if count == 1 else f"{name}-{count}.json"


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _explained(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror or type(error).__name__}.", transient=False)
