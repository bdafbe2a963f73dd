# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of the lists of releases that app registries send, whichever server it is.

A server may misbehave and send something else where a list is expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from omps_worker.common.model import Release

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_HELM = re.compile(r"(?:^|[./])helm(?:$|[.+])")


def releases_of(value: Any) -> tuple[Release, ...] | None:
    """Return the releases in the answer to ``GET NS/REPO``; None if the answer is not a list of releases.

    Entries without a version are skipped, unless all entries are like this: then the result is None. After concurrent
    pushes a version may be listed several times. Entries that say the same are merged; different contents of a version
    stay separate. A release with a media type other than that of operators (``helm``) occupies its version, but has no
    digest in the result, because its content is not an operator.
    """
    if not isinstance(value, list):
        return None
    releases = tuple(_unique(filter(None, map(_release, value))))
    return releases if releases or not value else None


def _release(entry: Any) -> Release | None:
    if not isinstance(entry, dict):
        return None
    version, created_at = entry.get("release"), entry.get("created_at")
    if not isinstance(version, str) or not 0 < len(version) < 256 or not version.isprintable():
        return None
    if not isinstance(created_at, str) or len(created_at) > 64 or not created_at.isprintable():
        created_at = None
    return Release(version, _digest(entry), created_at)


def _digest(entry: dict[Any, Any]) -> str | None:
    # The entry's own "digest" is that of its manifest. The digest in "content" is that of the tar.
    content, media_type = entry.get("content"), entry.get("mediaType", "helm")
    if not isinstance(content, dict) or not isinstance(media_type, str) or not _HELM.search(media_type):
        return None
    digest = content.get("digest")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return match[1].lower() if match else None


def _unique(releases: Iterable[Release]) -> Iterable[Release]:
    unique: dict[tuple[str, str | None], Release] = {}
    for release in releases:
        known = unique.setdefault((release.version, release.digest), release)
        # Of equal entries the oldest is kept: its time does not change when another push is stored late.
        if release.created_at and (known.created_at is None or release.created_at < known.created_at):
            unique[release.version, release.digest] = release
    return unique.values()
