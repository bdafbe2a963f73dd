# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of the hub's answers about builds and tasks.

Values in an answer may have any type. Values that are needed are checked; other values that are not valid count as
unknown.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from omps_worker.common.errors import KojiError
from omps_worker.common.http_client.client import parse_json
from omps_worker.common.model import Build, OperatorKind

MAX_ID = 2**31 - 1
"""The largest id in Koji: ids are PostgreSQL's four-byte integers, and a larger one is an error of Koji's database."""

MAX_NAME = 1024
"""The longest NVR, or name of a user or target, in characters; Koji limits its names to 256."""

_BY_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
"""A pull specification with a digest."""


def build_of(info: Any, target: str | None) -> Build:
    """Return the build that ``info`` describes, in the format of getBuild and listBuilds.

    Raises KojiError if required values are missing or not valid.
    """
    info = dict_of(info)
    if "id" not in info and "build_id" in info:
        info = {**info, "id": info["build_id"]}
    texts = {key: name_of(info.get(key)) for key in ("nvr", "name", "version", "release")}
    missing = [key for key, value in texts.items() if not value]
    missing += [key for key in ("id", "state") if not is_integer(info.get(key))]
    if missing:
        raise KojiError(f"Koji's description of a build cannot be used: no valid {', '.join(sorted(missing))}.")
    extra = _extra_of(info)
    archive, legacy, kind = _manifests(extra)
    return Build(
        id=info["id"],
        nvr=str(texts["nvr"]),
        name=str(texts["name"]),
        version=str(texts["version"]),
        release=str(texts["release"]),
        state=info["state"],
        owner=name_of(info.get("owner_name")),
        target=target,
        completed_at=_time(info.get("completion_ts")),
        kind=kind,
        archive=archive,
        legacy=legacy,
        volume=name_of(info.get("volume_name")),
        draft=info.get("draft") is True,
        promoted_at=_time(info.get("promotion_ts")),
        bundle_image=_index_image(extra) if kind is OperatorKind.BUNDLE else None,
    )


def target_of(task: Any) -> str | None:
    """Return the build target of a task, in the format of getTaskInfo with its request; None if it is unknown."""
    request = dict_of(task).get("request")
    return name_of(request[1]) if isinstance(request, list) and len(request) > 1 else None


def image_of_archive(row: Any) -> str | None:
    """Return the pull specification, with a digest, of an image among a build's archives; None if it has none.

    Builds without a list of manifests have it only there (atomic-reactor's koji_import: ``docker.repositories``).
    """
    return _with_digest(dict_of(dict_of(dict_of(row).get("extra")).get("docker")).get("repositories"))


def _index_image(extra: dict[str, Any]) -> str | None:
    """Return the pull specification, with a digest, of a build's list of manifests; None if it has none."""
    return _with_digest(dict_of(dict_of(extra.get("image")).get("index")).get("pull"))


def _with_digest(pullspecs: Any) -> str | None:
    """Return the first of ``pullspecs`` that names its image by a digest."""
    names = [name_of(each) for each in pullspecs] if isinstance(pullspecs, list) else []
    return next((name for name in names if name and _BY_DIGEST.fullmatch(name)), None)


def _extra_of(info: dict[str, Any]) -> dict[str, Any]:
    extra = info.get("extra")
    return dict_of(parse_json(extra) if isinstance(extra, str) else extra)


def _manifests(extra: dict[str, Any]) -> tuple[str | None, bool, OperatorKind]:
    """Return the archive that ``extra`` names, whether it is among the build's logs, and the kind of operator."""
    archive = text_of(dict_of(dict_of(extra.get("typeinfo")).get("operator-manifests")).get("archive"))
    legacy = archive is None
    if legacy:
        archive = text_of(extra.get("operator_manifests_archive"))
    if archive is None:
        return None, False, OperatorKind.NONE
    subtypes = dict_of(extra.get("osbs_build")).get("subtypes")
    if isinstance(subtypes, list):
        for kind in (OperatorKind.BUNDLE, OperatorKind.PACKAGE_MANIFESTS):
            if kind.value in subtypes:
                return archive, legacy, kind
    return archive, legacy, OperatorKind.UNKNOWN


def is_integer(value: Any) -> bool:
    """Return whether ``value`` is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value: Any) -> bool:
    """Return whether ``value`` can be the id of something in Koji."""
    return is_integer(value) and 0 < value <= MAX_ID


def dict_of(value: Any) -> dict[str, Any]:
    """Return ``value`` if it is a struct, else an empty one."""
    return value if isinstance(value, dict) else {}


def rows_of(value: Any, method: str) -> list[dict[str, Any]]:
    """Return the structs in a list, the answer to ``method``. Raises KojiError if it is not a list."""
    if not isinstance(value, list):
        raise KojiError(f"Koji's answer to {method} is not a list.")
    return [row for row in value if isinstance(row, dict)]


def text_of(value: Any) -> str | None:
    """Return ``value`` if it is text and not empty, else None."""
    return value if isinstance(value, str) and value else None


def name_of(value: Any) -> str | None:
    """Return ``value`` if it can be the name of something in Koji, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() else None


def _time(timestamp: Any) -> datetime | None:
    if not isinstance(timestamp, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None
