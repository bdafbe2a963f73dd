# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON Schemas (draft 2020-12) of the configuration files and of the messages.

Editors use them to complete keys and show their meaning. Some rules cannot be expressed in a schema, such as that an
organization has exactly one kind of login. They are checked when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def mapping_schema() -> dict[str, Any]:
    """Return the schema of the mapping file."""
    from omps_worker.configuration.mapping.tables import MappingTable

    return _described("The mapping of omps-worker: which build goes where", MappingTable.model_json_schema())


def config_schema() -> dict[str, Any]:
    """Return the schema of the configuration file, including the sections of fedora-messaging.

    The program accepts top-level keys in any case (``AMQP_URL``), as fedora-messaging does. The schema does not.
    """
    from omps_worker.configuration.settings.models import Settings

    schema = _described("The configuration of omps-worker", Settings.model_json_schema(by_alias=True))
    schema["required"].remove("amqp_url")
    return schema


def results_schema() -> dict[str, Any]:
    """Return the schemas of the bodies of result messages."""
    from omps_worker.messages.result_schema import all_schemas

    return all_schemas()


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "mapping": mapping_schema,
    "config": config_schema,
    "results": results_schema,
}


def schema_of(what: str) -> dict[str, Any]:
    """Return the schema of ``mapping``, ``config`` or ``results``. Raises KeyError for anything else."""
    return SCHEMAS[what]()


def _described(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _without_null(schema)
    return {"$schema": DIALECT, **plain, "title": title}


def _without_null(node: Any) -> Any:
    """Return ``node`` without null: in files, a key is omitted instead."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_null(value) for key, value in node.items() if not (key == "default" and value is None)}
    choices = plain.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        if len(rest) == 1:
            del plain["anyOf"]
            return {**rest[0], **plain}
        plain["anyOf"] = rest
    return plain
