# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding builds and downloading archives, from a hub and a file server that may fail in every way."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omps_worker.cli.common import exit_code_of
from omps_worker.common.errors import (
    BuildSystemError,
    KojiError,
    KojiManifestsArchiveNotFound,
    KojiNVRBuildNotFound,
    OMPSUploadedFileError,
)
from omps_worker.common.model import OperatorKind
from omps_worker.configuration.settings.models import KojiSettings, Limits
from omps_worker.koji_client.builds import PAUSES, KojiBuilds
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault
from tests.support.certificates import self_signed
from tests.support.peer import Conversation, Peer, closed_port, deaf_port

ZIP = operators.zip_of({"otter.package.yaml": "not looked into here\n" * 100})
NVR = "otter-operator-container-1.0-1"
LONG_AGO = datetime.now(timezone.utc) - timedelta(hours=1)
HUB, FILES = "POST /kojihub", "GET /kojiroot"


@pytest.fixture
def koji() -> Iterator[SandboxKoji]:
    with SandboxKoji() as koji:
        koji.add_build("otter-operator-container", "1.0", "1", manifests=ZIP, completed_at=LONG_AGO)
        yield koji


def builds_of(
    koji: SandboxKoji,
    *,
    timeout: float = 10,
    limit: int = 10_000_000,
    root_url: str | None = None,
    pause: Callable[[float], object] = lambda seconds: None,
) -> KojiBuilds:
    settings = KojiSettings(hub_url=koji.hub_url, root_url=root_url or koji.root_url, timeout=timeout)
    return KojiBuilds(settings, Limits(archive_bytes=limit), pause=pause)


def downloaded(koji: SandboxKoji, directory: Path, nvr: str = NVR, **options: Any) -> bytes:
    builds = builds_of(koji, **options)
    destination = directory / "archive.zip"
    builds.download(builds.find(nvr=nvr), destination)
    return destination.read_bytes()


def refused_download(
    error: type[BuildSystemError | OMPSUploadedFileError], koji: SandboxKoji, directory: Path, **options: Any
) -> BuildSystemError | OMPSUploadedFileError:
    with pytest.raises(error) as caught:
        downloaded(koji, directory, **options)
    assert list(directory.iterdir()) == []
    return caught.value


def gets(koji: SandboxKoji) -> list[str]:
    return [logged.target for logged in koji.log if logged.method == "GET"]


# Finding


def test_an_operator_is_found_by_name_and_by_id(koji: SandboxKoji) -> None:
    build = builds_of(koji).find(nvr=NVR)
    assert (build.nvr, build.kind, build.target) == (NVR, OperatorKind.PACKAGE_MANIFESTS, "operators-1-candidate")
    assert builds_of(koji).find(build_id=build.id) == build


def test_the_id_is_asked_first(koji: SandboxKoji) -> None:
    other = koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP)
    assert builds_of(koji).find(build_id=other["id"], nvr=NVR).nvr == other["nvr"]


def test_a_hub_that_describes_another_build_gives_no_answer(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, body=struct(id="<int>7</int>")))
    with pytest.raises(KojiError, match="describes another build"):
        builds_of(koji).find(build_id=8)


def test_a_bundle_and_a_plain_image_are_told_apart(koji: SandboxKoji) -> None:
    bundle = koji.add_build("otter-bundle-container", "1.0", "1", manifests=ZIP, kind=OperatorKind.BUNDLE)
    plain = koji.add_build("nginx-container", "1.0", "1")
    rpm = koji.add_build("bash", "5.2", "1.fc42", extra=None)
    kinds = [builds_of(koji).find(build_id=build["id"]).kind for build in (bundle, plain, rpm)]
    assert kinds == [OperatorKind.BUNDLE, OperatorKind.NONE, OperatorKind.NONE]


def test_the_target_is_asked_for_only_when_it_is_wanted(koji: SandboxKoji) -> None:
    assert builds_of(koji).find(nvr=NVR, with_target=False).target is None
    assert koji.calls == ["getBuild"]


def test_a_build_without_a_task_has_no_target(koji: SandboxKoji) -> None:
    koji.add_build("heron-operator-container", "1.0", "1", manifests=ZIP, task=False)
    assert builds_of(koji).find(nvr="heron-operator-container-1.0-1").target is None
    assert koji.calls == ["getBuild"]


