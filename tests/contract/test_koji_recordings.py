# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds as a real Koji hub described them, served over XML-RPC again."""

from __future__ import annotations

import json
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from omps_worker.common.errors import BuildSystemError, KojiError, KojiManifestsArchiveNotFound, KojiNVRBuildNotFound
from omps_worker.common.model import Build, OperatorKind
from omps_worker.configuration.settings.models import KojiSettings, Limits
from omps_worker.koji_client.builds import KojiBuilds
from omps_worker.sandbox.http_server import HttpServer, Request, Response

DATA = Path(__file__).parent.parent / "data" / "koji"
RECORDINGS = {path.stem: json.loads(path.read_text()) for path in DATA.glob("*.json")}


class RecordedHub:
    """Gives recorded answers to recorded calls; everything else that is asked for is unknown."""

    def __init__(self, *, always: str | None = None) -> None:
        self.always = always
        self.server = HttpServer(self.answer)

    def answer(self, request: Request) -> Response:
        if request.method == "GET":
            return Response.html(404, "Not Found")
        params, method = xmlrpc.client.loads(request.body.decode())
        *arguments, options = [*params, {}] if not (params and isinstance(params[-1], dict)) else params
        options = {key: value for key, value in options.items() if key != "__starstar"}
        call = {"method": method, "args": arguments, "kwargs": options}
        recording: dict[str, Any] = {"result": None}
        if self.always:
            recording = RECORDINGS[self.always]
        else:
            recording = next((found for found in RECORDINGS.values() if asks(found, call)), recording)
        if "fault" in recording:
            fault = xmlrpc.client.Fault(**recording["fault"])
            return Response(200, xmlrpc.client.dumps(fault).encode(), "text/xml")
        text = xmlrpc.client.dumps((recording["result"],), methodresponse=True, allow_none=True)
        return Response(200, text.encode(), "text/xml")

    def builds(self) -> KojiBuilds:
        settings = KojiSettings(hub_url=self.server.url + "/kojihub", root_url=self.server.url + "/root", timeout=10)
        return KojiBuilds(settings, Limits(), pause=lambda seconds: None)


def asks(recording: dict[str, Any], call: dict[str, Any]) -> bool:
    if recording["name"] in {"database_outage", "lockout_mode", "offline_mode"}:
        return False
    result = recording.get("result")
    if recording["call"]["method"] == "getBuild" and isinstance(result, dict):
        return call["method"] == "getBuild" and call["args"] in ([result["id"]], [result["nvr"]])
    return recording["call"] == call


@pytest.fixture
def hub() -> Iterator[RecordedHub]:
    hub = RecordedHub()
    with hub.server:
        yield hub


def test_a_modern_operator(hub: RecordedHub) -> None:
    expected = Build(
        id=1,
        nvr="etcd-operator-container-0.9.2-1",
        name="etcd-operator-container",
        version="0.9.2",
        release="1",
        state=1,
        owner="jdoe",
        target="operators-1-candidate",
        completed_at=datetime(2026, 11, 21, 1, 22, 30, 632590, tzinfo=timezone.utc),
        kind=OperatorKind.PACKAGE_MANIFESTS,
        archive="operator_manifests.zip",
        legacy=False,
        volume="DEFAULT",
    )
    assert hub.builds().find(nvr="etcd-operator-container-0.9.2-1") == expected
    assert hub.builds().find(build_id=1) == expected


@pytest.mark.parametrize(
    ("recording", "kind", "state", "legacy"),
    [
        ("getBuild.bundle_modern", OperatorKind.BUNDLE, 1, False),
        ("getBuild.archive_missing", OperatorKind.PACKAGE_MANIFESTS, 1, False),
        ("getBuild.legacy_log", OperatorKind.UNKNOWN, 1, True),
        ("getBuild.plain_image", OperatorKind.NONE, 1, False),
        ("getBuild.maven", OperatorKind.NONE, 1, False),
        ("getBuild.extra_none", OperatorKind.NONE, 1, False),
        ("getBuild.building", OperatorKind.NONE, 0, False),
        ("getBuild.failed", OperatorKind.NONE, 3, False),
    ],
)
def test_what_a_build_is(hub: RecordedHub, recording: str, kind: OperatorKind, state: int, legacy: bool) -> None:
    recorded = RECORDINGS[recording]["result"]
    build = hub.builds().find(nvr=recorded["nvr"])
    assert (build.kind, build.state, build.legacy) == (kind, state, legacy)
    assert (build.id, build.nvr, build.name) == (recorded["id"], recorded["nvr"], recorded["name"])


@pytest.mark.parametrize(
    "wanted", [{"nvr": "etcd-operator-container-9.9.9-9"}, {"build_id": 999999}, {"nvr": "notannvr"}]
)
def test_an_unknown_or_malformed_name_is_final(hub: RecordedHub, wanted: dict[str, Any]) -> None:
    with pytest.raises(KojiNVRBuildNotFound) as caught:
        hub.builds().find(**wanted)
    assert not caught.value.transient


def test_an_unknown_id_leaves_the_name(hub: RecordedHub) -> None:
    assert hub.builds().find(build_id=999999, nvr="etcd-operator-container-0.9.2-1").id == 1


@pytest.mark.parametrize(
    ("outage", "text"),
    [
        ("offline_mode", RECORDINGS["offline_mode"]["fault"]["faultString"]),
        ("lockout_mode", "Server disabled for maintenance"),
        ("database_outage", "database outage"),
    ],
)
def test_a_hub_that_is_out_may_come_back(outage: str, text: str) -> None:
    hub = RecordedHub(always=outage)
    with hub.server, pytest.raises(KojiError) as caught:
        hub.builds().find(nvr="etcd-operator-container-0.9.2-1")
    assert caught.value.transient
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("recording", "error"),
    [("getBuild.archive_missing", KojiManifestsArchiveNotFound), ("getBuild.legacy_log", KojiError)],
)
def test_an_archive_that_is_not_served_is_final_unless_koji_has_it(
    hub: RecordedHub, recording: str, error: type[BuildSystemError], tmp_path: Path
) -> None:
    builds = hub.builds()
    build = builds.find(nvr=RECORDINGS[recording]["result"]["nvr"])
    with pytest.raises(error) as caught:
        builds.download(build, tmp_path / "archive.zip")
    assert caught.value.transient is (error is KojiError)


def test_an_archive_of_which_only_metadata_was_imported_is_not_asked_for(hub: RecordedHub, tmp_path: Path) -> None:
    build = Build(7, "a-1-1", "a", "1", "1", 1, archive="operator_manifests.zip")
    with pytest.raises(KojiManifestsArchiveNotFound, match="only its metadata"):
        hub.builds().download(build, tmp_path / "archive.zip")
    assert not any(logged.method == "GET" for logged in hub.server.log)


def test_a_missing_legacy_archive_is_not_asked_for(hub: RecordedHub, tmp_path: Path) -> None:
    build = Build(8, "a-1-1", "a", "1", "1", 1, archive="operator_manifests.zip", legacy=True)
    with pytest.raises(KojiManifestsArchiveNotFound, match="not among the logs"):
        hub.builds().download(build, tmp_path / "archive.zip")
    assert not any(logged.method == "GET" for logged in hub.server.log)


def test_the_hub_tells_its_version(hub: RecordedHub) -> None:
    assert hub.builds().version() == "1.35.3"
