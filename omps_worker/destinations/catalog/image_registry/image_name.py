# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images: as the configuration has them, as pull specifications have them, and as URLs need them.

The grammar is that of docker's reference package: a host with an optional port, path components in lower case, and a
tag, a digest, or both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACEHOLDER = "{package}"
"""The text in a configured name that stands for the name of the package."""

NAME_LIMIT = 255
"""The maximum length of a repository's name in characters, with its host."""

DOCKER_HUB = "docker.io"
_HUB_ADDRESS = "registry-1.docker.io"

_DEFAULT_PORTS = {"https": "443", "http": "80"}
_HOST = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?)*|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_tag(text: str) -> bool:
    """Return whether an image can have this tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Return whether this is a digest, ``sha256:`` and 64 hexadecimal digits. No other algorithm is in use."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of an image registry. ``str()`` of it is ``host/path``, as in pull specifications.

    ``scheme`` is ``https`` or ``http``; ``host`` is in lower case, with its port unless that is the scheme's default.
    """

    scheme: str
    host: str
    path: str

    def __post_init__(self) -> None:
        """Raise ValueError if there can be no such repository."""
        if fault := _host_fault(self.host) or _path_fault(self.host, self.path):
            raise ValueError(fault)

    @property
    def origin(self) -> str:
        """The URL of the registry: scheme, host and port."""
        address = _HUB_ADDRESS if self.host == DOCKER_HUB else self.host
        return f"{self.scheme}://{address}"

    @property
    def url(self) -> str:
        """The URL below which the repository's manifests, blobs and tags are."""
        return f"{self.origin}/v2/{self.path}"

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class ImageName:
    """One image: a repository, and a tag or a digest in it. ``str()`` of it is a pull specification."""

    repository: Repository
    reference: str

    def __post_init__(self) -> None:
        """Raise ValueError if the reference is neither a tag nor a digest."""
        if not is_tag(self.reference) and not is_digest(self.reference):
            raise ValueError(f"has {self.reference[:100]!a}, which is neither a tag nor a digest")

    def at(self, digest: str) -> ImageName:
        """Return the name of the image with this digest in the same repository."""
        return ImageName(self.repository, digest)

    def __str__(self) -> str:
        return f"{self.repository}{'@' if is_digest(self.reference) else ':'}{self.reference}"


@dataclass(frozen=True, slots=True)
class ImageTemplate:
    """A name of images as the configuration has it, such as ``https://host/path/{package}:tag``.

    The scheme says whether TLS is used. Make one with ``parse``.
    """

    text: str
    scheme: str
    host: str
    path: str
    tag: str | None

    @classmethod
    def parse(cls, text: str, *, tagged: bool) -> ImageTemplate:
        """Return the template. ``tagged``: whether the text must end with a tag, or must not have one.

        Raises ValueError, whose message continues a sentence that begins with the key or the text.
        """
        scheme, separator, rest = text.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in _DEFAULT_PORTS:
            raise ValueError("must begin with https:// or http://")
        if "@" in rest:
            raise ValueError("must have neither a user name nor a digest")
        if "?" in rest or "#" in rest:
            raise ValueError("must end with the path or the tag: it has a query or a fragment")
        host, _, path = rest.partition("/")
        tag: str | None = None
        if ":" in path:
            path, _, tag = path.rpartition(":")
        if tagged and tag is None:
            raise ValueError("must end with a tag, such as :latest")
        if not tagged and tag is not None:
            raise ValueError("must not have a tag")
        template = cls(text, scheme, _normal(host.lower(), scheme), path, tag)
        for part in (path, tag or ""):
            if "{" in part.replace(PLACEHOLDER, "") or "}" in part.replace(PLACEHOLDER, ""):
                raise ValueError(f"has a placeholder other than {PLACEHOLDER}")
        template.repository("package")
        if tag is not None:
            template.image("package")
        return template

    @property
    def for_each_package(self) -> bool:
        """Whether each package has an image of its own."""
        return PLACEHOLDER in self.path or PLACEHOLDER in (self.tag or "")

    def repository(self, package: str) -> Repository:
        """Return the repository of this package. Raises ValueError if no repository can have that name."""
        return Repository(self.scheme, self.host, self.path.replace(PLACEHOLDER, package))

    def image(self, package: str, tag: str | None = None) -> ImageName:
        """Return the image of this package, with ``tag`` if the template has none. Raises ValueError."""
        reference = self.tag.replace(PLACEHOLDER, package) if self.tag is not None else tag
        if reference is None:
            raise ValueError("has no tag")
        return ImageName(self.repository(package), reference)

    def __str__(self) -> str:
        return self.text


def parse_pullspec(text: str, *, scheme: str = "https") -> ImageName:
    """Return the image that a pull specification names: ``host[:port]/path[:tag][@digest]``.

    A digest wins over a tag beside it. A name without a host is one of Docker Hub, one without a tag means ``latest``.
    Raises ValueError, whose message continues a sentence.
    """
    name, _, digest = text.partition("@")
    if "@" in text and not is_digest(digest):
        raise ValueError("has a digest that is not sha256: and 64 hexadecimal digits")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DOCKER_HUB, name if slash else f"library/{name}"
    path, colon, tag = rest.partition(":")
    if colon and not is_tag(tag):
        raise ValueError(f"has {tag[:100]!a}, which is not a tag")
    repository = Repository(scheme, _normal(first.lower(), scheme), path)
    return ImageName(repository, digest or tag or "latest")


def _normal(host: str, scheme: str) -> str:
    match = _HOST.fullmatch(host)
    return match["name"] if match and match["port"] == _DEFAULT_PORTS[scheme] else host


def _host_fault(host: str) -> str | None:
    match = _HOST.fullmatch(host)
    if match is None or len(match["name"]) > NAME_LIMIT:
        return f"has {host[:100]!a}, which is not a host with an optional port"
    if match["port"] is not None and not 0 < int(match["port"]) < 65536:
        return f"has the port {match['port']}, which does not exist"
    return None


def _path_fault(host: str, path: str) -> str | None:
    # The longest name is checked first: the expression must not be tried on text of any length.
    if len(host) + 1 + len(path) > NAME_LIMIT:
        return f"is longer than {NAME_LIMIT} characters"
    if _PATH.fullmatch(path) is None:
        rule = "lower-case letters, digits, and single . _ - between them, in parts that are joined by /"
        return f"has {path[:100]!a}, which is not the path of a repository: {rule}"
    return None