TASK_ANSWERS = {
    "null": "<nil/>",
    "no request": "<struct></struct>",
    "request null": "<struct><member><name>request</name><value><nil/></value></member></struct>",
    "request text": "<struct><member><name>request</name><value>text</value></member></struct>",
    "request short": "<struct><member><name>request</name><value><array><data><value>x</value></data></array></value>"
    "</member></struct>",
    "request of numbers": "<struct><member><name>request</name><value><array><data><value>x</value>"
    "<value><int>1</int></value></data></array></value></member></struct>",
}


@pytest.mark.parametrize("answer", TASK_ANSWERS.values(), ids=TASK_ANSWERS)
def test_an_odd_task_means_that_the_target_is_unknown(koji: SandboxKoji, answer: str) -> None:
    koji.faults.add(Fault(HUB, after=1, body=reply(answer)))
    assert builds_of(koji).find(nvr=NVR).target is None


def test_a_target_that_cannot_be_asked_for_may_be_known_later(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, after=1, status=502))
    with pytest.raises(KojiError):
        builds_of(koji).find(nvr=NVR)


@pytest.mark.parametrize(
    "nvr",
    ["", "1", "a-b", "foo--1", "no-such-build", "-", "a-1-1\x00", "a\n-1-1", "a-\ud800-1", "a" * 3_000_000, "😀-1-1"],
    ids=["empty", "digit", "two parts", "gap", "unknown", "dash", "nul", "line", "surrogate", "megabytes", "non-bmp"],
)
def test_a_name_that_no_build_has_is_final(koji: SandboxKoji, nvr: str) -> None:
    with pytest.raises(KojiNVRBuildNotFound) as caught:
        builds_of(koji).find(nvr=nvr)
    assert not caught.value.transient
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("build_id", [0, -1, 99, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**1000, True])
def test_an_id_that_no_build_has_is_final(koji: SandboxKoji, build_id: int) -> None:
    with pytest.raises(KojiNVRBuildNotFound):
        builds_of(koji).find(build_id=build_id)


def test_nothing_at_all_is_no_build(koji: SandboxKoji) -> None:
    with pytest.raises(KojiNVRBuildNotFound):
        builds_of(koji).find()
    assert koji.calls == []


def test_a_bad_request_means_a_malformed_name(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, status=400, body="Bad Request"))
    with pytest.raises(KojiNVRBuildNotFound):
        builds_of(koji).find(nvr=NVR)


def test_threads_share_no_session(koji: SandboxKoji) -> None:
    builds = builds_of(koji)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: builds.find(nvr=NVR), range(64)))
    assert {build.nvr for build in found} == {NVR}


# A hub that fails


def reply(value: str) -> bytes:
    return f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()


def members_of(members: Mapping[str, str]) -> str:
    inner = "".join(f"<member><name>{name}</name><value>{value}</value></member>" for name, value in members.items())
    return f"<struct>{inner}</struct>"


def struct(**members: str) -> bytes:
    return reply(members_of(members))


def rows(row: Mapping[str, str]) -> bytes:
    """A list of nothing and of one row."""
    return reply(f"<array><data><value><nil/></value><value>{members_of(row)}</value></data></array>")


def fault_reply(code: str, text: str = "<string>oops</string>") -> bytes:
    return (
        "<methodResponse><fault><value><struct>"
        f"<member><name>faultCode</name><value>{code}</value></member>"
        f"<member><name>faultString</name><value>{text}</value></member>"
        "</struct></value></fault></methodResponse>"
    ).encode()


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    b"<methodResponse><params><param><value>&b;</value></param></params></methodResponse>"
)

