# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of what a ClusterServiceVersion (CSV) holds, beside what a catalog shows of it.

opm decodes the whole CSV into the structs of Kubernetes, and refuses it if one value is of another type. So does a
cluster. These are the fields that CSVs have; rarer ones are not looked at, nor are icons, which are left out if they
are not what they should be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omps_worker.destinations.catalog.grammars.go_structs import (
    BOOLEAN,
    LIST_OF_TEXT,
    NUMBER,
    TEXT,
    TEXTS,
    Field,
    Mismatch,
    Struct,
    as_mapping,
    int32,
    integer,
    one,
    raw_keys,
    structs,
    text,
)

_QUANTITY = re.compile(r"(?!$)[+-]?[0-9]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,18}|[KMGTPE]i|[numkMGTPE])?")
"""What Kubernetes takes for a quantity. It takes ``.`` and ``m`` for zero, too."""


def check_types(csv: Mapping[Any, Any]) -> None:
    """Raise Mismatch if a field of a CSV is of another type than Kubernetes takes."""
    _CSV(csv, "")


def _port(value: Any, where: str) -> int | str:
    return value if isinstance(value, str) else int32(value, where)


def _quantity(value: Any, where: str) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        value = text(value, where).strip()
        if not _QUANTITY.fullmatch(value):
            raise Mismatch(f"{where} must be a quantity, like 100m or 30Mi")
    return str(value)


def _quantities(value: Any, where: str) -> dict[str, str]:
    found = raw_keys(as_mapping(value, where), where)
    return {key: _quantity(inner, f"{where}.{key}") for key, inner in found.items() if inner is not None}


def _some(names: str, field: Field) -> dict[str, Field]:
    return dict.fromkeys(names.split(), field)


_INTEGER = Field(integer, int)
_PORT = Field(_port, int)
_QUANTITIES = Field(_quantities, dict)

_SELECTOR = Struct(
    {
        "matchLabels": TEXTS,
        "matchExpressions": structs(Struct({**_some("key operator", TEXT), "values": LIST_OF_TEXT})),
    }
)
_META = Struct({**_some("name namespace generateName", TEXT), **_some("labels annotations", TEXTS)})
_PROBE = Struct(
    {
        **_some("initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold", NUMBER),
        "exec": one(Struct({"command": LIST_OF_TEXT})),
        "httpGet": one(
            Struct(
                {
                    **_some("path host scheme", TEXT),
                    "port": _PORT,
                    "httpHeaders": structs(Struct(_some("name value", TEXT))),
                }
            )
        ),
        "tcpSocket": one(Struct({"port": _PORT, "host": TEXT})),
    }
)
_VARIABLE = Struct(
    {
        **_some("name value", TEXT),
        "valueFrom": one(
            Struct(
                {
                    "fieldRef": one(Struct(_some("apiVersion fieldPath", TEXT))),
                    **_some(
                        "configMapKeyRef secretKeyRef", one(Struct({**_some("name key", TEXT), "optional": BOOLEAN}))
                    ),
                }
            )
        ),
    }
)
_SECURITY = Struct(
    {
        **_some("privileged runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation", BOOLEAN),
        **_some("runAsUser runAsGroup fsGroup", _INTEGER),
        "capabilities": one(Struct(_some("add drop", LIST_OF_TEXT))),
    }
)
_CONTAINER = Struct(
    {
        **_some("name image workingDir imagePullPolicy terminationMessagePath terminationMessagePolicy", TEXT),
        **_some("command args", LIST_OF_TEXT),
        "ports": structs(Struct({**_some("name protocol hostIP", TEXT), **_some("hostPort containerPort", NUMBER)})),
        "env": structs(_VARIABLE),
        "resources": one(Struct(_some("limits requests", _QUANTITIES))),
        "volumeMounts": structs(Struct({**_some("name mountPath subPath", TEXT), "readOnly": BOOLEAN})),
        **_some("livenessProbe readinessProbe startupProbe", one(_PROBE)),
        "securityContext": one(_SECURITY),
        **_some("stdin stdinOnce tty", BOOLEAN),
    }
)
_POD = Struct(
    {
        **_some("containers initContainers", structs(_CONTAINER)),
        **_some("serviceAccountName serviceAccount nodeName hostname priorityClassName schedulerName", TEXT),
        **_some("restartPolicy dnsPolicy", TEXT),
        **_some("hostNetwork hostPID hostIPC automountServiceAccountToken", BOOLEAN),
        "terminationGracePeriodSeconds": _INTEGER,
        "nodeSelector": TEXTS,
        "securityContext": one(_SECURITY),
        "imagePullSecrets": structs(Struct({"name": TEXT})),
        "tolerations": structs(Struct({**_some("key operator value effect", TEXT), "tolerationSeconds": _INTEGER})),
        "volumes": structs(Struct({"name": TEXT})),
    }
)
_DEPLOYMENT = Struct(
    {
        "name": TEXT,
        "label": TEXTS,
        "spec": one(
            Struct(
                {
                    **_some("replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds", NUMBER),
                    "paused": BOOLEAN,
                    "selector": one(_SELECTOR),
                    "template": one(Struct({"metadata": one(_META), "spec": one(_POD)})),
                    "strategy": one(Struct({"type": TEXT})),
                }
            )
        ),
    }
)
_PERMISSION = Struct(
    {
        "serviceAccountName": TEXT,
        "rules": structs(
            Struct(_some("apiGroups resources resourceNames verbs nonResourceURLs", LIST_OF_TEXT)),
        ),
    }
)
_INSTALL = Struct(
    {
        "strategy": TEXT,
        "spec": one(
            Struct(
                {
                    "deployments": structs(_DEPLOYMENT),
                    **_some("permissions clusterPermissions", structs(_PERMISSION)),
                }
            )
        ),
    }
)
_WEBHOOK = Struct(
    {
        **_some("generateName type deploymentName failurePolicy matchPolicy sideEffects", TEXT),
        **_some("reinvocationPolicy webhookPath", TEXT),
        **_some("containerPort timeoutSeconds", NUMBER),
        "targetPort": _PORT,
        "objectSelector": one(_SELECTOR),
        **_some("admissionReviewVersions conversionCRDs", LIST_OF_TEXT),
        "rules": structs(
            Struct({**_some("operations apiGroups apiVersions resources", LIST_OF_TEXT), "scope": TEXT}),
        ),
    }
)
_CSV = Struct(
    {
        "apiVersion": TEXT,
        "spec": one(
            Struct(
                {
                    "install": one(_INSTALL),
                    "webhookdefinitions": structs(_WEBHOOK),
                    **_some("labels annotations", TEXTS),
                    "selector": one(_SELECTOR),
                    "cleanup": one(Struct({"enabled": BOOLEAN})),
                    "relatedImages": structs(Struct(_some("name image", TEXT))),
                    "replaces": TEXT,
                    "skips": LIST_OF_TEXT,
                }
            )
        ),
    }
)
