# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate rendered Kubernetes manifests. ``check-deploy`` runs this in an environment with kubernetes-validate.

    check_manifests.py FILE VERSION…

Each object must match the strict schema of each version of Kubernetes, and objects must only refer to existing ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these properties and no others."""
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


ROUTE = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "route.openshift.io/v1"},
    kind={"const": "Route"},
    metadata=closed(["name"], name={"type": "string"}, namespace={"type": "string"}, labels=TEXTS, annotations=TEXTS),
    spec=closed(
        ["to"],
        host={"type": "string"},
        path={"type": "string"},
        port=closed(["targetPort"], targetPort={"type": ["string", "integer"]}),
        to=closed(
            ["kind", "name"],
            kind={"const": "Service"},
            name={"type": "string"},
            weight={"type": "integer", "minimum": 0, "maximum": 256},
        ),
        tls=closed(
            ["termination"],
            termination={"enum": ["edge", "passthrough", "reencrypt"]},
            insecureEdgeTerminationPolicy={"enum": ["None", "Allow", "Redirect"]},
        ),
        wildcardPolicy={"enum": ["None", "Subdomain"]},
    ),
)
"""The schema of OpenShift's Routes, which kubernetes-validate does not know, limited to what is used here."""

POD_MONITOR = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "monitoring.coreos.com/v1"},
    kind={"const": "PodMonitor"},
    metadata=closed(["name"], name={"type": "string"}, namespace={"type": "string"}, labels=TEXTS),
    spec=closed(
        ["selector", "podMetricsEndpoints"],
        selector=closed(["matchLabels"], matchLabels=TEXTS),
        podMetricsEndpoints={
            "type": "array",
            "minItems": 1,
            "items": closed(
                ["port"],
                port={"type": "string"},
                path={"type": "string"},
                interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
            ),
        },
    ),
)
"""The same for the PodMonitors of the Prometheus operator."""

FOREIGN = {"Route": ROUTE, "PodMonitor": POD_MONITOR}

OWN_SECRETS = {"omps-worker-broker", "omps-worker-registry"}
"""The Secrets that administrators create, as docs/deployment.md describes."""


def faults(documents: list[dict[str, Any]], versions: list[str]) -> Iterator[str]:
    """Yield what is wrong with the documents."""
    for document in documents:
        label = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
        for fault in schema_faults(document, versions):
            yield f"{label}: {fault}"
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    yield from (f"{kind} {name} is defined twice" for kind, name in set(names) if names.count((kind, name)) > 1)
    for document in documents:
        if document["kind"] == "Deployment":
            yield from reference_faults(document, set(names))


def schema_faults(document: dict[str, Any], versions: list[str]) -> Iterator[str]:
    """Yield where the document violates the schema of its kind."""
    if foreign := FOREIGN.get(document.get("kind", "")):
        yield from (error.message for error in jsonschema.Draft202012Validator(foreign).iter_errors(document))
        return
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.VersionNotSupportedError) as error:
            yield f"Kubernetes {version}: {error}"


def reference_faults(deployment: dict[str, Any], there: set[tuple[str, str]]) -> Iterator[str]:
    """Yield references of a Deployment to objects that do not exist."""
    label = f"Deployment {deployment['metadata']['name']}"
    pod = deployment["spec"]["template"]["spec"]
    if ("ServiceAccount", pod["serviceAccountName"]) not in there:
        yield f"{label}: there is no ServiceAccount {pod['serviceAccountName']}"
    for volume in pod["volumes"]:
        config = volume.get("configMap", {"optional": True})
        if not config.get("optional") and ("ConfigMap", config["name"]) not in there:
            yield f"{label}: there is no ConfigMap {config['name']}"
        if "secret" in volume and volume["secret"]["secretName"] not in OWN_SECRETS:
            yield f"{label}: there is no Secret {volume['secret']['secretName']}"
    for container in pod["containers"]:
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != {volume["name"] for volume in pod["volumes"]}:
            yield f"{label}: volumes and mounts differ"
        for variable in container["env"]:
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret and secret["name"] not in OWN_SECRETS:
                yield f"{label}: there is no Secret {secret['name']}"


def main() -> int:
    """Print what is wrong, and return 1 if anything is."""
    file, *versions = sys.argv[1:]
    documents = list(yaml.safe_load_all(Path(file).read_text(encoding="utf-8")))
    found = list(faults(documents, versions))
    for fault in found:
        print(f"  {fault}", file=sys.stderr)
    return 1 if found or not documents else 0


if __name__ == "__main__":
    sys.exit(main())
