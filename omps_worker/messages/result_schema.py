# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schema of result message bodies.

All statuses have the same keys, so that a monitor reads one format. Schemas are versioned and additive: within a
version no key changes its meaning or is removed, and keys may be added.
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
    "description": "The source of the work: the message that caused it, or the uploaded archive; null if a build or a "
    "deletion was requested by hand.",
    "type": ["object", "null"],
    "properties": {
        "message_id": {**_TEXT, "description": "The id of the message."},
        "topic": {**_TEXT, "description": "The topic that the message had on the bus."},
        "replayed": {
            "type": "integer",
            "minimum": 0,
            "description": "How many times the message had been replayed by then.",
        },
        "file": {**_TEXT, "description": "The name of the archive's file as it was uploaded, without directories."},
        "sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$", "description": "The sha256 of the archive, in hex."},
    },
    "anyOf": [{"type": "null"}, {"required": ["message_id", "topic"]}, {"required": ["file", "sha256"]}],
}

_ERROR = {
    "description": "The error, for failed and retrying.",
    "type": ["object", "null"],
    "properties": {
        "name": {**_TEXT, "description": "The error's name, e.g. PackageValidationError."},
        "message": {**_TEXT, "description": "One sentence for a person."},
        "details": {"type": "object", "description": "Further facts for a program; at most 64 KiB."},
        "transient": {"type": "boolean", "description": "Whether trying again can help."},
    },
    "required": ["name", "message", "details", "transient"],
}

_NAMES = {"type": "array", "items": _TEXT}

_CATALOG = {
    "description": "The package in the catalog after the update; null for organizations, and when no target was known "
    "yet. Of work that failed or was skipped, only the name may be known.",
    "type": ["object", "null"],
    "properties": {
        "name": {**_TEXT, "description": "The name of the catalog in the configuration."},
        "image": {**_TEXT_OR_NULL, "description": "The catalog image, host/path:tag."},
        "digest": {**_TEXT_OR_NULL, "description": "The digest of its manifest after the update."},
        "previous": {**_TEXT_OR_NULL, "description": "The digest before the update; null if the update made it."},
        "package": _TEXT_OR_NULL,
        "channels": {
            "description": "The head of each channel.",
            "type": "object",
            "additionalProperties": _TEXT,
        },
        "default_channel": _TEXT_OR_NULL,
        "bundles": {
            "description": "The bundles of the package.",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": _TEXT,
                    "version": _TEXT,
                    "image": {**_TEXT, "description": "The pull specification, with a digest."},
                    "created": {"type": "boolean", "description": "Whether this work pushed the image."},
                },
                "required": ["name", "version", "image", "created"],
            },
        },
        "dropped": {**_NAMES, "description": "Bundles that were in the package and no longer are."},
        "unpublished": {**_NAMES, "description": "CSVs of the build that no channel reaches."},
    },
    "required": [
        "name",
        "image",
        "digest",
        "previous",
        "package",
        "channels",
        "default_channel",
        "bundles",
        "dropped",
        "unpublished",
    ],
}

_PROPERTIES: dict[str, Any] = {
    "organization": {
        **_TEXT_OR_NULL,
        "description": "The organization; null for catalogs, and when no target was known yet.",
    },
    "repo": {**_TEXT_OR_NULL, "description": "The repository in the organization, or the package in the catalog."},
    "version": {
        **_TEXT_OR_NULL,
        "description": "The version of the release, or of the default channel's head; null if there is none.",
    },
    "nvr": {**_TEXT_OR_NULL, "description": "Name-version-release of the build."},
    "extracted_files": {
        "description": "Sorted relative paths of the files in the archive.",
        "type": ["array", "null"],
        "items": _TEXT,
    },
    "status": {**_TEXT, "description": "The outcome."},
    "reason": {**_TEXT_OR_NULL, "description": "The reason, for skipped and retrying."},
    "superseded_by": {**_TEXT_OR_NULL, "description": "The NVR of the newer build that supersedes it, for skipped."},
    "held_by": {
        **_TEXT_OR_NULL,
        "description": "The entry of hold in the mapping that holds the build, and its line, for skipped.",
    },
    "warnings": {
        "description": "What is unusual about the accepted manifests: sentences for a person, at most 101.",
        "type": "array",
        "items": _TEXT,
    },
    "build": _BUILD,
    "digest": {
        "description": "The sha256 in hex of the uncompressed tar, as the registry lists it; for a catalog, of the "
        "package in its canonical form.",
        "type": ["string", "null"],
        "pattern": "^[0-9a-f]{64}$",
    },
    "public": {"type": ["boolean", "null"], "description": "Whether the package was made public."},
    "catalog": _CATALOG,
    "attempt": {"type": "integer", "minimum": 1, "description": "The number of this attempt."},
    "source": _SOURCE,
    "error": _ERROR,
    "next_attempt_at": {**_TIME_OR_NULL, "description": "When the next attempt is due, in UTC, for retrying."},
}


_LATER = {"superseded_by", "held_by", "warnings", "catalog"}
"""Keys that earlier versions did not send."""


def body_schema(status: Status) -> dict[str, Any]:
    """Return the JSON Schema of result bodies with ``status``."""
    return {
        "$schema": DRAFT,
        "description": f"The result of a release that is {status}.",
        "type": "object",
        "properties": {**_PROPERTIES, "status": {"const": status.value, "description": "The outcome."}},
        "required": sorted(_PROPERTIES.keys() - _LATER),
    }


def all_schemas() -> dict[str, Any]:
    """Return one JSON Schema for all result bodies; the status tells them apart."""
    return {
        "$schema": DRAFT,
        "title": "omps-worker result",
        "oneOf": [{key: value for key, value in body_schema(status).items() if key != "$schema"} for status in Status],
    }
