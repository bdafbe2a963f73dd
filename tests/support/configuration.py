# SPDX-License-Identifier: GPL-3.0-or-later
"""A small valid configuration, for tests that change single keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omps_worker.common.errors import SettingsError
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.models import Settings

GONE = object()
"""The value for a key that is left out."""

MAPPING = "version: 1\nrules:\n  - match: {}\n    publish: [{organization: community}]\n"

MINIMAL = """
amqp_url = "amqp://localhost"
topic_prefix = "org.example"
[queues.omps-worker]
[consumer_config.koji]
hub_url = "https://koji.example.com/kojihub"
root_url = "https://koji.example.com/files"
[consumer_config.registry]
url = "https://quay.example.com"
[consumer_config.organizations.community]
token = "basic c2VjcmV0"
"""
"""A configuration file with only the required keys."""


def table(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration as a table. ``changes`` has dotted keys; ``GONE`` removes a key."""
    whole: dict[str, Any] = {
        "amqp_url": "amqp://guest:guest@localhost/%2F",
        "topic_prefix": "org.example",
        "queues": {"omps-worker": {}},
        "bindings": [{"exchange": "amq.topic", "routing_keys": ["org.example.build"]}],
        "consumer_config": {
            "koji": {"hub_url": "https://koji.example.com/kojihub", "root_url": "https://koji.example.com/files"},
            "registry": {"url": "https://quay.example.com"},
            "organizations": {"community": {"token": "basic c2VjcmV0"}},
        },
    }
    for key, value in (changes or {}).items():
        *outer, last = key.split(".")
        inner = whole
        for part in outer:
            inner = inner.setdefault(part, {})
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return whole


def settings(
    directory: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    api: bool = False,
) -> Settings:
    """Return the Settings of such a configuration in ``directory``, which gets a mapping file if it has none."""
    mapping = directory / "mapping.yaml"
    if not mapping.exists():
        mapping.write_text(MAPPING)
    return settings_file.check(table(changes), directory / "config.toml", environment=environment or {}, api=api)


def faults(
    directory: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    api: bool = False,
) -> dict[str, str]:
    """Return the faults of such a configuration, reason by key; empty if there are none."""
    try:
        settings(directory, changes, environment=environment, api=api)
    except SettingsError as error:
        return {fault.key: fault.reason for fault in error.faults}
    return {}
