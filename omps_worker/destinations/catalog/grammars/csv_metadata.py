# SPDX-License-Identifier: GPL-3.0-or-later
"""The property ``olm.csv.metadata`` of a bundle: what clients show of an operator before it is installed.

The fields are those of ``property.CSVMetadata`` in operator-registry and of the types of ClusterServiceVersions in
operator-framework/api v0.45, with their ``omitempty``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omps_worker.destinations.catalog.grammars.go_structs import (
    ALWAYS_TEXT,
    BOOLEAN,
    LIST_OF_TEXT,
    NUMBER,
    RAW,
    TEXT,
    TEXTS,
    Field,
    Struct,
    one,
    structs,
)

_REFERENCE = Struct({"name": ALWAYS_TEXT, "kind": ALWAYS_TEXT, "version": ALWAYS_TEXT})
_DESCRIPTOR = Struct(
    {"path": ALWAYS_TEXT, "displayName": TEXT, "description": TEXT, "x-descriptors": LIST_OF_TEXT, "value": RAW}
)
_DESCRIBED: dict[str, Field] = {
    "displayName": TEXT,
    "description": TEXT,
    "resources": structs(_REFERENCE),
    "statusDescriptors": structs(_DESCRIPTOR),
    "specDescriptors": structs(_DESCRIPTOR),
    "actionDescriptors": structs(_DESCRIPTOR),
}
_CRD = Struct({"name": ALWAYS_TEXT, "version": ALWAYS_TEXT, "kind": ALWAYS_TEXT, **_DESCRIBED})
_API_SERVICE = Struct(
    {
        "name": ALWAYS_TEXT,
        "group": ALWAYS_TEXT,
        "version": ALWAYS_TEXT,
        "kind": ALWAYS_TEXT,
        "deploymentName": TEXT,
        "containerPort": NUMBER,
        **_DESCRIBED,
    }
)
_CRDS = Struct({"owned": structs(_CRD), "required": structs(_CRD)})
_API_SERVICES = Struct({"owned": structs(_API_SERVICE), "required": structs(_API_SERVICE)})
_INSTALL_MODE = Struct({"type": ALWAYS_TEXT, "supported": BOOLEAN})
_LINK = Struct({"name": TEXT, "url": TEXT})
_MAINTAINER = Struct({"name": TEXT, "email": TEXT})
_GVK = Struct({"group": ALWAYS_TEXT, "version": ALWAYS_TEXT, "kind": ALWAYS_TEXT})

_SHARED: dict[str, Field] = {
    "description": TEXT,
    "displayName": TEXT,
    "installModes": structs(_INSTALL_MODE),
    "keywords": LIST_OF_TEXT,
    "links": structs(_LINK),
    "maintainers": structs(_MAINTAINER),
    "maturity": TEXT,
    "minKubeVersion": TEXT,
    "nativeAPIs": structs(_GVK),
    "provider": one(_LINK),
}
"""The fields that have the same name in a CSV's spec and in the property."""

_SPEC = Struct(
    {**_SHARED, "apiservicedefinitions": one(_API_SERVICES), "customresourcedefinitions": one(_CRDS)},
)
_METADATA = Struct({"annotations": TEXTS, "labels": TEXTS})

PROPERTY = Struct(
    {
        **_SHARED,
        "annotations": TEXTS,
        "labels": TEXTS,
        "apiServiceDefinitions": one(_API_SERVICES),
        "crdDescriptions": one(_CRDS),
    }
)
"""The value of the property itself, as a catalog has it."""


def csv_metadata(csv: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the value of the property for a CSV. Raises Mismatch for a field of another type than opm takes."""
    value = _SPEC(csv.get("spec"), "spec")
    value["apiServiceDefinitions"] = value.pop("apiservicedefinitions")
    value["crdDescriptions"] = value.pop("customresourcedefinitions")
    return {**value, **_METADATA(csv.get("metadata"), "metadata")}
