# SPDX-License-Identifier: GPL-3.0-or-later
"""References to images, by the grammar that opm checks them with (containers/image, docker/reference).

IPv6 addresses as hosts are refused: not every opm that reads a catalog takes them.
"""

from __future__ import annotations

import re

NAME_LENGTH = 255
"""How many characters host and path of a reference may have together."""

REFERENCE_LENGTH = 1000
"""How many characters a reference may have."""

_DOCKER_HUB = "docker.io"
_LABEL = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEXADECIMAL = re.compile("[0-9a-f]+")
_IDENTIFIER = re.compile("[a-f0-9]{64}")


def reference_fault(text: str) -> str | None:
    """Return why ``text`` is no reference to an image that opm takes; None if it is one."""
    if len(text) > REFERENCE_LENGTH:
        return f"it has more than {REFERENCE_LENGTH} characters"
    if _IDENTIFIER.fullmatch(text):
        return "it is the identifier of an image"
    rest, at, digest = text.partition("@")
    if at and (fault := digest_fault(digest)):
        return fault
    first, slash, path = rest.partition("/")
    # What has no dot and no colon before the first slash is a path on Docker Hub, not a host.
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, path = _DOCKER_HUB, rest
    if first == "index.docker.io":
        first = _DOCKER_HUB
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        return "its tag is no tag"
    # The grammar takes a host that is none for a part of the path, if it can be that.
    if not _HOST.fullmatch(first) and not _COMPONENT.fullmatch(first):
        return "its host is no name of a host"
    if not path or not all(_COMPONENT.fullmatch(component) for component in path.split("/")):
        return "its path has an empty component, or one with other characters than a-z, 0-9 and separators inside"
    if first == _DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    if len(first) + 1 + len(path) > NAME_LENGTH:
        return f"its host and path have more than {NAME_LENGTH} characters"
    return None


def digest_fault(digest: str) -> str | None:
    """Return why ``digest`` is no digest, like ``sha256:…``; None if it is one."""
    algorithm, _, value = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        return "its digest is not of sha256, sha384 or sha512"
    if len(value) != length or not _HEXADECIMAL.fullmatch(value):
        return f"its digest has not {length} hexadecimal digits after {algorithm}:"
    return None


def digest_of(reference: str) -> str:
    """Return the digest that a reference names; an empty text if it names none."""
    return reference.partition("@")[2]