NO_ANSWERS: dict[str, bytes | str] = {
    "html": "<html><body>Welcome to the proxy<br></body></html>",
    "empty": b"",
    "other xml": b"<a><b/></a>",
    "empty params": b"<methodResponse><params></params></methodResponse>",
    "json": b'{"id": 1}',
    "binary": bytes(range(256)),
    "cut": reply("<string>x")[:40],
    "entities": BOMB,
    "no number": reply("<int>seven</int>"),
    "no base64": reply("<base64>!</base64>"),
    "array without data": reply("<array></array>"),
    "struct without members": reply("<struct><member></member></struct>"),
    "list as a name": reply("<struct><member><name>x</name></member></struct>"),
    "unhashable name": reply(
        "<struct><member><value><array><data></data></array></value><value>x</value></member></struct>"
    ),
    "unknown type": reply("<ex:thing>1</ex:thing>"),
    "text": reply("text"),
    "list": reply("<array><data><value>1</value></data></array>"),
    "true": reply("<boolean>1</boolean>"),
    "empty struct": struct(),
    "date": reply("<dateTime.iso8601>yesterday</dateTime.iso8601>"),
    "deep": reply("<array><data><value>" * 50_000 + "</value></data></array>" * 50_000),
    "fault without code": b"<methodResponse><fault><value><struct></struct></value></fault></methodResponse>",
    "fault with odd code": fault_reply("<array><data></data></array>"),
    "fault with odd text": fault_reply("<int>1000</int>", "<array><data></data></array>"),
    "unknown fault": fault_reply("<int>1</int>"),
    "generic fault": fault_reply("<int>1000</int>"),
    "authentication": fault_reply("<int>1002</int>"),
    "fault in megabytes": fault_reply("<int>1</int>", "<string>" + "x" * 3_000_000 + "</string>"),
    "too large": b"<methodResponse>" + b" " * 17 * 1024 * 1024,
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_may_be_one_later(koji: SandboxKoji, body: bytes | str) -> None:
    koji.faults.add(Fault(HUB, body=body))
    builds = builds_of(koji)
    with pytest.raises(KojiError) as caught:
        builds.find(nvr=NVR)
    assert caught.value.transient
    assert len(caught.value.message) < 600
    assert caught.value.message.isprintable()
    assert builds.find(nvr=NVR).nvr == NVR


def nested(levels: int, shape: str) -> str:
    """A value of XML-RPC within values."""
    if shape == "arrays":
        return "<array><data><value>" * levels + "x" + "</value></data></array>" * levels
    return "<struct><member><name>a</name><value>" * levels + "x" + "</value></member></struct>" * levels


levels = pytest.mark.parametrize("levels", [500, 5_000, 100_000])
shapes = pytest.mark.parametrize("shape", ["arrays", "structs"])


@levels
@shapes
def test_whatever_is_nested_in_an_answer_the_error_is_kojis(koji: SandboxKoji, levels: int, shape: str) -> None:
    deep = nested(levels, shape)
    bodies = [reply(deep), struct(id=deep), struct(id="<int>1</int>", extra=deep)]
    bodies += [fault_reply(code, deep) for code in ("<int>1</int>", "<int>1000</int>", "<int>1014</int>")]
    bodies.append(fault_reply(deep))
    if levels > 5_000:
        # Megabytes each, of which the first one and the last one take all ways.
        bodies = [bodies[0], bodies[-1]]
    builds = builds_of(koji)
    for body in bodies:
        koji.faults.add(Fault(HUB, body=body))
        with pytest.raises(KojiError) as caught:
            builds.find(build_id=1)
        assert len(caught.value.message) < 600
        koji.faults.add(Fault(HUB, body=body))
        with pytest.raises(KojiError):
            builds.version()


@levels
@shapes
def test_whatever_is_nested_in_a_list_does_no_harm(koji: SandboxKoji, tmp_path: Path, levels: int, shape: str) -> None:
    deep = nested(levels, shape)
    builds = builds_of(koji)
    build = builds.find(nvr=NVR)
    for key in ("size", "checksum", "checksum_type", "metadata_only"):
        koji.faults.add(Fault(HUB, body=rows({"filename": "<string>operator_manifests.zip</string>", key: deep})))
        if key == "metadata_only":
            with pytest.raises(KojiManifestsArchiveNotFound):
                builds.download(build, tmp_path / "archive.zip")
        else:
            builds.download(build, tmp_path / "archive.zip")
    koji.faults.add(Fault(HUB, body=rows({"name": deep})))
    with pytest.raises(KojiManifestsArchiveNotFound):
        builds.download(replace(build, legacy=True), tmp_path / "archive.zip")
    koji.faults.add(Fault(HUB, body=rows({"build_id": deep})))
    assert builds.completed(LONG_AGO - timedelta(days=1))


def test_no_more_than_16_mib_of_an_answer_are_read(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, body=NO_ANSWERS["too large"]))
    with pytest.raises(KojiError, match="more than 16777216 bytes"):
        builds_of(koji).find(nvr=NVR)


