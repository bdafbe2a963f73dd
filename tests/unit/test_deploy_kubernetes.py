# SPDX-License-Identifier: GPL-3.0-or-later
"""``deploy/kubernetes`` fits the program: what is mounted loads, what is probed listens, what takes time gets it.

``make check-deploy`` validates the same files against the schemas of Kubernetes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from omps_worker.api.server import _Processes
from omps_worker.broker.consuming.signals import GRACE_SECONDS
from omps_worker.configuration.settings.models import Settings
from tests.support.deploying import BROKER, KUBERNETES, documents, mounted
from tests.support.sources import ROOT

BASE, OVERLAYS = KUBERNETES / "base", KUBERNETES / "overlays"
SITES = {"base": BASE, "example": OVERLAYS / "example"}
KUSTOMIZATIONS = (BASE, *sorted(OVERLAYS.iterdir()), *sorted((KUBERNETES / "components").iterdir()))
DEPLOYMENTS = ("worker", "api")
EVERY_ADDRESS = "::"
"""Of IPv4 and IPv6: a cluster may have the one, the other or both."""
MEBIBYTES = {"Mi": 1, "Gi": 1024}


def deployment(which: str) -> dict[str, Any]:
    """The Deployment of the worker, or of the REST API."""
    (document,) = documents(BASE / f"{which}.yaml")
    return document


def pod(which: str) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(which)["spec"]["template"]["spec"]
    return spec


def container(which: str) -> dict[str, Any]:
    (only,) = pod(which)["containers"]
    return dict(only)


def settings(site: str, tmp_path: Path, *, api: bool = False) -> Settings:
    loaded, _ = mounted(SITES[site] / "config.toml", SITES[site] / "mapping.yaml", tmp_path, api=api)
    return loaded


def mebibytes(text: str) -> int:
    return int(text[:-2]) * MEBIBYTES[text[-2:]]


@pytest.mark.parametrize("directory", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_every_file_is_part_of_its_kustomization_and_can_be_read(directory: Path) -> None:
    (kustomization,) = documents(directory / "kustomization.yaml")
    generated = [file for made in kustomization.get("configMapGenerator", ()) for file in made["files"]]
    patches = [patch["path"] for patch in kustomization.get("patches", ())]
    files = [name for name in kustomization["resources"] if not (directory / name).is_dir()]
    assert {*files, *generated, *patches, "kustomization.yaml"} == {path.name for path in directory.iterdir()}
    for name in files:
        assert all({"apiVersion", "kind"} <= set(document) for document in documents(directory / name)), name


@pytest.mark.parametrize("site", SITES)
def test_the_configuration_and_the_mapping_load_without_a_doubt(site: str, tmp_path: Path) -> None:
    loaded, mapping = mounted(SITES[site] / "config.toml", SITES[site] / "mapping.yaml", tmp_path)
    assert loaded.warnings == ()
    assert len(mapping.current) > 0
    assert mapping.current.warnings == ()


@pytest.mark.parametrize("site", SITES)
def test_the_rest_api_loads_the_same_configuration(site: str, tmp_path: Path) -> None:
    loaded = settings(site, tmp_path, api=True)
    assert loaded.has_broker
    assert loaded.worker.api.address == EVERY_ADDRESS


def test_nothing_in_a_cluster_needs_addresses_of_ipv4() -> None:
    for path in (path for path in KUBERNETES.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b\d{1,3}(\.\d{1,3}){3}\b|\bIPv4\b(?!, IPv6)", text), path.name
    (service,) = documents(BASE / "api-service.yaml")
    assert not {"ipFamilies", "ipFamilyPolicy"} & set(service["spec"]), "it has the families of its cluster"
    for which in DEPLOYMENTS:
        probes = [value["httpGet"] for key, value in container(which).items() if key.endswith("Probe")]
        assert probes
        assert not [probe for probe in probes if "host" in probe], "the kubelet asks the pod's own address"


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_all_files_that_the_configuration_names_are_mounted(site: str, which: str) -> None:
    mounts = [mount["mountPath"] for mount in container(which)["volumeMounts"]]
    named = re.findall(r'"(/[^"]+)"', (SITES[site] / "config.toml").read_text())
    assert named
    assert {str(Path(path).parent) for path in named} <= set(mounts)
    assert "/etc/fedora-messaging" in mounts


@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_every_mount_is_a_whole_directory_and_has_its_volume(which: str) -> None:
    mounts = container(which)["volumeMounts"]
    assert [mount["name"] for mount in mounts] == [volume["name"] for volume in pod(which)["volumes"]]
    assert not [mount for mount in mounts if "subPath" in mount or "subPathExpr" in mount]
    assert [mount["name"] for mount in mounts if not mount.get("readOnly")] == ["tmp"]


@pytest.mark.parametrize("directory", [BASE, OVERLAYS / "example"], ids=lambda path: path.name)
def test_an_edit_of_the_configuration_restarts_and_one_of_the_mapping_does_not(directory: Path) -> None:
    (kustomization,) = documents(directory / "kustomization.yaml")
    fixed = {
        made["name"]: made.get("options", {}).get("disableNameSuffixHash", False)
        for made in kustomization["configMapGenerator"]
    }
    assert fixed == {"omps-worker-config": False, "omps-worker-mapping": True}


@pytest.mark.parametrize("site", SITES)
def test_a_pod_may_take_longer_to_end_than_the_work_in_hand(site: str, tmp_path: Path) -> None:
    patience = settings(site, tmp_path).worker.shutdown_timeout.seconds
    assert pod("worker")["terminationGracePeriodSeconds"] > patience + GRACE_SECONDS
    processes = _Processes(1, None, None, 0.0, patience)  # type: ignore[arg-type]
    pause = float(container("api")["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod("api")["terminationGracePeriodSeconds"] > pause + processes._patience


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_ports_are_those_of_the_configuration_and_can_be_reached(site: str, which: str, tmp_path: Path) -> None:
    loaded = settings(site, tmp_path, api=which == "api")
    assert loaded.monitoring is not None
    assert loaded.monitoring.address == EVERY_ADDRESS
    ports = {port["name"]: port["containerPort"] for port in container(which)["ports"]}
    expected = {"monitoring": loaded.monitoring.port}
    if which == "api":
        expected["http"] = loaded.worker.api.port
    assert ports == expected
    annotations = deployment(which)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(loaded.monitoring.port)


@pytest.mark.parametrize(
    ("which", "probe", "asked"),
    [
        ("worker", "startupProbe", ("/live", "monitoring")),
        ("worker", "livenessProbe", ("/live", "monitoring")),
        ("worker", "readinessProbe", ("/ready", "monitoring")),
        ("api", "startupProbe", ("/live", "monitoring")),
        ("api", "livenessProbe", ("/live", "monitoring")),
        ("api", "readinessProbe", ("/v2/about", "http")),
    ],
)
def test_probes_ask_what_they_are_for(which: str, probe: str, asked: tuple[str, str]) -> None:
    request = container(which)[probe]["httpGet"]
    assert (request["path"], request["port"]) == asked


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_the_room_for_temporary_files_holds_all_builds_at_once(site: str, which: str, tmp_path: Path) -> None:
    worker = settings(site, tmp_path).worker
    environment = {each["name"]: each.get("value") for each in container(which)["env"]}
    processes = int(environment.get("WORKERS_NUM") or 1)
    blocks = worker.limits.files * 4096
    each = worker.limits.archive_bytes + 2 * (worker.limits.uncompressed_bytes + blocks)
    (tmp,) = (volume["emptyDir"] for volume in pod(which)["volumes"] if volume["name"] == "tmp")
    room = mebibytes(tmp["sizeLimit"])
    assert room * 2**20 >= processes * worker.concurrency * each
    assert mebibytes(container(which)["resources"]["limits"]["ephemeral-storage"]) > room


@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_pods_are_restricted(which: str) -> None:
    spec, only = pod(which), container(which)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_pods_run_as_the_user_of_the_image() -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for which in DEPLOYMENTS:
        context = pod(which)["securityContext"]
        assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user


def test_openshift_chooses_the_user() -> None:
    (patch,) = documents(OVERLAYS / "openshift/any-user.yaml")
    prefix = "/spec/template/spec/securityContext/"
    assert {step["path"].removeprefix(prefix) for step in patch} == {"runAsUser", "runAsGroup", "fsGroup"}
    assert {step["op"] for step in patch} == {"remove"}


def test_secrets_are_only_referred_to() -> None:
    kinds = [
        document["kind"] for path in KUBERNETES.rglob("*.yaml") for document in documents(path) if "kind" in document
    ]
    assert "Deployment" in kinds
    assert "Secret" not in kinds
    for which in DEPLOYMENTS:
        values = {each["name"]: each for each in container(which)["env"]}
        assert set(values["OMPS_WORKER_AMQP_URL"]["valueFrom"]) == {"secretKeyRef"}
    assert set(BROKER) == {"OMPS_WORKER_AMQP_URL"}


@pytest.mark.parametrize("site", SITES)
def test_the_page_shows_how_to_make_the_secrets_that_are_referred_to(site: str) -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    reference = {each["name"]: each for each in container("worker")["env"]}["OMPS_WORKER_AMQP_URL"]["valueFrom"]
    assert f"kubectl create secret generic {reference['secretKeyRef']['name']}" in page
    assert f"--from-file={reference['secretKeyRef']['key']}=" in page
    (volume,) = (volume for volume in pod("worker")["volumes"] if "secret" in volume)
    assert f"kubectl create secret generic {volume['secret']['secretName']}" in page
    for name in re.findall(r'"/etc/omps-worker/secrets/([^"]+)"', (SITES[site] / "config.toml").read_text()):
        assert f"--from-file={name}" in page


@pytest.mark.parametrize("which", DEPLOYMENTS)
def test_who_selects_pods_selects_those_that_there_are(which: str) -> None:
    labels = deployment(which)["spec"]["template"]["metadata"]["labels"]
    assert deployment(which)["spec"]["selector"]["matchLabels"] == labels
    (budget,) = documents(BASE / f"{which}-disruption.yaml")
    assert budget["spec"]["selector"]["matchLabels"] == labels
    policies = documents(BASE / "network-policies.yaml")
    (policy,) = (each for each in policies if each["spec"]["podSelector"]["matchLabels"] == labels)
    (rule,) = policy["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container(which)["ports"]]
    (monitor,) = documents(KUBERNETES / "components/pod-monitor/pod-monitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container(which)["ports"]}


def test_the_route_leads_to_the_service_and_the_service_to_the_rest_api() -> None:
    (service,) = documents(BASE / "api-service.yaml")
    assert service["spec"]["selector"] == deployment("api")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    (route,) = documents(OVERLAYS / "openshift/route.yaml")
    assert route["spec"]["to"]["name"] == service["metadata"]["name"]
    assert route["spec"]["port"]["targetPort"] == service["spec"]["ports"][0]["name"]
    assert route["spec"]["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "None"}
