# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of values in the configuration: texts, numbers, URLs, paths, names on the broker.

Each rejects invalid values with a ValueError that says what to write instead and never repeats the value.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict, ValidationInfo, WithJsonSchema

from omps_worker.configuration.settings import naming
from omps_worker.configuration.settings.tables import Reading
from omps_worker.destinations import versions

TOPIC_LIMIT = 255
"""The longest topic, exchange or queue name in bytes: AMQP 0-9-1 has them as short strings."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_FILE = "there is no such file"
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

Flag = Annotated[bool, Strict()]
Number = Annotated[int, Strict()]


def _text(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters or line breaks")
    return value


Text = Annotated[str, Strict(), AfterValidator(_text)]
"""Text without control characters; may be empty."""
Name = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_text)]
"""Text without control characters, not empty."""


def split_url(value: str, schemes: tuple[str, ...]) -> SplitResult:
    """Split ``value`` into its parts. Raises ValueError if it is not a URL of one of ``schemes``."""
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if not value or not value.isascii() or _CONTROL.search(value) or " " in value or "\\" in value:
        raise ValueError(f"must be a URL that starts with {wanted}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or port cannot be read") from None
    if parts.scheme not in schemes or not value[len(parts.scheme) :].startswith("://"):
        raise ValueError(f"must be a URL that starts with {wanted}")
    if port == 0:
        raise ValueError("is not a URL: there is no port 0")
    return parts


def _http_url(value: str) -> str:
    parts = split_url(value, ("http", "https"))
    if not parts.hostname:
        raise ValueError("is not a URL: it names no host")
    if "@" in parts.netloc:
        raise ValueError("must not contain credentials: set them with their own keys")
    if "?" in value or "#" in value:
        raise ValueError("must be a base URL, without a query or a fragment (? or #)")
    return value.rstrip("/")


HttpUrl = Annotated[str, Strict(), AfterValidator(_http_url), WithJsonSchema({"type": "string", "format": "uri"})]
"""The base URL of a service, http or https, without a trailing slash."""


def _amqp_url(value: SecretStr) -> SecretStr:
    try:
        split_url(value.get_secret_value(), ("amqp", "amqps"))
    except ValueError as error:
        raise ValueError(f"{error} (in a password, write / # @ as %2F %23 %40)") from None
    return value


AmqpUrl = Annotated[SecretStr, AfterValidator(_amqp_url)]
"""The URL of the broker; a secret, because it usually contains a password."""


def is_local(url: str) -> bool:
    """Return whether ``url`` names a loopback address."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, (str, Path)):
        raise ValueError("must be a path (text in quotes)")
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("must be a path and must not be empty")
    return Reading.of(info).directory / text


def path_fault(path: Path, reading: Reading, *, directories: bool = False) -> str | None:
    """Return why ``path`` is not a readable file (or, with ``directories``, a readable directory), or None if it is."""
    try:
        path.stat()
        if path.is_dir():
            if not directories:
                return "is a directory, not a file"
        elif not path.is_file():
            return "is not a regular file"
    except FileNotFoundError:
        return f"{_NO_FILE} (relative paths start in {reading.directory})"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if os.access(path, os.R_OK) else "cannot be read: permission denied"


def is_absence(fault: str) -> bool:
    """Return whether a ``path_fault`` says that there is no such file."""
    return fault.startswith(_NO_FILE)


def _readable(path: Path, info: ValidationInfo) -> Path:
    reading = Reading.of(info)
    fault = path_fault(path, reading)
    if fault and reading.counts_as_fault(absent=is_absence(fault)):
        raise ValueError(naming.of_file(fault, path, reading.directory))
    return path


def _certificates(path: Path, info: ValidationInfo) -> Path:
    reading = Reading.of(info)
    fault = path_fault(path, reading, directories=True)
    if fault is None and path.is_file():
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except (ssl.SSLError, OSError):
            fault = "contains no certificate in PEM format"
    if fault and reading.counts_as_fault(absent=is_absence(fault)):
        raise ValueError(naming.of_file(fault, path, reading.directory))
    return path


_PATH_SCHEMA = WithJsonSchema({"type": "string", "minLength": 1})
AnyPath = Annotated[Path, BeforeValidator(_path), _PATH_SCHEMA]
"""A path, made absolute. The file need not exist."""
FilePath = Annotated[Path, BeforeValidator(_path), AfterValidator(_readable), _PATH_SCHEMA]
"""A file that exists and is readable."""
CertificatesPath = Annotated[Path, BeforeValidator(_path), AfterValidator(_certificates), _PATH_SCHEMA]
"""A file of PEM certificates, or a directory of them that ``openssl rehash`` has prepared."""


def _short(value: str) -> str:
    if len(_text(value).encode()) > TOPIC_LIMIT:
        raise ValueError(f"must have at most {TOPIC_LIMIT} bytes")
    return value


ShortName = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_short)]
"""The name of a queue or an exchange, or a routing key."""


def _topic_prefix(value: str) -> str:
    limit = TOPIC_LIMIT - len(".omps.release.published")
    if len(_text(value).encode()) > limit:
        raise ValueError(f"must have at most {limit} bytes, because topics may have at most {TOPIC_LIMIT}")
    if any(character in value for character in "*# "):
        raise ValueError("must not contain *, # or spaces: it is a prefix, not a pattern")
    if not all(value.split(".")):
        raise ValueError("must be words joined by single dots, without a dot at either end")
    return value


TopicPrefix = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_topic_prefix)]
"""The prefix of result topics, such as ``org.example.prod``."""


def _environment_name(value: str) -> str:
    if not ENVIRONMENT_NAME.fullmatch(value):
        raise ValueError("must be the name of an environment variable: letters, digits and _")
    return value


EnvironmentName = Annotated[str, Strict(), AfterValidator(_environment_name)]
"""The name of an environment variable that holds a secret."""


def _log_level(value: str) -> str:
    if value.upper() not in _LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(_LOG_LEVELS)}")
    return value.upper()


LogLevel = Annotated[
    str, Strict(), AfterValidator(_log_level), WithJsonSchema({"type": "string", "enum": list(_LOG_LEVELS)})
]


def _release_version(value: str) -> str:
    if not versions.is_valid(value):
        raise ValueError("must be three integers joined by dots, without leading zeros, like 1.0.0")
    return value


ReleaseVersion = Annotated[str, Strict(), AfterValidator(_release_version)]
"""A valid version of a release: x.y.z."""


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    for key, item in value.items():
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise ValueError(f"{key} does not fit into 64 bits")
    return value


Arguments = Annotated[dict[str, Any], AfterValidator(_arguments)]
"""Arguments of a queue or an exchange, as RabbitMQ accepts them."""
Port = Annotated[int, Strict(), Field(ge=0, le=65535)]
"""A port to listen on; 0 lets the system choose."""
