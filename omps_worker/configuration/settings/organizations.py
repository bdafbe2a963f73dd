# SPDX-License-Identifier: GPL-3.0-or-later
"""The organizations of the registry in the configuration: credentials and transformations."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.settings.fields import AnyPath, EnvironmentName, Flag, Text
from omps_worker.configuration.settings.manifest_changes import ManifestChanges
from omps_worker.configuration.settings.secrets import (
    Secret,
    header_fault,
    oauth_fault,
    secret_fault,
    secret_of,
    source_faults,
)
from omps_worker.configuration.settings.tables import Location, Reading
from omps_worker.manifests.transformations import Transformations


class OrganizationSettings(ManifestChanges):
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
        yield from source_faults(table, "token", header_fault, reading)
        yield from source_faults(table, "password", secret_fault, reading)
        yield from source_faults(table, "oauth_token", oauth_fault, reading)

    def model_post_init(self, context: Any) -> None:
        """Find the secrets in files and in the environment of the reading."""
        reading = context if isinstance(context, Reading) else Reading()
        self._token = secret_of("token", self.token, self.token_env, self.token_file, header_fault, reading)
        self._password = secret_of(
            "password", self.password, self.password_env, self.password_file, secret_fault, reading
        )
        self._oauth = secret_of(
            "oauth_token", self.oauth_token, self.oauth_token_env, self.oauth_token_file, oauth_fault, reading
        )

    def set_name(self, name: str) -> None:
        """Set the name of the organization, which messages about its files and rules contain."""
        for secret in (self._token, self._password, self._oauth):
            if secret:
                secret.set_section(_section(name))
        self._name = name

    @property
    def transformations(self) -> Transformations:
        """The changes to make in manifests."""
        return self.transformations_in(_section(self._name))

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


def _section(name: str) -> Location:
    return ("consumer_config", "organizations", name)
