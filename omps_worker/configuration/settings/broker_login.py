# SPDX-License-Identifier: GPL-3.0-or-later
"""The section ``[consumer_config.broker]``: additional nodes of the broker, and a password outside the URL."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, Strict

from omps_worker.common.errors import SettingsError
from omps_worker.common.files.versions import Version, version_of
from omps_worker.configuration.settings import naming
from omps_worker.configuration.settings.fields import (
    ENVIRONMENT_NAME,
    AnyPath,
    EnvironmentName,
    HttpUrl,
    is_absence,
    path_fault,
    split_url,
)
from omps_worker.configuration.settings.secrets import Secret, SecretFile, secret_fault
from omps_worker.configuration.settings.tables import Location, Reading, Table

log = logging.getLogger(__name__)

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_MOST_HOSTS = 16


def _host(value: str) -> str:
    found = _HOST.fullmatch(value)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        raise ValueError("must be a host, or host:port, such as node2.example.com:5671")
    return value


Host = Annotated[str, Strict(), AfterValidator(_host)]
"""A host with or without a port."""


class BrokerSettings(Table):
    """Additional nodes of the broker, and where its password is."""

    hosts: tuple[Host, ...] = Field(
        default=(),
        max_length=_MOST_HOSTS - 1,
        description="Additional nodes of the cluster, host or host:port; each connection tries the nodes in turn.",
    )
    password_file: AnyPath | None = Field(
        default=None, description="A file with the password of the user in amqp_url; read again for each connection."
    )
    password_env: EnvironmentName | None = Field(
        default=None, description="The environment variable with the password."
    )

    management_url: HttpUrl | None = Field(
        default=None,
        description="The base URL of RabbitMQ's management API, which `check` queries for the bindings of the queue.",
    )

    _password: Secret | None = PrivateAttr(default=None)

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that the password comes from one place and can be read."""
        path, variable = table.get("password_file"), table.get("password_env")
        if path is not None and variable is not None:
            yield (), "has two sources of the password: keep password_file or password_env"
        if isinstance(variable, str) and ENVIRONMENT_NAME.fullmatch(variable):
            value = _from_environment(variable, reading)
            if not value and reading.counts_as_fault(absent=True):
                yield ("password_env",), f"{naming.variable(variable)} is not set, or is empty"
            elif value and (fault := secret_fault(value)) and reading.counts_as_fault(absent=False):
                yield ("password_env",), f"the value of {naming.variable(variable)} {fault}"
        if isinstance(path, (str, Path)) and str(path) and "\0" not in str(path):
            full = reading.directory / path
            fault = path_fault(full, reading) or SecretFile(full, secret_fault, "password_file").fault
            if fault and reading.counts_as_fault(absent=is_absence(fault)):
                yield ("password_file",), naming.of_file(fault, path, reading.directory)

    def model_post_init(self, context: Any) -> None:
        """Find the password in a file or in the environment of the reading."""
        reading = context if isinstance(context, Reading) else Reading()
        key = "consumer_config.broker.password"
        if self.password_file is not None:
            self._password = Secret(key, file=SecretFile(self.password_file, secret_fault, f"{key}_file"))
        elif self.password_env is not None:
            value = _from_environment(self.password_env, reading)
            good = value and not secret_fault(value)
            self._password = Secret(key, SecretStr(value) if good else None, variable=self.password_env)

    @property
    def password(self) -> Secret | None:
        """The source of the password, or None if it is in the URL."""
        return self._password

    def further_hosts(self, port: int) -> list[tuple[str, int]]:
        """Return the additional nodes as hosts and ports; ``port`` is the default port."""
        found = [_HOST.fullmatch(host) for host in self.hosts]
        return [(each["host"].strip("[]"), int(each["port"] or port)) for each in found if each is not None]


def _from_environment(variable: str, reading: Reading) -> str:
    return reading.environment.get(variable, "").rstrip("\r\n")


def has_password(url: str) -> bool:
    """Return whether ``url`` contains a password; false if it is not a URL."""
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return False


def login_faults(table: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Yield the faults of amqp_url and [consumer_config.broker] taken together; ``table`` is the whole file."""
    url, worker = table.get("amqp_url"), table.get("consumer_config")
    broker = worker.get("broker") if isinstance(worker, Mapping) else None
    if not isinstance(broker, Mapping):
        return
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    try:
        parts = split_url(text, ("amqp", "amqps")) if isinstance(text, str) else None
    except ValueError:
        return
    if parts is None:
        return
    for key in ("password_file", "password_env"):
        location: Location = ("consumer_config", "broker", key)
        if key in broker and parts.password is not None:
            yield location, "is a second source of the password: remove the password from amqp_url"
        elif key in broker and not parts.username:
            yield location, "requires a user in amqp_url, as in amqps://user@host/"


class BrokerUrl:
    """amqp_url with the current password. Safe to use from several threads.

    ``password``: its source, if it is not in the URL. ``renewed`` reads the URL from ``file`` again; None if the URL
    did not come from a file. If the file cannot be read, that is logged once, and the last good URL stays in use.
    """

    def __init__(
        self,
        url: SecretStr,
        password: Secret | None = None,
        file: Path | None = None,
        renewed: Callable[[], str | None] | None = None,
    ) -> None:
        self._url = url
        self._password = password
        self._file = file
        self._renewed = renewed
        self._lock = threading.Lock()
        self._version: Version | None = None
        self._logged: str | None = None

    def now(self) -> SecretStr:
        """Return the current URL."""
        if self._password is not None:
            return SecretStr(_with_password(self._url.get_secret_value(), self._password.get().get_secret_value()))
        with self._lock:
            if self._file is not None and self._renewed is not None:
                version = version_of(self._file)
                if version != self._version and self._read_again(self._renewed):
                    self._version = version
            return self._url

    def _read_again(self, renewed: Callable[[], str | None]) -> bool:
        """Read the file again. Return False if it must be read once more at the next call."""
        try:
            url = renewed()
            if url is not None:
                split_url(url, ("amqp", "amqps"))
        except (SettingsError, ValueError):
            self._log_once("cannot be read again: the last good amqp_url stays in use")
            return False
        if url is None or _without_login(url) != _without_login(self._url.get_secret_value()):
            self._log_once(
                "now names another broker, which requires a restart: the amqp_url from the start stays in use"
            )
            return True
        if url != self._url.get_secret_value():
            log.info("%s: amqp_url has a new login, which is used for new connections", self._file)
        self._url, self._logged = SecretStr(url), None
        return True

    def _log_once(self, what: str) -> None:
        if what != self._logged:
            log.error("%s %s", self._file, what)
            self._logged = what


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    user, _, rest = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{rest}").geturl()


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
