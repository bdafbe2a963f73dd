# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of the configuration: their sources, their validity, and files that are read again when they change."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.files.regular import NOT_PLAIN, is_plain
from omps_worker.common.files.versions import NOTHING, Version, version_of
from omps_worker.configuration.settings import naming
from omps_worker.configuration.settings.fields import ENVIRONMENT_NAME, is_absence, path_fault
from omps_worker.configuration.settings.tables import Location, Reading, dotted

log = logging.getLogger(__name__)

SECRET_LIMIT = 64 * 1024
"""The maximum size of a file with a secret, in bytes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def secret_fault(text: str) -> str | None:
    """Return why ``text`` is not a valid secret of any kind, or None if it is. Does not repeat the text."""
    if not text:
        return "is empty"
    if _CONTROL.search(text):
        return "contains a line break or another control character"
    return None


def header_fault(text: str) -> str | None:
    """Return why ``text`` is not valid in the value of an HTTP header, or None if it is."""
    if fault := secret_fault(text):
        return fault
    if not text.isascii():
        return "contains characters other than ASCII"
    if text != text.strip():
        return "begins or ends with a space"
    return None


def oauth_fault(text: str) -> str | None:
    """Return why ``text`` is not a valid OAuth token, or None if it is."""
    if re.match(r"bearer\b", text, re.IGNORECASE):
        return 'starts with "Bearer": remove that word'
    if fault := header_fault(text):
        return fault
    return "contains a space" if " " in text else None


class SecretFile:
    """A file with one secret, which is read again when it changes.

    The trailing newline is stripped. If the file becomes unreadable, the last good value stays in use, and the log says
    so once. Safe to use from several threads.
    """

    def __init__(self, path: Path, check: Callable[[str], str | None], key: str) -> None:
        self._path = path
        self._check = check
        self.key = key
        self._lock = threading.Lock()
        self._version: Version | None = None
        self._value: SecretStr | None = None
        self._fault: str | None = None
        self.value_or_none()

    @property
    def fault(self) -> str | None:
        """Why the file could not be read at the last attempt; None if it could."""
        return self._fault

    def value_or_none(self) -> SecretStr | None:
        """Return the secret, or the last good value if the file is invalid now, or None if there never was one."""
        with self._lock:
            version = version_of(self._path)
            if version == NOTHING or version != self._version:
                self._read()
                # If the file was written meanwhile, only a part may have been read.
                self._version = version if version == version_of(self._path) else None
            return self._value

    def _read(self) -> None:
        text, fault = _content(self._path)
        fault = fault or self._check(text)
        if fault is None:
            if self._fault is not None and self._value is not None:
                log.info("%s: the file can be read again", self.key)
            self._value, self._fault = SecretStr(text), None
        elif fault != self._fault:
            self._fault = fault
            if self._value is not None:
                log.error("%s: the file %s; the last good value stays in use", self.key, fault)


def _content(path: Path) -> tuple[str, str | None]:
    try:
        if not is_plain(path):
            return "", NOT_PLAIN
        with path.open("rb") as file:
            data = file.read(SECRET_LIMIT + 1)
    except FileNotFoundError:
        return "", "no longer exists"
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    if len(data) > SECRET_LIMIT:
        return "", f"has more than {SECRET_LIMIT} bytes, which is too large for a secret"
    try:
        return data.decode().rstrip("\r\n"), None
    except UnicodeDecodeError:
        return "", "is not UTF-8 text"


class Secret:
    """A secret from any source: the configuration itself, the environment, or a file.

    ``text`` is its value at the start, if it is not in a file. ``variable`` is the environment variable for it.
    """

    def __init__(
        self, key: str, text: SecretStr | None = None, file: SecretFile | None = None, variable: str | None = None
    ) -> None:
        self._key = key
        self._fixed = text
        self._file = file if self._fixed is None else None
        self._variable = variable

    def get(self) -> SecretStr:
        """Return the current secret. Raises SettingsError if there never was a valid one."""
        value = self._fixed or (self._file.value_or_none() if self._file else None)
        if value is None:
            raise SettingsError([self._fault()], transient=True)
        return value

    def _fault(self) -> Fault:
        if self._file is not None:
            return Fault("configuration", f"{self._key}_file", f"the file {self._file.fault or 'is missing'}")
        if self._variable is not None:
            reason = f"{naming.variable(self._variable)} is not set, or is empty"
            return Fault("configuration", f"{self._key}_env", reason)
        return Fault("configuration", self._key, "the secret is missing")

    def set_section(self, section: Location) -> None:
        """Include the section that the secret belongs to in messages about it."""
        self._key = dotted((*section, self._key))
        if self._file:
            self._file.key = f"{self._key}_file"


def secret_of(
    key: str,
    text: SecretStr | None,
    variable: str | None,
    path: Path | None,
    check: Callable[[str], str | None],
    reading: Reading,
) -> Secret | None:
    """Return the secret that is in ``text``, in an environment variable or in a file; None if there is none.

    ``check`` returns why a text is not valid, or None.
    """
    if text is None and variable is None and path is None:
        return None
    value = _from_environment(variable, reading) if variable else None
    if value and check(value):
        value = None
    file = SecretFile(path, check, f"{key}_file") if path and not value and text is None else None
    return Secret(key, text or (SecretStr(value) if value else None), file, variable)


def _from_environment(variable: str, reading: Reading) -> str:
    return reading.environment.get(variable, "").rstrip("\r\n")


def source_faults(
    table: Mapping[str, Any], key: str, check: Callable[[str], str | None], reading: Reading
) -> Iterator[tuple[Location, str]]:
    """Yield the faults of a secret as written in ``table``: more than one source, or a source that is not valid.

    Its sources are the keys ``key``, ``key_file`` and ``key_env``.
    """
    text, path, variable = table.get(key), table.get(f"{key}_file"), table.get(f"{key}_env")
    if text is not None and (path is not None or variable is not None):
        yield (), f"has two sources of {key}: keep either {key}, or {key}_file and {key}_env"
    if isinstance(text, SecretStr):
        text = text.get_secret_value()
    if isinstance(text, str):
        if fault := check(text):
            yield (key,), fault
        return
    if isinstance(variable, str) and ENVIRONMENT_NAME.fullmatch(variable):
        if value := _from_environment(variable, reading):
            if (fault := check(value)) and reading.counts_as_fault(absent=False):
                yield (f"{key}_env",), f"the value of {naming.variable(variable)} {fault}"
            return
        if path is None and reading.counts_as_fault(absent=True):
            yield (f"{key}_env",), f"{naming.variable(variable)} is not set, or is empty"
    yield from file_faults(path, f"{key}_file", check, reading)


def file_faults(
    path: Any, key: str, check: Callable[[str], str | None], reading: Reading
) -> Iterator[tuple[Location, str]]:
    """Yield why the file that ``key`` names cannot be read, or why ``check`` does not accept its text."""
    if isinstance(path, (str, Path)) and str(path) and "\0" not in str(path):
        full = reading.directory / path
        fault = path_fault(full, reading)
        if fault is None:
            content, fault = _content(full)
            fault = fault or check(content)
        if fault and reading.counts_as_fault(absent=is_absence(fault)):
            yield (key,), naming.of_file(fault, path, reading.directory)
