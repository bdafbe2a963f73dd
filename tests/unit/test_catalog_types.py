# SPDX-License-Identifier: GPL-3.0-or-later
"""Each field of a CSV whose type opm checks: a value of the type is taken, and one of another type is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from omps_worker.destinations.catalog.grammars.csv_types import check_types
from omps_worker.destinations.catalog.grammars.go_structs import Mismatch

VALUES: dict[str, tuple[Any, Any]] = {
    "text": ("x", 1),
    "boolean": (True, "yes"),
    "int32": (2**31 - 1, 2**31),
    "int64": (2**40, 2**63),
    "port": ("http", []),
    "texts": ({"a": "b"}, {"a": 1}),
    "list": (["x"], [1]),
    "quantities": ({"a": "1Mi"}, {"a": "much"}),
    "struct": ({}, []),
    "structs": ([{}], {}),
}
"""For each type, a value of it and one that is none."""

DEPLOYMENT = "spec.install.spec.deployments[0]"
POD = f"{DEPLOYMENT}.spec.template.spec"
CONTAINER = f"{POD}.containers[0]"
SELECTOR = "text: key operator, list: values"
SECURITY = (
    "boolean: privileged runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation, "
    "int64: runAsUser runAsGroup fsGroup, struct: capabilities"
)
PROBE = (
    "int32: initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold, "
    "struct: exec httpGet tcpSocket"
)
RULES = "list: apiGroups resources resourceNames verbs nonResourceURLs"

FIELDS = {
    "": "text: apiVersion, struct: spec",
    "spec": "struct: install selector cleanup, structs: webhookdefinitions relatedImages, texts: labels annotations, "
    "text: replaces, list: skips",
    "spec.cleanup": "boolean: enabled",
    "spec.relatedImages[0]": "text: name image",
    "spec.selector": "texts: matchLabels, structs: matchExpressions",
    "spec.selector.matchExpressions[0]": SELECTOR,
    "spec.webhookdefinitions[0]": "text: generateName type deploymentName failurePolicy matchPolicy sideEffects "
    "reinvocationPolicy webhookPath, int32: containerPort timeoutSeconds, port: targetPort, struct: objectSelector, "
    "list: admissionReviewVersions conversionCRDs, structs: rules",
    "spec.webhookdefinitions[0].objectSelector": "texts: matchLabels, structs: matchExpressions",
    "spec.webhookdefinitions[0].rules[0]": "list: operations apiGroups apiVersions resources, text: scope",
    "spec.install": "text: strategy, struct: spec",
    "spec.install.spec": "structs: deployments permissions clusterPermissions",
    "spec.install.spec.permissions[0]": "text: serviceAccountName, structs: rules",
    "spec.install.spec.permissions[0].rules[0]": RULES,
    "spec.install.spec.clusterPermissions[0]": "text: serviceAccountName, structs: rules",
    "spec.install.spec.clusterPermissions[0].rules[0]": RULES,
    DEPLOYMENT: "text: name, texts: label, struct: spec",
    f"{DEPLOYMENT}.spec": "int32: replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds, "
    "boolean: paused, struct: selector template strategy",
    f"{DEPLOYMENT}.spec.selector": "texts: matchLabels, structs: matchExpressions",
    f"{DEPLOYMENT}.spec.selector.matchExpressions[0]": SELECTOR,
    f"{DEPLOYMENT}.spec.strategy": "text: type",
    f"{DEPLOYMENT}.spec.template": "struct: metadata spec",
    f"{DEPLOYMENT}.spec.template.metadata": "text: name namespace generateName, texts: labels annotations",
    POD: "structs: containers initContainers imagePullSecrets tolerations volumes, text: serviceAccountName "
    "serviceAccount nodeName hostname priorityClassName schedulerName restartPolicy dnsPolicy, boolean: hostNetwork "
    "hostPID hostIPC automountServiceAccountToken, int64: terminationGracePeriodSeconds, texts: nodeSelector, "
    "struct: securityContext",
    f"{POD}.securityContext": SECURITY,
    f"{POD}.imagePullSecrets[0]": "text: name",
    f"{POD}.tolerations[0]": "text: key operator value effect, int64: tolerationSeconds",
    f"{POD}.volumes[0]": "text: name",
    f"{POD}.initContainers[0]": "text: image",
    CONTAINER: "text: name image workingDir imagePullPolicy terminationMessagePath terminationMessagePolicy, "
    "list: command args, structs: ports env volumeMounts, struct: resources livenessProbe readinessProbe startupProbe "
    "securityContext, boolean: stdin stdinOnce tty",
    f"{CONTAINER}.ports[0]": "text: name protocol hostIP, int32: hostPort containerPort",
    f"{CONTAINER}.env[0]": "text: name value, struct: valueFrom",
    f"{CONTAINER}.env[0].valueFrom": "struct: fieldRef configMapKeyRef secretKeyRef",
    f"{CONTAINER}.env[0].valueFrom.fieldRef": "text: apiVersion fieldPath",
    f"{CONTAINER}.env[0].valueFrom.configMapKeyRef": "text: name key, boolean: optional",
    f"{CONTAINER}.env[0].valueFrom.secretKeyRef": "text: name key, boolean: optional",
    f"{CONTAINER}.resources": "quantities: limits requests",
    f"{CONTAINER}.volumeMounts[0]": "text: name mountPath subPath, boolean: readOnly",
    f"{CONTAINER}.securityContext": SECURITY,
    f"{CONTAINER}.securityContext.capabilities": "list: add drop",
    f"{CONTAINER}.livenessProbe": PROBE,
    f"{CONTAINER}.livenessProbe.exec": "list: command",
    f"{CONTAINER}.livenessProbe.httpGet": "text: path host scheme, port: port, structs: httpHeaders",
    f"{CONTAINER}.livenessProbe.httpGet.httpHeaders[0]": "text: name value",
    f"{CONTAINER}.livenessProbe.tcpSocket": "port: port, text: host",
    f"{CONTAINER}.readinessProbe": PROBE,
    f"{CONTAINER}.startupProbe": PROBE,
}
"""The fields of each struct, by its path, after their types."""

CASES = [
    (f"{path}.{name}".lstrip("."), kind)
    for path, fields in FIELDS.items()
    for kind, names in (each.split(": ") for each in fields.split(", "))
    for name in names.split()
]


def csv_with(path: str, value: Any) -> dict[str, Any]:
    """A CSV that has nothing but ``value`` at ``path``."""
    for key in reversed(re.findall(r"\w+|\[0\]", path)):
        value = [value] if key == "[0]" else {key: value}
    return dict(value)


@pytest.mark.parametrize(("path", "kind"), CASES, ids=[path for path, _ in CASES])
def test_a_field_takes_its_type_and_no_other(path, kind):
    right, wrong = VALUES[kind]

    check_types(csv_with(path, right))
    check_types(csv_with(path, None))
    with pytest.raises(Mismatch, match=rf"^{re.escape(path)}(\.a|\[0\])? must be "):
        check_types(csv_with(path, wrong))
