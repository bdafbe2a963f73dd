# SPDX-License-Identifier: GPL-3.0-or-later
"""The organizations of the registry in the configuration: credentials and transformations."""

from __future__ import annotations

import base64
import logging
import re
import string
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, Strict

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.files.regular import NOT_PLAIN, is_plain
from omps_worker.common.files.versions import NOTHING, Version, version_of
from omps_worker.configuration.settings import naming
from omps_worker.configuration.settings.fields import (
    ENVIRONMENT_NAME,
    AnyPath,
    EnvironmentName,
    Flag,
    Name,
    Text,
    is_absence,
    path_fault,
)
from omps_worker.configuration.settings.tables import Location, Reading, Table, dotted
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations

log = logging.getLogger(__name__)

SECRET_LIMIT = 64 * 1024
"""The maximum size of a file with a secret, in bytes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SUFFIX = re.compile(r"[A-Za-z0-9._-]*")


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

    def set_organization(self, organization: str) -> None:
        """Include the name of the organization in messages about this secret."""
        self._key = dotted(("consumer_config", "organizations", organization, self._key))
        if self._file:
            self._file.key = f"{self._key}_file"


class RegistryReplacement(Table):
    """One replacement of a registry in the manifests."""

    old: Annotated[str, Strict(), Field(min_length=1, description="The text to search for.")]
    new: Annotated[str, Strict(), Field(description="The replacement.")]
    regexp: Flag = Field(default=False, description="Whether `old` is a regular expression (Python's `re`).")

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that a regular expression compiles, and that its replacement refers only to groups that it has."""
        old, new = table.get("old"), table.get("new")
        if table.get("regexp") is not True or not isinstance(old, str):
            return
        try:
            pattern = re.compile(old, re.MULTILINE)
        except (re.error, OverflowError, RecursionError) as error:
            yield ("old",), f"is not a regular expression: {error}"
            return
        if isinstance(new, str):
            try:
                pattern.sub(new, "")
            except (re.error, IndexError) as error:
                yield ("new",), f"does not fit the regular expression: {error}"


def _annotation_template(value: str) -> str:
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        raise ValueError("has a single brace: write {{ and }} for literal braces") from None
    for _, name, specification, conversion in parts:
        if name is not None and (name != "package_name" or specification or conversion):
            raise ValueError("may only use {package_name}: write {{ and }} for literal braces")
    return value


class CsvAnnotation(Table):
    """One annotation that is set on every ClusterServiceVersion."""

    name: Name = Field(description="The annotation's name.")
    value: Annotated[str, Strict(), AfterValidator(_annotation_template)] = Field(
        description="Its value; {package_name} is the name of the package as it is released."
    )


def _suffix(value: str) -> str:
    if not _SUFFIX.fullmatch(value):
        raise ValueError("may only contain letters, digits and . _ -, like the name of a repository")
    return value


