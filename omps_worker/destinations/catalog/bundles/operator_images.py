# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that the deployments of a CSV run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omps_worker.destinations.catalog.grammars.go_structs import ALWAYS_TEXT, TEXT, Struct, one, structs
from omps_worker.destinations.catalog.grammars.references import reference_fault

_VARIABLE = Struct({"name": ALWAYS_TEXT, "value": TEXT})
_CONTAINER = Struct({"image": ALWAYS_TEXT, "env": structs(_VARIABLE)})
_POD = Struct({"containers": structs(_CONTAINER), "initContainers": structs(_CONTAINER)})
_TEMPLATE = Struct({"spec": one(_POD)})
_DEPLOYMENT = Struct({"spec": one(Struct({"template": one(_TEMPLATE)}))})
_STRATEGY = Struct({"strategy": ALWAYS_TEXT, "spec": one(Struct({"deployments": structs(_DEPLOYMENT)}))})
_SPEC = Struct({"install": one(_STRATEGY)})


def operator_images(spec: Mapping[Any, Any]) -> tuple[list[str], list[str]]:
    """Return the images of all containers, each once, sorted; and images that environment variables name.

    opm sees only the former. Raises Mismatch for a field of another type than Kubernetes has.
    """
    strategy = _SPEC(spec, "spec")["install"]
    if strategy["strategy"] != "deployment":
        return [], []
    pods = [each["spec"]["template"]["spec"] for each in strategy["spec"].get("deployments", [])]
    containers = [each for pod in pods for kind in ("containers", "initContainers") for each in pod.get(kind, [])]
    variables = (each for container in containers for each in container.get("env", []))
    return sorted({each["image"] for each in containers}), sorted(set(_images_in(variables)))


def _images_in(variables: Iterable[Mapping[str, str]]) -> Iterable[str]:
    for each in variables:
        value = each.get("value", "")
        if "IMAGE" in each["name"].upper() and "/" in value and reference_fault(value) is None:
            yield value
