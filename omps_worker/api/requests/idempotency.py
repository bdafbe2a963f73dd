# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that are sent again: the header ``Idempotency-IdempotencyKey``, and what was begun for each key.

Before a release is pushed, the version that it gets is written down under the key. Whoever sends the same request
again, because the reply was lost or did not come in time, gets that release, if the registry has it with this very
content; nothing else is believed. What is written down is for everybody who uses the same state directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from omps_worker.common.error_details import why
from omps_worker.common.errors import InvalidIdempotencyKey, StorageError
from omps_worker.common.files.small import read_small, write_small
from omps_worker.destinations.app_registry import versions

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"

KEPT_SECONDS = 24 * 3600.0
"""For how long a key is known."""

KEPT = 20_000
"""How many keys are known at most."""

SWEEP_SECONDS = 600.0
"""How often those are removed that are too old."""

_KEY = re.compile(r"[!-~][ -~]{0,253}[!-~]|[!-~]")
_SUFFIX = ".request"
_VERSION_BYTES = 200


def checked(value: str | None) -> str | None:
    """The key of a request, None if it has none. Raises InvalidIdempotencyKey."""
    if value is None:
        return None
    if not _KEY.fullmatch(value):
        raise InvalidIdempotencyKey(f"The header {HEADER} must have 1 to 255 printable ASCII characters.")
    return value


class IdempotencyKeys:
    """The keys in one directory, which ``directory`` gives when there is the first one; for any number of threads."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._find_directory = directory
        self._directory: Path | None = None
        self._swept = 0.0
        self._lock = threading.Lock()

    def of(self, key: str, organization: str, authorization: SecretStr) -> IdempotencyKey:
        """That of one request. A key counts for one token in one organization. Raises SettingsError."""
        with self._lock:
            if self._directory is None:
                self._directory = self._find_directory()
            now = time.monotonic()
            due = not self._swept or now - self._swept > SWEEP_SECONDS
            self._swept = now if due else self._swept
        if due:
            _sweep(self._directory)
        told = json.dumps([authorization.get_secret_value(), organization, key])
        return IdempotencyKey(self._directory / (hashlib.sha256(told.encode()).hexdigest() + _SUFFIX))


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What is written down for one key."""

    path: Path

    def earlier(self) -> str | None:
        """The version that was noted lately. Raises StorageError."""
        try:
            version, changed = read_small(self.path, _VERSION_BYTES)
            if not versions.is_valid(version):
                raise ValueError("no version")
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s holds %s instead of what was written there: the key counts as new", self.path.name, error)
            return None
        except OSError as error:
            raise _unusable(error) from error
        return version if time.time() - changed < KEPT_SECONDS else None

    def note(self, version: str) -> None:
        """Write ``version`` down. Raises StorageError: then nothing must be pushed."""
        try:
            write_small(self.path, version)
        except OSError as error:
            raise _unusable(error) from error


def _unusable(error: OSError) -> StorageError:
    return StorageError(f"The state directory cannot be used: {why(error)}.")


def _sweep(directory: Path) -> None:
    """Remove what is too old, and the oldest of too many."""
    found: list[tuple[float, Path]] = []
    for path in directory.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            found.append((path.lstat().st_mtime, path))
    found.sort()
    oldest = time.time() - KEPT_SECONDS
    for number, (changed, path) in enumerate(found):
        if changed < oldest or number < len(found) - KEPT:
            with contextlib.suppress(OSError):
                path.unlink()
