# SPDX-License-Identifier: GPL-3.0-or-later
"""The APIs that a bundle provides and needs: CustomResourceDefinitions and aggregated API services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omps_worker.destinations.catalog.grammars.go_structs import (
    ALWAYS_TEXT,
    BOOLEAN,
    LIST_OF_TEXT,
    TEXT,
    TEXTS,
    Mismatch,
    Struct,
    one,
    structs,
)
from omps_worker.manifests.operator_manifests import CRD

_DEFINITION = Struct({"group": ALWAYS_TEXT, "kind": ALWAYS_TEXT, "name": ALWAYS_TEXT, "version": ALWAYS_TEXT})
_DEFINITIONS = Struct({"owned": structs(_DEFINITION), "required": structs(_DEFINITION)})

_NAMES = Struct(
    {
        "plural": ALWAYS_TEXT,
        "singular": TEXT,
        "kind": ALWAYS_TEXT,
        "listKind": TEXT,
        "shortNames": LIST_OF_TEXT,
        "categories": LIST_OF_TEXT,
    },
    exact=True,
)
_ANY = one(Struct({}))
_SUBRESOURCES = one(Struct({"status": _ANY, "scale": _ANY}, exact=True))
_VERSION = Struct(
    {
        "name": ALWAYS_TEXT,
        "served": BOOLEAN,
        "storage": BOOLEAN,
        "deprecated": BOOLEAN,
        "schema": _ANY,
        "subresources": _SUBRESOURCES,
    },
    exact=True,
)
_CRD = Struct(
    {
        "metadata": one(Struct({"name": TEXT, "labels": TEXTS, "annotations": TEXTS}, exact=True)),
        "spec": one(
            Struct(
                {
                    "group": ALWAYS_TEXT,
                    "version": TEXT,
                    "scope": TEXT,
                    "names": one(_NAMES),
                    "versions": structs(_VERSION),
                    "preserveUnknownFields": BOOLEAN,
                    "validation": _ANY,
                    "subresources": _SUBRESOURCES,
                },
                exact=True,
            )
        ),
    },
    exact=True,
)

Gvk = tuple[str, str, str]
"""Group, version and kind of an API."""

_Api = tuple[str, str, str, str]
"""The same, and its plural name."""


def apis_of(spec: Mapping[Any, Any], objects: Iterable[Mapping[Any, Any]]) -> tuple[set[Gvk], set[Gvk]]:
    """Return the APIs that a CSV with ``spec`` provides, with ``objects`` beside it, and those that it requires.

    Raises Mismatch if it owns a CustomResourceDefinition that is not there, as opm refuses it.
    """
    owned_services, required_services = _definitions(spec, "apiservicedefinitions")
    owned, required = _definitions(spec, "customresourcedefinitions")
    provided = {api for each in objects if each.get("kind") == CRD for api in _defined(each)}
    provided |= {_service(each) for each in owned_services}
    missing = sorted({_named(each) for each in owned} - provided)
    if missing:
        group, version, kind, plural = missing[0]
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Mismatch(f"it owns {plural}.{group} {version} {kind}, which no file beside it defines{more}")
    needed = {_named(each)[:3] for each in required} | {_service(each)[:3] for each in required_services}
    return {api[:3] for api in provided}, needed


def _definitions(spec: Mapping[Any, Any], key: str) -> tuple[list[Any], list[Any]]:
    found = _DEFINITIONS(spec.get(key), f"spec.{key}")
    return found.get("owned", []), found.get("required", [])


def _named(definition: Mapping[str, str]) -> _Api:
    plural, dot, group = definition["name"].partition(".")
    if not dot:
        raise Mismatch(f"the definition {definition['name']!r} is no plural name and group, with a dot between")
    return group, definition["version"], definition["kind"], plural


def _service(definition: Mapping[str, str]) -> _Api:
    return definition["group"], definition["version"], definition["kind"], definition["name"]


def _defined(crd: Mapping[Any, Any]) -> Iterator[_Api]:
    """Return the APIs that a CustomResourceDefinition defines, in v1 or v1beta1; other versions define none.

    Raises Mismatch if opm could not decode it.
    """
    version = str(crd.get("apiVersion")).rpartition("/")[2]
    if version not in ("v1", "v1beta1"):
        return
    spec = _CRD(crd, "the CustomResourceDefinition")["spec"]
    called = [each["name"] for each in spec.get("versions", [])]
    if version == "v1beta1" and spec.get("version"):
        called.append(spec["version"])
    names = spec["names"]
    for each in called:
        yield spec["group"], each, names["kind"], names["plural"]
