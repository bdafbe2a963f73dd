# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what an image registry answers: manifests, lists of manifests, lists of tags.

A registry may lie or be damaged. What is returned from here has the form that it claims to have, and the bytes that
its digest names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.http_client.client import Answer
from omps_worker.common.json_text import parse_json
from omps_worker.common.text import printable
from omps_worker.destinations.catalog.image_registry.image_name import is_digest, is_tag

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
LISTS = frozenset({DOCKER_LIST, OCI_INDEX})

SCHEMA_1 = frozenset(f"application/vnd.docker.distribution.manifest.v1+{form}" for form in ("json", "prettyjws"))

SIZE_LIMIT = 2**40
"""The largest size of a blob that is believed, in bytes."""

_DIGEST_HEADER = "Docker-Content-Digest"
_OTHER_DIGEST = re.compile(r"(?!sha256:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
_VENDOR = "application/vnd."


class Unreadable(ValueError):
    """An answer is not what it must be. The text continues a sentence about the image."""


class Unsupported(Unreadable):
    """An answer is a manifest of a kind that is not read here. The text continues a sentence about the manifest."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob, or a list of one of its manifests."""

    media_type: str
    digest: str
    size: int
    foreign: bool = False
    """Whether the blob lies outside the registry, so that it cannot be read from it."""
    platform: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    """Of an entry of a list, such as ``{"os": "linux", "architecture": "amd64"}``."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of an image, or a list of manifests, as the registry has it.

    ``body`` are the bytes whose sha256 ``digest`` is. Of a list, ``config`` is None and ``layers`` is empty; of an
    image, ``manifests`` is empty. If ``unsupported`` says why the manifest is of a kind that is not read here, there is
    none of the three; only then may ``digest`` be another that the registry names.
    """

    media_type: str
    digest: str
    body: bytes = field(repr=False)
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    unsupported: str = ""

    @property
    def is_list(self) -> bool:
        """Whether this is a list of manifests, one for each platform."""
        return self.media_type in LISTS


def digest_of(content: bytes) -> str:
    """Return the digest by which a registry names these bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def named_digest(answer: Answer) -> str | None:
    """Return the digest that an answer's header names, or None. Raises Unreadable if it is not a digest."""
    named = answer.headers.get(_DIGEST_HEADER)
    if named is not None and not is_digest(named):
        raise Unreadable("the answer names a digest that is not sha256")
    return named


def manifest_of(answer: Answer, reference: str) -> Manifest:
    """Return the manifest in the answer to a GET of ``reference``, a tag or a digest. Raises Unreadable.

    A manifest of a kind that is not read here is returned as such if the registry names its digest: something else than
    a registry does not do that.
    """
    sent_as = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    digest, named = digest_of(answer.body), named_digest(answer)
    if named is not None and sent_as in SCHEMA_1 and _is_schema_1(answer.body):
        # The digest of a signed manifest is that of its content without the signatures.
        return _unsupported(sent_as, named, answer.body, "it is a manifest of schema version 1")
    for claimed in (named, reference if is_digest(reference) else None):
        if claimed is not None and claimed != digest:
            raise Unreadable(f"the answer is not what the digest {claimed} names")
    try:
        return parse_manifest(answer.body, sent_as)
    except Unsupported as why:
        if named is None:
            raise
        return _unsupported(sent_as, digest, answer.body, str(why))


def parse_manifest(body: bytes, sent_as: str) -> Manifest:
    """Return the manifest in ``body``, which was sent with that media type. Raises Unreadable, or Unsupported."""
    content = parse_json(body)
    if not isinstance(content, dict):
        raise Unreadable("the answer is not a manifest")
    known = MANIFESTS | LISTS
    if sent_as.startswith(_VENDOR) and sent_as not in known and content.get("mediaType", sent_as) == sent_as:
        raise Unsupported(f"it is a manifest of the type {printable(sent_as, 100)}")
    if content.get("schemaVersion") != 2:
        raise Unreadable("the answer is not a manifest of schema version 2")
    media_type = content.get("mediaType", sent_as)
    if not isinstance(media_type, str) or media_type not in known or (sent_as in known and sent_as != media_type):
        shown = printable(str(media_type), 100)
        raise Unreadable(f"the answer is a manifest of the type {shown}, sent as {printable(sent_as, 100)}")
    entries = content.get("manifests"), content.get("layers"), content.get("config")
    if media_type in LISTS:
        # Something that can be read as both would be one thing here and another elsewhere.
        if entries[1] is not None or entries[2] is not None:
            raise Unreadable("the answer is both a manifest and a list of manifests")
        manifests = _descriptors(entries[0], "manifests")
        return Manifest(media_type, digest_of(body), body, None, (), manifests)
    if entries[0] is not None:
        raise Unreadable("the answer is both a manifest and a list of manifests")
    config, layers = _descriptor(entries[2], "config"), _descriptors(entries[1], "layers")
    return Manifest(media_type, digest_of(body), body, config, layers, ())


def _is_schema_1(body: bytes) -> bool:
    content = parse_json(body)
    return isinstance(content, dict) and content.get("schemaVersion") == 1


def _unsupported(media_type: str, digest: str, body: bytes, why: str) -> Manifest:
    return Manifest(media_type, digest, body, None, (), (), why)


def _descriptors(value: Any, name: str) -> tuple[Descriptor, ...]:
    if not isinstance(value, list):
        raise Unreadable(f"the manifest has no list of {name}")
    return tuple(_descriptor(entry, name) for entry in value)


def _descriptor(value: Any, name: str) -> Descriptor:
    if not isinstance(value, dict):
        raise Unreadable(f"the manifest has no descriptor of its {name}")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if isinstance(digest, str) and _OTHER_DIGEST.fullmatch(digest):
        raise Unsupported(f"it has a digest among its {name} that is not sha256")
    if not isinstance(digest, str) or not is_digest(digest):
        raise Unreadable(f"the manifest has a digest among its {name} that is not sha256")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= SIZE_LIMIT:
        raise Unreadable(f"the manifest has a size among its {name} that is not one")
    if not isinstance(media_type, str) or len(media_type) > 255 or not media_type.isprintable():
        raise Unreadable(f"the manifest has a media type among its {name} that is not one")
    platform = value.get("platform")
    return Descriptor(
        media_type,
        digest,
        size,
        foreign=bool(value.get("urls")) or ".foreign." in media_type or ".nondistributable." in media_type,
        platform=platform if isinstance(platform, dict) else {},
    )


def tags_of(answer: Answer) -> tuple[str, ...]:
    """Return the tags in one page of a list of tags. Raises Unreadable."""
    content = answer.json()
    if not isinstance(content, dict) or "tags" not in content or not isinstance(content["tags"], (list, type(None))):
        raise Unreadable("the answer is not a list of tags")
    # After the last tag was deleted, the reference registry sends null.
    tags = content["tags"] or []
    if not all(isinstance(tag, str) and is_tag(tag) for tag in tags):
        raise Unreadable("the answer lists tags that no image can have")
    return tuple(tags)


def error_codes(answer: Answer) -> tuple[str, ...]:
    """Return the codes of the errors in an answer, such as ``MANIFEST_UNKNOWN``; () if it has not a registry's form."""
    content = answer.json()
    errors = content.get("errors") if isinstance(content, dict) else None
    if not isinstance(errors, list):
        return ()
    codes = (error.get("code") for error in errors[:10] if isinstance(error, dict))
    return tuple(code for code in codes if isinstance(code, str) and 0 < len(code) <= 100 and code.isprintable())