@pytest.mark.parametrize("outage", ["offline", "lockout", "database"])
def test_a_hub_that_is_out_may_come_back(koji: SandboxKoji, outage: str) -> None:
    koji.fail_calls(outage)
    with pytest.raises(KojiError, match="Koji's hub is offline") as caught:
        builds_of(koji).find(nvr=NVR)
    assert caught.value.transient
    assert len(koji.log) == 1
    koji.recover()
    assert builds_of(koji).find(nvr=NVR).nvr == NVR


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 503, 504])
def test_an_error_page_in_front_of_the_hub_is_transient(koji: SandboxKoji, status: int) -> None:
    koji.faults.add(Fault(HUB, status=status, body="<html>", headers={"Retry-After": "17"}))
    with pytest.raises(KojiError, match=f"answered with status {status}") as caught:
        builds_of(koji).find(nvr=NVR)
    assert caught.value.retry_after == 17


def test_a_redirect_of_the_hub_is_not_followed(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, status=302, headers={"Location": koji.root_url}))
    with pytest.raises(KojiError, match=f"redirects to {koji.root_url}, which is not followed; check hub_url"):
        builds_of(koji).find(nvr=NVR)
    assert gets(koji) == []


def test_a_hub_that_redirects_to_nowhere_is_told_with_its_address(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, status=302))
    with pytest.raises(KojiError, match="/kojihub answered with status 302; check hub_url"):
        builds_of(koji).find(nvr=NVR)


def test_an_answer_that_is_cut_off_is_transient(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, truncate=True, times=None))
    with pytest.raises(KojiError, match="dropped the connection"):
        builds_of(koji).find(nvr=NVR)


def test_one_reset_connection_is_not_even_noticed(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, drop_answer=True))
    assert builds_of(koji).find(nvr=NVR).nvr == NVR


@pytest.mark.parametrize(
    "fault", [Fault(HUB, delay=30, times=None), Fault(HUB, drip=0.02, times=None)], ids=["silent", "dripping"]
)
def test_a_slow_hub_ends_at_the_deadline(koji: SandboxKoji, fault: Fault) -> None:
    koji.faults.add(fault)
    started = time.monotonic()
    with pytest.raises(KojiError, match=r"did not finish its answer within 0\.5 seconds"):
        builds_of(koji, timeout=0.5).find(nvr=NVR)
    assert time.monotonic() - started < 3


def test_a_hub_that_cannot_be_connected_to_is_transient() -> None:
    for port_of, reason in ((closed_port, "Connection refused"), (deaf_port, "could not be reached")):
        with port_of() as port:
            url = f"http://127.0.0.1:{port}/kojihub"
            builds = KojiBuilds(KojiSettings(hub_url=url, root_url=url, timeout=0.5), Limits())
            started = time.monotonic()
            with pytest.raises(KojiError, match=reason):
                builds.find(nvr=NVR)
            assert time.monotonic() - started < 3


def test_tls_is_verified(tmp_path: Path) -> None:
    trusted, context = self_signed(tmp_path)
    with SandboxKoji(tls=context) as koji:
        koji.add_build("otter-operator-container", "1.0", "1", manifests=ZIP)
        settings = KojiSettings(hub_url=koji.hub_url, root_url=koji.root_url, timeout=10)
        with pytest.raises(KojiError, match="no trusted certificate"):
            KojiBuilds(settings, Limits()).find(nvr=NVR)
        builds = KojiBuilds(settings, Limits(), trusted)
        builds.download(builds.find(nvr=NVR), tmp_path / "archive.zip")
        assert (tmp_path / "archive.zip").read_bytes() == ZIP


def test_the_version_of_the_hub(koji: SandboxKoji) -> None:
    assert builds_of(koji).version() == "1.35.3"