class OrganizationSettings(Table):
    """An organization of the registry: the credentials for pushing to it, and what to change in manifests."""

    token: SecretStr | None = Field(default=None, description='The whole value of the Authorization header, "basic …".')
    token_file: AnyPath | None = Field(default=None, description="A file with the token.")
    token_env: EnvironmentName | None = Field(default=None, description="The environment variable with the token.")
    username: Text | None = Field(default=None, description="The user or robot account; requires a password.")
    password: SecretStr | None = Field(default=None, description="The password of `username`.")
    password_file: AnyPath | None = Field(default=None, description="A file with the password.")
    password_env: EnvironmentName | None = Field(
        default=None, description="The environment variable with the password."
    )
    oauth_token: SecretStr | None = Field(default=None, description='The OAuth token for `public`, without "Bearer".')
    oauth_token_file: AnyPath | None = Field(default=None, description="A file with the OAuth token.")
    oauth_token_env: EnvironmentName | None = Field(
        default=None, description="The environment variable with the OAuth token."
    )
    public: Flag = Field(
        default=False, description="Whether repositories are made public after a push; needs an OAuth token."
    )
    package_name_suffix: Annotated[str, Strict(), AfterValidator(_suffix)] = Field(
        default="", description="Appended to the packageName, unless the packageName already ends with it."
    )
    replace_registry: tuple[RegistryReplacement, ...] = Field(
        default=(), description="Replacements in the text of every manifest, in order."
    )
    csv_annotations: tuple[CsvAnnotation, ...] = Field(
        default=(), description="Annotations set on every ClusterServiceVersion."
    )

    _name: str = PrivateAttr(default="")
    _token: Secret | None = PrivateAttr(default=None)
    _password: Secret | None = PrivateAttr(default=None)
    _oauth: Secret | None = PrivateAttr(default=None)

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that there is exactly one kind of login, that each secret has one source, and that all are valid."""
        by_token = [key for key in table if key in ("token", "token_file", "token_env")]
        by_login = [key for key in table if key in ("username", "password", "password_file", "password_env")]
        if by_token and by_login:
            yield (), f"has two kinds of login ({by_token[0]} and {by_login[0]}): keep one"
        elif not by_token and not by_login and not reading.api:
            yield (), "has no login: set token, token_file or token_env, or username with a password"
        elif by_login and "username" not in table:
            yield ("username",), "is missing: a password requires a username"
        elif by_login == ["username"]:
            yield (), "has a username without a password: set password, password_file or password_env"
        if isinstance(user := table.get("username"), str) and (not user or ":" in user):
            yield ("username",), "must not be empty and must not contain a colon"
        yield from _source_faults(table, "token", header_fault, reading)
        yield from _source_faults(table, "password", secret_fault, reading)
        yield from _source_faults(table, "oauth_token", oauth_fault, reading)

    def model_post_init(self, context: Any) -> None:
        """Find the secrets in files and in the environment of the reading."""
        reading = context if isinstance(context, Reading) else Reading()
        self._token = _secret("token", self.token, self.token_env, self.token_file, header_fault, reading)
        self._password = _secret(
            "password", self.password, self.password_env, self.password_file, secret_fault, reading
        )
        self._oauth = _secret(
            "oauth_token", self.oauth_token, self.oauth_token_env, self.oauth_token_file, oauth_fault, reading
        )

    def set_name(self, name: str) -> None:
        """Set the name of the organization, which messages about its files and rules contain."""
        for secret in (self._token, self._password, self._oauth):
            if secret:
                secret.set_organization(name)
        self._name = name

    @property
    def transformations(self) -> Transformations:
        """The changes to make in manifests."""
        return Transformations(
            self.package_name_suffix,
            tuple(self._replacement(index, each) for index, each in enumerate(self.replace_registry)),
            tuple(Annotation(each.name, each.value) for each in self.csv_annotations),
        )

    def _replacement(self, index: int, rule: RegistryReplacement) -> Replacement:
        """Return one replacement. Only a regular expression, which may fail, gets its key: otherwise equal changes of
        two organizations would differ.
        """
        location = ("consumer_config", "organizations", self._name, "replace_registry", index)
        return Replacement(rule.old, rule.new, rule.regexp, dotted(location) if rule.regexp else "")

    @property
    def has_token(self) -> bool:
        """Whether there is a token. Without one, clients of the REST API send theirs."""
        return self._token is not None or self._password is not None

    @property
    def has_oauth(self) -> bool:
        """Whether there is an OAuth token."""
        return self._oauth is not None

    def authorization(self) -> SecretStr:
        """Return the value of the Authorization header for the app registry, read again if its file has changed.

        Raises SettingsError if the organization has no token. That is only possible for the REST API, where clients
        send theirs.
        """
        if self._token:
            return self._token.get()
        if self._password and self.username is not None:
            login = f"{self.username}:{self._password.get().get_secret_value()}"
            return SecretStr(f"basic {base64.b64encode(login.encode()).decode()}")
        raise SettingsError([Fault("configuration", "consumer_config.organizations", "the organization has no token")])

    def oauth(self) -> SecretStr | None:
        """Return the OAuth token for changing visibility, read again if its file has changed; None if there is none."""
        return self._oauth.get() if self._oauth else None


def _secret(
    key: str,
    text: SecretStr | None,
    variable: str | None,
    path: Path | None,
    check: Callable[[str], str | None],
    reading: Reading,
) -> Secret | None:
    if text is None and variable is None and path is None:
        return None
    value = _from_environment(variable, reading) if variable else None
    if value and check(value):
        value = None
    file = SecretFile(path, check, f"{key}_file") if path and not value and text is None else None
    return Secret(key, text or (SecretStr(value) if value else None), file, variable)


def _from_environment(variable: str, reading: Reading) -> str:
    return reading.environment.get(variable, "").rstrip("\r\n")


def _source_faults(
    table: Mapping[str, Any], key: str, check: Callable[[str], str | None], reading: Reading
) -> Iterator[tuple[Location, str]]:
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
    if isinstance(path, (str, Path)) and str(path) and "\0" not in str(path):
        full = reading.directory / path
        fault = path_fault(full, reading)
        if fault is None:
            content, fault = _content(full)
            fault = fault or check(content)
        if fault and reading.counts_as_fault(absent=is_absence(fault)):
            yield (f"{key}_file",), naming.of_file(fault, path, reading.directory)
