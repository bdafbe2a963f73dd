# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogs in the configuration: their images, credentials and changes to manifests."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, PrivateAttr, SecretStr, WithJsonSchema

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.common.text import listed
from omps_worker.configuration.settings.fields import AnyPath, EnvironmentName, Flag, Text
from omps_worker.configuration.settings.manifest_changes import ManifestChanges
from omps_worker.configuration.settings.secrets import (
    Secret,
    SecretFile,
    file_faults,
    oauth_fault,
    secret_fault,
    secret_of,
    source_faults,
)
from omps_worker.configuration.settings.tables import Location, Reading, dotted
from omps_worker.configuration.settings.units import Duration, PositiveDuration
from omps_worker.destinations.catalog.image_registry.auth_file import AuthFile, Credentials
from omps_worker.destinations.catalog.image_registry.image_name import PLACEHOLDER, ImageTemplate, Repository
from omps_worker.manifests.transformations import Transformations

BUNDLES = f"{PLACEHOLDER}-bundle"
"""The last part of the repository that has the bundle images of a package, unless the configuration names another."""

_LOGIN = ("username", "password", "password_file", "password_env")


def _catalog_image(value: object) -> ImageTemplate:
    return ImageTemplate.parse(_text(value), tagged=True)


def _bundle_images(value: object) -> ImageTemplate:
    template = ImageTemplate.parse(_text(value), tagged=False)
    if PLACEHOLDER not in template.path:
        raise ValueError(f"must contain {PLACEHOLDER}: each package has its own repository of bundle images")
    return template


def _beside(image: ImageTemplate) -> ImageTemplate:
    """Return the repositories of the bundle images if none are configured. Raises ValueError if they have no name."""
    parent = image.path.rpartition("/")[0]
    path = f"{parent}/{BUNDLES}" if parent else BUNDLES
    return ImageTemplate.parse(f"{image.scheme}://{image.host}/{path}", tagged=False)


