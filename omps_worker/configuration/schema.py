# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON Schema (draft 2020-12) of the files that people write and the messages that programs read.

Good enough for an editor to complete keys and show what they mean. What a schema cannot say, such
as that an organization has exactly one way to a token, is checked when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def mapping_schema() -> dict[str, Any]:
    """Of the mapping file."""
    from omps_worker.configuration.mapping.rules import MappingTable

    return _described("The mapping of omps-worker: which build goes where", MappingTable.model_json_schema())


def config_schema() -> dict[str, Any]:
    """Of the configuration file, with every section of fedora-messaging's.

    Top-level keys in other letters than these (``AMQP_URL``) are accepted by the program, as
    fedora-messaging does, but not by the schema.
    """
    from omps_worker.configuration.settings import Settings

    schema = _described("The configuration of omps-worker", Settings.model_json_schema(by_alias=True))
    schema["required"].remove("amqp_url")
    return schema


def results_schema() -> dict[str, Any]:
    """Of the bodies of result messages."""
    from omps_worker.messages.result_schema import all_schemas

    return all_schemas()


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "mapping": mapping_schema,
    "config": config_schema,
    "results": results_schema,
}


def schema_of(what: str) -> dict[str, Any]:
    """The schema of ``mapping``, ``config`` or ``results``; KeyError for anything else."""
    return SCHEMAS[what]()


def _described(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _without_null(schema)
    return {"$schema": DIALECT, **plain, "title": title}


def _without_null(node: Any) -> Any:
    """Files leave a key out instead of saying null; the schema says so, too."""
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
