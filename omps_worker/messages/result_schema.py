# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of a result message, as JSON Schema.

One shape for every status, so that a monitor reads one format. Schemas are versioned and
additive: a key never changes its meaning or goes away within a version, and new keys may come.
"""

from __future__ import annotations

from typing import Any

from omps_worker.common.model import Status

DRAFT = "http://json-schema.org/draft-07/schema#"

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TIME_OR_NULL = {"type": ["string", "null"], "format": "date-time"}

_BUILD = {
    "description": "The Koji build; null for an uploaded archive, or when Koji could not be asked.",
    "type": ["object", "null"],
    "properties": {
        "id": {"type": "integer", "description": "Koji's build id."},
        "name": {**_TEXT, "description": "The component."},
        "version": _TEXT,
        "release": _TEXT,
        "owner": _TEXT_OR_NULL,
    },
    "required": ["id", "name", "version", "release", "owner"],
}

_SOURCE = {
    "description": "What the work came from: the message that caused it, or the archive that somebody brought; "
    "null when somebody asked for a build or a deletion.",
    "type": ["object", "null"],
    "properties": {
        "message_id": {**_TEXT, "description": "The message's id."},
        "topic": {**_TEXT, "description": "The topic that it had on the bus."},
        "replayed": {
            "type": "integer",
            "minimum": 0,
            "description": "How many times somebody had sent it again by then.",
        },
        "file": {**_TEXT, "description": "The name of the file, as that person called it, without directories."},
        "sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$", "description": "Hex sha256 of its bytes."},
    },
    "anyOf": [{"type": "null"}, {"required": ["message_id", "topic"]}, {"required": ["file", "sha256"]}],
}

_ERROR = {
    "description": "What went wrong, for failed and retrying.",
    "type": ["object", "null"],
    "properties": {
        "name": {**_TEXT, "description": "The error's name, e.g. PackageValidationError."},
        "message": {**_TEXT, "description": "One sentence for a person."},
        "details": {"type": "object", "description": "More, for a program; at most 64 KiB."},
        "transient": {"type": "boolean", "description": "Whether trying again can help."},
    },
    "required": ["name", "message", "details", "transient"],
}

_PROPERTIES: dict[str, Any] = {
    "organization": {**_TEXT_OR_NULL, "description": "The organization; null when no target was known yet."},
    "repo": {**_TEXT_OR_NULL, "description": "The repository in it."},
    "version": {**_TEXT_OR_NULL, "description": "The release; null where there is none."},
    "nvr": {**_TEXT_OR_NULL, "description": "Name-version-release of the build."},
    "extracted_files": {
        "description": "Sorted relative paths of what was in the archive.",
        "type": ["array", "null"],
        "items": _TEXT,
    },
    "status": {**_TEXT, "description": "How it ended."},
    "reason": {**_TEXT_OR_NULL, "description": "Why, for skipped and retrying."},
    "superseded_by": {**_TEXT_OR_NULL, "description": "The NVR of the build that stands in the way, for skipped."},
    "held_by": {
        **_TEXT_OR_NULL,
        "description": "The entry of hold in the mapping that holds the build, and its line, for skipped.",
    },
    "warnings": {
        "description": "What is odd about manifests that are accepted: sentences for a person, at most 101.",
        "type": "array",
        "items": _TEXT,
    },
    "build": _BUILD,
    "digest": {
        "description": "Hex sha256 of the uncompressed tar, as the registry lists it.",
        "type": ["string", "null"],
        "pattern": "^[0-9a-f]{64}$",
    },
    "public": {"type": ["boolean", "null"], "description": "Whether the package was made public."},
    "attempt": {"type": "integer", "minimum": 1, "description": "The number of this try."},
    "source": _SOURCE,
    "error": _ERROR,
    "next_attempt_at": {**_TIME_OR_NULL, "description": "When a retrying build is tried again, UTC."},
}


_LATER = {"superseded_by", "held_by", "warnings"}
"""Those that earlier versions did not send."""


def body_schema(status: Status) -> dict[str, Any]:
    """The JSON Schema of result bodies with ``status``."""
    return {
        "$schema": DRAFT,
        "description": f"A release ended as {status}.",
        "type": "object",
        "properties": {**_PROPERTIES, "status": {"const": status.value, "description": "How it ended."}},
        "required": sorted(_PROPERTIES.keys() - _LATER),
    }


def all_schemas() -> dict[str, Any]:
    """One JSON Schema for every result body, told apart by its status."""
    return {
        "$schema": DRAFT,
        "title": "omps-worker result",
        "oneOf": [{key: value for key, value in body_schema(status).items() if key != "$schema"} for status in Status],
    }