def _repository_faults(table: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Check that the catalog and its bundles go to different repositories: their tags must not meet."""
    try:
        image = _catalog_image(table.get("image"))
        given = _bundle_images(table["bundles"]) if "bundles" in table else None
    except ValueError:
        # Each is a fault of its own key.
        return
    try:
        bundles = given or _beside(image)
    except ValueError as fault:
        yield ("image",), f"leaves no name for the repository of the bundles beside it, which {fault}: set bundles"
        return
    if (image.host, image.path) != (bundles.host, bundles.path):
        return
    if given is not None:
        yield ("bundles",), "is the repository of image: the catalog and its bundles need repositories of their own"
    else:
        yield ("image",), "is the repository to which the bundles go by default: name another one, or set bundles"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text (in quotes)")
    return value


_IMAGE_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"})
CatalogImage = Annotated[ImageTemplate, PlainValidator(_catalog_image), _IMAGE_SCHEMA]
"""The image of a catalog: ``https://host/path:tag``, in which ``{package}`` may stand."""
BundleImages = Annotated[ImageTemplate, PlainValidator(_bundle_images), _IMAGE_SCHEMA]
"""The repositories of bundle images: ``https://host/path`` with ``{package}`` in it."""


def auth_file_fault(text: str) -> str | None:
    """Return why ``text`` is not a docker or podman auth file, or None if it is. Does not repeat the text."""
    try:
        AuthFile.parse(text)
    except ValueError as error:
        return str(error)
    return None


class CatalogSettings(ManifestChanges):
    """A catalog: its image, the login for the image registry, and what to change in manifests."""

    image: CatalogImage = Field(
        description="The image with its scheme and tag, such as https://registry.example.com/team/catalog:latest. "
        f"{PLACEHOLDER} may stand in it: each package then has a catalog image of its own."
    )
    bundles: BundleImages | None = Field(
        default=None,
        description=f"The repository of the bundle images that are made, with {PLACEHOLDER} in it. Default: {BUNDLES} "
        "beside the image.",
    )
    username: Text | None = Field(default=None, description="The user or robot account; requires a password.")
    password: SecretStr | None = Field(default=None, description="The password of `username`.")
    password_file: AnyPath | None = Field(default=None, description="A file with the password.")
    password_env: EnvironmentName | None = Field(
        default=None, description="The environment variable with the password."
    )
    auth_file: AnyPath | None = Field(
        default=None, description="Instead of a user name: a file with logins, in docker's and podman's format."
    )
    format: Literal["docker", "oci"] = Field(default="docker", description="The format of the images that are made.")
    public: Flag = Field(default=False, description="Whether new repositories are made public; needs an OAuth token.")
    oauth_token: SecretStr | None = Field(default=None, description='The OAuth token for `public`, without "Bearer".')
    oauth_token_file: AnyPath | None = Field(default=None, description="A file with the OAuth token.")
    oauth_token_env: EnvironmentName | None = Field(
        default=None, description="The environment variable with the OAuth token."
    )
    timeout: PositiveDuration = Field(
        default=Duration.parse("30s"), description="How long one call to the image registry may take."
    )

    _name: str = PrivateAttr(default="")
    _password: Secret | None = PrivateAttr(default=None)
    _auth_file: SecretFile | None = PrivateAttr(default=None)
    _oauth: Secret | None = PrivateAttr(default=None)

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that there is at most one kind of login, that each secret has one source, and that all are valid.

        The catalog and its bundles must have repositories of their own.
        """
        yield from _repository_faults(table)
        login = [key for key in _LOGIN if key in table]
        if login and "auth_file" in table:
            yield (), f"has two kinds of login ({login[0]} and auth_file): keep one"
        elif login and "username" not in table:
            yield ("username",), "is missing: a password requires a username"
        elif login == ["username"]:
            yield (), "has a username without a password: set password, password_file or password_env"
        if isinstance(user := table.get("username"), str) and (not user or ":" in user):
            yield ("username",), "must not be empty and must not contain a colon"
        yield from source_faults(table, "password", secret_fault, reading)
        yield from source_faults(table, "oauth_token", oauth_fault, reading)
        yield from file_faults(table.get("auth_file"), "auth_file", auth_file_fault, reading)

    def model_post_init(self, context: Any) -> None:
        """Find the secrets in files and in the environment of the reading."""
        reading = context if isinstance(context, Reading) else Reading()
        self._password = secret_of(
            "password", self.password, self.password_env, self.password_file, secret_fault, reading
        )
        self._oauth = secret_of(
            "oauth_token", self.oauth_token, self.oauth_token_env, self.oauth_token_file, oauth_fault, reading
        )
        if self.auth_file is not None:
            self._auth_file = SecretFile(self.auth_file, auth_file_fault, "auth_file")

    def set_name(self, name: str) -> None:
        """Set the name of the catalog, which messages about its files and rules contain."""
        self._name = name
        for secret in (self._password, self._oauth):
            if secret:
                secret.set_section(self._section)
        if self._auth_file:
            self._auth_file.key = self._auth_file_key

    @property
    def name(self) -> str:
        """The name of the catalog in the configuration."""
        return self._name

    @property
    def bundle_images(self) -> ImageTemplate:
        """The repositories of the bundle images that are made."""
        return self.bundles if self.bundles is not None else _beside(self.image)

    @property
    def transformations(self) -> Transformations:
        """The changes to make in package manifests."""
        return self.transformations_in(self._section)

    @property
    def has_login(self) -> bool:
        """Whether there are credentials; without them, the image registry is used anonymously."""
        return self._password is not None or self._auth_file is not None

    @property
    def has_oauth(self) -> bool:
        """Whether there is an OAuth token."""
        return self._oauth is not None

    def credentials(self, repository: Repository) -> Credentials | None:
        """Return the credentials for a repository, from files that are read again when they change; None: anonymous.

        A user name and its password are only for the registries of the catalog and of its bundle images. Raises
        SettingsError, which is transient, if a file never held what it should, or its entry cannot be used.
        """
        if self._password is not None and self.username is not None:
            if repository.origin not in self._origins:
                return None
            return Credentials(self.username, self._password.get())
        if self._auth_file is None:
            return None
        text = self._auth_file.value_or_none()
        if text is None:
            raise self._auth_file_error(f"the file {self._auth_file.fault or 'is missing'}")
        try:
            return AuthFile.parse(text.get_secret_value()).find(repository)
        except ValueError as error:
            raise self._auth_file_error(f"the file {error}") from None

    def oauth(self) -> SecretStr | None:
        """Return the OAuth token for changing visibility, read again if its file has changed; None if there is none."""
        return self._oauth.get() if self._oauth else None

    @property
    def secret_files(self) -> Iterator[tuple[str, Path | None]]:
        """The keys of files with secrets, with their paths."""
        for key in ("password_file", "auth_file", "oauth_token_file"):
            yield key, getattr(self, key)

    @property
    def _section(self) -> Location:
        return ("consumer_config", "catalogs", self._name)

    @property
    def _auth_file_key(self) -> str:
        return dotted((*self._section, "auth_file"))

    @property
    def _origins(self) -> set[str]:
        return {template.repository("package").origin for template in (self.image, self.bundle_images)}

    def _auth_file_error(self, reason: str) -> SettingsError:
        return SettingsError([Fault("configuration", self._auth_file_key, reason)], transient=True)


def unknown_catalog(name: str, known: Collection[str], file: str = "configuration") -> SettingsError:
    """Return the error for a target whose catalog is not among those configured. It is transient: it can be added."""
    there = listed(sorted(known)) or "none"
    reason = f"is missing (catalogs in the configuration: {there}): add it, or correct the name"
    return SettingsError([Fault(file, f"consumer_config.catalogs.{name}", reason)], transient=True)


def one_image_for_each_package(name: str, file: str = "configuration") -> SettingsError:
    """Return the error for a question about a whole catalog of which each package has an image of its own."""
    reason = f"has {PLACEHOLDER} in it: each package has a catalog image of its own, so name the package"
    return SettingsError([Fault(file, f"consumer_config.catalogs.{name}.image", reason)])