@pytest.mark.parametrize("outage", ["offline", "lockout", "database"])
def test_a_hub_that_is_offline_is_not_there_and_one_that_refuses_is(koji: SandboxKoji, outage: str) -> None:
    builds = builds_of(koji)
    builds.is_there()
    koji.fail_calls(outage)
    with pytest.raises(KojiError, match="offline"):
        builds.is_there()
    koji.recover()
    hub = builds._hub
    # An old hub does not know the question.
    builds.__dict__["_hub"] = SimpleNamespace(call=lambda _method: hub.call("noSuchMethod"))
    builds.is_there()


# Downloading


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"flat_key": False},
        {"legacy": True},
        {"legacy": True, "subdirectory": "x86_64"},
        {"volume": "archive_2"},
        {"volume": "archive_2", "legacy": True},
        {"checksum_type": "sha256"},
        {"archive": "manifests of 100% otters & more#1?.zip"},
        {"archive": "ünïcode-zip.zip", "legacy": True},
    ],
    ids=str,
)
def test_the_archive_is_downloaded_from_where_it_is(koji: SandboxKoji, tmp_path: Path, options: dict[str, Any]) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, **options)
    assert downloaded(koji, tmp_path, "heron-operator-container-2.0-3") == ZIP


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("version", ["1.0+2", "1.0~rc1", "1.0^git1", "1.0%2e"])
def test_odd_characters_of_a_version_travel_escaped(
    koji: SandboxKoji, tmp_path: Path, version: str, legacy: bool
) -> None:
    koji.add_build("heron-operator-container", version, "1", manifests=ZIP, legacy=legacy)
    assert downloaded(koji, tmp_path, f"heron-operator-container-{version}-1") == ZIP
    assert not any("^" in target for target in gets(koji))


def test_a_slash_at_the_end_of_the_root_is_one_too_many(koji: SandboxKoji, tmp_path: Path) -> None:
    settings = KojiSettings.model_construct(hub_url=koji.hub_url, root_url=koji.root_url + "//", timeout=10)
    builds = KojiBuilds(settings, Limits())
    builds.download(builds.find(nvr=NVR), tmp_path / "archive.zip")
    assert gets(koji) == [
        "/kojiroot/packages/otter-operator-container/1.0/1/files/operator-manifests/operator_manifests.zip"
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": OperatorKind.PACKAGE_MANIFESTS},
        {"kind": OperatorKind.UNKNOWN, "legacy": True},
        {"manifests": ZIP, "metadata_only": True},
        {"manifests": ZIP, "archive": ".."},
        {"manifests": ZIP, "archive": "../../../secret.zip"},
        {"manifests": ZIP, "archive": "sub/operator_manifests.zip"},
        {"manifests": ZIP, "archive": "a" * 5000},
    ],
    ids=str,
)
def test_an_archive_that_koji_does_not_have_is_final(
    koji: SandboxKoji, tmp_path: Path, options: dict[str, Any]
) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", completed_at=LONG_AGO, **options)
    error = refused_download(KojiManifestsArchiveNotFound, koji, tmp_path, nvr="heron-operator-container-2.0-3")
    assert not error.transient
    assert len(gets(koji)) <= 1
    assert not any(".." in target for target in gets(koji))


