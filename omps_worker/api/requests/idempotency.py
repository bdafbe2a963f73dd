# SPDX-License-Identifier: GPL-3.0-or-later
"""Repeated requests: the header ``Idempotency-Key``, and the version that was recorded for each key.

Before a release is pushed, its version is recorded under the key of the request. If the client repeats the request,
because the reply was lost or late, it gets that release, provided that the registry has it with exactly this content;
a record alone is never trusted. Records are shared by all processes that use the same state directory.
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

from omps_worker.common.error_details import system_reason
from omps_worker.common.errors import InvalidIdempotencyKey, StorageError
from omps_worker.common.files.small import read_small, write_small
from omps_worker.destinations import versions

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"

KEPT_SECONDS = 24 * 3600.0
"""How long a key is valid."""

KEPT = 20_000
"""The maximum number of keys that are stored."""

SWEEP_SECONDS = 600.0
"""The interval at which expired keys are removed."""

_KEY = re.compile(r"[!-~][ -~]{0,253}[!-~]|[!-~]")
_SUFFIX = ".request"
_VERSION_BYTES = 200


def checked(value: str | None) -> str | None:
    """Return the key of a request, or None if it has none. Raises InvalidIdempotencyKey."""
    if value is None:
        return None
    if not _KEY.fullmatch(value):
        raise InvalidIdempotencyKey(f"The header {HEADER} must have 1 to 255 printable ASCII characters.")
    return value


class IdempotencyKeys:
    """The keys in one directory, which ``directory`` returns when the first key arrives. Thread-safe."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._find_directory = directory
        self._directory: Path | None = None
        self._swept = 0.0
        self._lock = threading.Lock()

    def of(self, key: str, organization: str, authorization: SecretStr) -> IdempotencyKey:
        """Return the key of one request. A key is valid for one token in one organization. Raises SettingsError."""
        with self._lock:
            if self._directory is None:
                self._directory = self._find_directory()
            now = time.monotonic()
            due = not self._swept or now - self._swept > SWEEP_SECONDS
            self._swept = now if due else self._swept
        if due:
            _sweep(self._directory)
        scope = json.dumps([authorization.get_secret_value(), organization, key])
        return IdempotencyKey(self._directory / (hashlib.sha256(scope.encode()).hexdigest() + _SUFFIX))


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The record of one key, in a file."""

    path: Path

    def earlier(self) -> str | None:
        """Return the recorded version, or None if there is none or it has expired. Raises StorageError."""
        try:
            version, changed = read_small(self.path, _VERSION_BYTES)
            if not versions.is_valid(version):
                raise ValueError("no version")
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s contains %s instead of a version: the key counts as new", self.path.name, error)
            return None
        except OSError as error:
            raise _unusable(error) from error
        return version if time.time() - changed < KEPT_SECONDS else None

    def note(self, version: str) -> None:
        """Record ``version``. Raises StorageError; nothing must be pushed then."""
        try:
            write_small(self.path, version)
        except OSError as error:
            raise _unusable(error) from error


def _unusable(error: OSError) -> StorageError:
    return StorageError(f"The state directory cannot be used: {system_reason(error)}.")


def _sweep(directory: Path) -> None:
    """Remove expired keys, and the oldest ones above the limit."""
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