def test_a_build_without_an_archive_has_nothing_to_download(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.add_build("nginx-container", "1.0", "1")
    refused_download(KojiManifestsArchiveNotFound, koji, tmp_path, nvr="nginx-container-1.0-1")


def test_a_log_outside_of_the_root_is_not_fetched(koji: SandboxKoji, tmp_path: Path) -> None:
    builds = builds_of(koji)
    build = replace(builds.find(nvr=NVR), archive="a.zip", legacy=True)
    koji.faults.add(Fault(HUB, body=rows({"name": "a.zip", "path": "packages/../../../etc/passwd"})))
    with pytest.raises(KojiManifestsArchiveNotFound):
        builds.download(build, tmp_path / "archive.zip")
    assert gets(koji) == []


@pytest.mark.parametrize("answer", ["<nil/>", "text", "<int>1</int>", "<struct></struct>"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_list_of_files_that_is_none_is_no_answer(
    koji: SandboxKoji, tmp_path: Path, answer: str, legacy: bool
) -> None:
    builds = builds_of(koji)
    build = replace(builds.find(nvr=NVR), legacy=legacy)
    koji.faults.add(Fault(HUB, body=reply(answer)))
    with pytest.raises(KojiError, match="is not a list"):
        builds.download(build, tmp_path / "archive.zip")


def test_odd_rows_verify_nothing(koji: SandboxKoji, tmp_path: Path) -> None:
    builds = builds_of(koji)
    build = builds.find(nvr=NVR)
    odd = {
        "filename": "operator_manifests.zip",
        "size": "<array><data></data></array>",
        "checksum": "<int>7</int>",
        "checksum_type": "<string>md5</string>",
    }
    koji.faults.add(Fault(HUB, body=rows(odd)))
    builds.download(build, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == ZIP


def test_a_file_of_a_fresh_build_may_come_late(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP)
    koji.faults.add(Fault(FILES, status=404, times=2))
    paused: list[float] = []
    assert downloaded(koji, tmp_path, "heron-operator-container-2.0-3", pause=paused.append) == ZIP
    assert paused == list(PAUSES)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_a_fresh_build_that_never_comes_was_insisted_on(
    koji: SandboxKoji, tmp_path: Path, legacy: bool
) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, legacy=legacy)
    koji.faults.add(Fault(FILES, status=404, times=None))
    error = refused_download(KojiError, koji, tmp_path, nvr="heron-operator-container-2.0-3")
    assert isinstance(error, KojiError)
    assert (error.transient, error.insisted) == (True, True)
    assert len(gets(koji)) == 3


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_server_that_does_not_have_what_koji_lists_may_have_it_later(
    koji: SandboxKoji, tmp_path: Path, legacy: bool, status: int
) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, legacy=legacy, completed_at=LONG_AGO)
    koji.faults.add(Fault(FILES, status=status, body="<h1>starting up</h1>"))
    error = refused_download(KojiError, koji, tmp_path, nvr="heron-operator-container-2.0-3")
    assert isinstance(error, KojiError)
    assert (error.transient, error.insisted) == (True, False)
    assert "though Koji's hub" in error.message
    assert len(gets(koji)) == 1
    assert downloaded(koji, tmp_path, "heron-operator-container-2.0-3") == ZIP


PAGE = b"<!DOCTYPE html><html><title>Maintenance</title><body>Back at 18:00 UTC</body></html>"
NO_ZIPS = {"page": PAGE, "empty": b"", "part": ZIP[:-30], "beginning": ZIP[:40], "noise": bytes(range(256)) * 10}


@pytest.mark.parametrize("body", NO_ZIPS.values(), ids=NO_ZIPS)
@pytest.mark.parametrize("place", [{"legacy": True}, {"unlisted": True}], ids=["legacy", "unlisted"])
def test_what_is_no_zip_and_cannot_be_verified_is_the_file_servers_fault(
    koji: SandboxKoji, tmp_path: Path, place: dict[str, bool], body: bytes
) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, legacy="legacy" in place)
    koji.faults.add(Fault(FILES, body=body, times=2))
    builds = builds_of(koji)
    build = builds.find(nvr="heron-operator-container-2.0-3")
    no_rows = Fault(HUB, body=reply("<array><data></data></array>"))
    if "unlisted" in place:
        koji.faults.add(no_rows)
    with pytest.raises(KojiError, match="is not a complete zip file") as caught:
        builds.download(build, tmp_path / "archive.zip")
    assert caught.value.transient
    assert list(tmp_path.iterdir()) == []
    assert len(gets(koji)) == 2
    if "unlisted" in place:
        koji.faults.add(no_rows)
    builds.download(build, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == ZIP


def test_what_is_no_zip_but_is_what_koji_lists_is_for_others_to_judge(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=PAGE)
    assert downloaded(koji, tmp_path, "heron-operator-container-2.0-3") == PAGE


DOWNLOADS_THAT_FAIL: dict[str, tuple[dict[str, Any], list[Fault]]] = {
    "metadata only": ({"metadata_only": True}, []),
    "not listed": ({"manifests": None, "kind": OperatorKind.PACKAGE_MANIFESTS}, []),
    "not served": ({"missing_file": True}, []),
    "legacy not served": ({"missing_file": False, "legacy": True}, [Fault(FILES, status=404, times=None)]),
    "status": ({}, [Fault(FILES, status=503)]),
    "longer": ({}, [Fault(FILES, body=ZIP + b"x", times=2)]),
    "shorter": ({}, [Fault(FILES, body=ZIP[1:], times=2)]),
    "checksum": ({"checksum": "0" * 32}, []),
    "page": ({"legacy": True}, [Fault(FILES, body=PAGE, times=2)]),
    "broken off": ({}, [Fault(FILES, truncate=True, times=None)]),
    "reset": ({}, [Fault(FILES, drop=True, times=None)]),
    "redirect": ({}, [Fault(FILES, status=302, headers={"Location": "ftp://elsewhere.example.com/"})]),
    "listed too large": ({"manifests": ZIP * 10}, []),
    "too large": ({"manifests": ZIP * 10, "legacy": True}, []),
}


@pytest.mark.parametrize(("options", "faults"), DOWNLOADS_THAT_FAIL.values(), ids=DOWNLOADS_THAT_FAIL)
def test_every_error_of_a_download_names_its_url_and_no_password(
    koji: SandboxKoji, tmp_path: Path, options: dict[str, Any], faults: list[Fault]
) -> None:
    koji.add_build("heron-operator-container", "2.0^1", "3", **{"manifests": ZIP, **options})
    for fault in faults:
        koji.faults.add(fault)
    secret_root = koji.root_url.replace("://", "://reader:hush@")
    settings = KojiSettings.model_construct(hub_url=koji.hub_url, root_url=secret_root, timeout=10)
    builds = KojiBuilds(settings, Limits(archive_bytes=5 * len(ZIP)), pause=lambda seconds: None)
    with pytest.raises((BuildSystemError, OMPSUploadedFileError)) as caught:
        builds.download(builds.find(nvr="heron-operator-container-2.0^1-3"), tmp_path / "archive.zip")
    below = "data/logs" if options.get("legacy") else "files/operator-manifests"
    url = f"{koji.root_url}/packages/heron-operator-container/2.0%5E1/3/{below}/operator_manifests.zip"
    assert url in caught.value.message
    assert "hush" not in caught.value.message
    too_large = isinstance(caught.value, OMPSUploadedFileError)
    assert ("archive_bytes in [consumer_config.limits]" in caught.value.message) is too_large


def test_a_file_of_a_fresh_build_that_koji_does_not_list_is_not_waited_for(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", kind=OperatorKind.PACKAGE_MANIFESTS)
    refused_download(KojiManifestsArchiveNotFound, koji, tmp_path, nvr="heron-operator-container-2.0-3")
    assert len(gets(koji)) == 1


@pytest.mark.parametrize(
    "other", [ZIP + b"x", ZIP[:-1], ZIP[:-1] + b"x", b""], ids=["longer", "shorter", "equally long", "empty"]
)
def test_another_file_than_koji_lists_is_fetched_again_and_then_transient(
    koji: SandboxKoji, tmp_path: Path, other: bytes
) -> None:
    koji.faults.add(Fault(FILES, body=other, times=2))
    error = refused_download(KojiError, koji, tmp_path)
    assert error.transient
    assert "Koji lists" in error.message
    assert len(gets(koji)) == 2


def test_a_file_that_is_right_at_the_second_try_is_taken(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.faults.add(Fault(FILES, body=ZIP[:-1] + b"x"))
    assert downloaded(koji, tmp_path) == ZIP


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_transient(koji: SandboxKoji, tmp_path: Path, kind: str) -> None:
    wrong = hashlib.new(kind, b"other", usedforsecurity=False).hexdigest()
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, checksum=wrong, checksum_type=kind)
    error = refused_download(KojiError, koji, tmp_path, nvr="heron-operator-container-2.0-3")
    assert error.transient
    assert f"{kind} checksum" in error.message


def test_an_archive_that_koji_lists_as_too_large_is_not_downloaded(koji: SandboxKoji, tmp_path: Path) -> None:
    error = refused_download(OMPSUploadedFileError, koji, tmp_path, limit=len(ZIP) - 1)
    assert not error.transient
    assert gets(koji) == []


def test_an_archive_that_turns_out_too_large_is_final(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.add_build("heron-operator-container", "2.0", "3", manifests=ZIP, legacy=True)
    nvr = "heron-operator-container-2.0-3"
    error = refused_download(OMPSUploadedFileError, koji, tmp_path, nvr=nvr, limit=len(ZIP) - 1)
    assert not error.transient
    assert downloaded(koji, tmp_path, nvr, limit=len(ZIP)) == ZIP


@pytest.mark.parametrize("status", [204, 401, 403, 500, 502, 503])
def test_a_file_server_that_fails_is_transient(koji: SandboxKoji, tmp_path: Path, status: int) -> None:
    koji.faults.add(Fault(FILES, status=status, headers={"Retry-After": "5"}))
    error = refused_download(KojiError, koji, tmp_path)
    assert (error.transient, error.retry_after) == (True, 5)


@pytest.mark.parametrize("fault", [{"drop": True}, {"truncate": True}, {"drop_answer": True}], ids=str)
def test_a_download_that_is_broken_off_is_transient(koji: SandboxKoji, tmp_path: Path, fault: dict[str, Any]) -> None:
    builds = builds_of(koji)
    build = builds.find(nvr=NVR)
    koji.faults.add(Fault(FILES, **fault, times=None))
    with pytest.raises(KojiError, match="dropped the connection"):
        builds.download(build, tmp_path / "archive.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_dripping_file_server_ends_at_the_deadline(koji: SandboxKoji, tmp_path: Path) -> None:
    koji.faults.add(Fault(FILES, drip=0.02))
    started = time.monotonic()
    error = refused_download(KojiError, koji, tmp_path, timeout=0.5)
    assert "did not finish its answer" in error.message
    assert time.monotonic() - started < 3


def test_a_file_server_may_redirect_to_another(koji: SandboxKoji, tmp_path: Path) -> None:
    def serve(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(ZIP)

    with Peer(serve) as mirror:
        koji.faults.add(Fault(FILES, status=302, headers={"Location": mirror.url + "/archive.zip"}))
        assert downloaded(koji, tmp_path) == ZIP


def test_koji_is_not_imported_before_it_is_asked() -> None:
    program = "import sys; import omps_worker.koji_client.builds; sys.exit('koji' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("status", [404, 405])
def test_a_hub_url_that_leads_nowhere_is_named_in_full(koji: SandboxKoji, status: int) -> None:
    koji.faults.add(Fault(HUB, status=status))
    with pytest.raises(KojiError) as caught:
        builds_of(koji).find(nvr=NVR)
    assert f"{koji.hub_url} answered with status {status}; is hub_url right?" in caught.value.message
    assert caught.value.message.endswith("usually ends in /kojihub.")
    assert caught.value.transient, "a worker waits: it may be a proxy in front of it"
    assert exit_code_of(caught.value) == 2, "a person mends the configuration"


def test_of_a_traceback_the_last_line_is_told(koji: SandboxKoji) -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/usr/share/koji-hub/kojixmlrpc.py", line 1',
        "psycopg2.Error: no",
    ]
    koji.faults.add(Fault(HUB, body=fault_reply("<int>1</int>", "\n".join(lines))))
    with pytest.raises(KojiError, match=r"could not answer getBuild: psycopg2\.Error: no$"):
        builds_of(koji).find(nvr=NVR)


def test_a_hub_without_a_version_tells_that_of_its_api(koji: SandboxKoji) -> None:
    koji.faults.add(Fault(HUB, body=fault_reply("<int>1000</int>", "Invalid method: getKojiVersion"), times=1))
    assert builds_of(koji).version() == "API version 1"


@pytest.mark.parametrize("answer", ["<string>odd</string>", nested(5_000, "arrays")], ids=["text", "nested"])
def test_what_is_no_version_of_an_api_is_none(koji: SandboxKoji, answer: str) -> None:
    koji.faults.add(Fault(HUB, body=fault_reply("<int>1000</int>", "Invalid method: getKojiVersion")))
    koji.faults.add(Fault(HUB, body=reply(answer)))
    with pytest.raises(KojiError):
        builds_of(koji).version()
