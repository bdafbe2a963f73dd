# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's Koji answers the real client as the recorded hub did, and publishes what the real plugins publish."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import koji
import pytest
import requests

from omps_worker.common.model import BuildEvent, BuildState, Ignored, OperatorKind
from omps_worker.messages.events import decode
from omps_worker.sandbox.build_system.messages import DIALECTS
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.operators import nested_operator, zip_of

DATA = Path(__file__).parent.parent / "data"
OPTIONS = {"timeout": (3, 10), "anon_retry": False, "offline_retry": False, "max_retries": 0, "retry_interval": 1}
ZIP = zip_of(nested_operator())


@pytest.fixture
def hub() -> Iterator[SandboxKoji]:
    before = set(threading.enumerate())
    with SandboxKoji() as sandbox:
        yield sandbox
    assert set(threading.enumerate()) <= before


@pytest.fixture
def session(hub: SandboxKoji) -> Any:
    return koji.ClientSession(hub.hub_url, opts=OPTIONS)


def recorded(name: str) -> Any:
    return json.loads((DATA / "koji" / f"{name}.json").read_bytes())


def shape(value: Any) -> Any:
    """The keys and the types of an answer; of lists the shape of the first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def add_like_the_recorded(hub: SandboxKoji) -> dict[str, dict[str, Any]]:
    """The builds of the recordings, by the name of the recording."""
    return {
        "getBuild.appregistry_modern": hub.add_build("etcd-operator-container", "0.9.2", "1", manifests=ZIP),
        "getBuild.bundle_modern": hub.add_build(
            "marketplace-operator-bundle-container", "1.0.0", "3", manifests=ZIP, kind=OperatorKind.BUNDLE, task=False
        ),
        "getBuild.legacy_log": hub.add_build(
            "etcd-legacy-operator-container", "0.9.2", "7", manifests=ZIP, legacy=True
        ),
        "getBuild.plain_image": hub.add_build("nginx-container", "1.20", "5"),
        "getBuild.archive_missing": hub.add_build(
            "missing-archive-operator-container", "1.0", "1", kind=OperatorKind.PACKAGE_MANIFESTS
        ),
        "getBuild.extra_none": hub.add_build(
            "plainpkg", "1.0", "1.fc42", extra=None, content_generator=None, task=False, owner="kojiadmin"
        ),
        "getBuild.building": hub.add_build("still-building-container", "1.0", "1", state=0, owner="osbs"),
        "getBuild.failed": hub.add_build("failed-container", "1.0", "1", state=3, owner="osbs"),
    }


def test_builds_have_the_shape_of_the_recorded_ones(hub: SandboxKoji, session: Any) -> None:
    for name, build in add_like_the_recorded(hub).items():
        answer = session.getBuild(recorded(name)["call"]["args"][0])

        assert shape(answer) == shape(recorded(name)["result"]), name
        assert answer == build
        for key in ("name", "version", "release", "nvr", "state", "owner_name", "cg_name", "volume_name", "epoch"):
            assert answer[key] == recorded(name)["result"][key], (name, key)


def test_lists_of_builds_have_the_shape_of_the_recorded_one(hub: SandboxKoji, session: Any) -> None:
    add_like_the_recorded(hub)
    hub.add_build("volume-operator-container", "1.0", "1", manifests=ZIP, volume="archive")

    answer = session.listBuilds(type="operator-manifests", state=1, queryOpts={"order": "build_id"})

    theirs = {row["nvr"]: row for row in recorded("listBuilds.type_operator-manifests")["result"]}
    assert [row["nvr"] for row in answer] == [
        "etcd-operator-container-0.9.2-1",
        "marketplace-operator-bundle-container-1.0.0-3",
        "missing-archive-operator-container-1.0-1",
        "volume-operator-container-1.0-1",
    ]
    for row in answer:
        assert shape(row) == shape(theirs[row["nvr"]])


def test_archives_have_the_shape_of_the_recorded_ones(hub: SandboxKoji, session: Any) -> None:
    modern = hub.add_build("a", "1", "1", manifests=ZIP)
    metadata_only = hub.add_build("b", "1", "1", manifests=ZIP, metadata_only=True)
    missing = hub.add_build("c", "1", "1", kind=OperatorKind.PACKAGE_MANIFESTS)

    for build, name in ((modern, "appregistry_modern"), (metadata_only, "archive_metadata_only")):
        (row,) = session.listArchives(buildID=build["id"], type="operator-manifests")
        (theirs,) = recorded(f"listArchives.operator-manifests.{name}")["result"]
        assert shape(row) == shape(theirs)
        same = ("btype", "btype_id", "checksum_type", "extra", "filename", "metadata_only", "type_name")
        assert {key: row[key] for key in same} == {key: theirs[key] for key in same}
        assert (row["size"], row["checksum"]) == (len(ZIP), hashlib.md5(ZIP).hexdigest())
    assert session.listArchives(buildID=missing["id"], type="operator-manifests") == []
    assert session.listArchives(buildID=999, type="operator-manifests") == []


def test_a_task_has_the_shape_of_the_recorded_one(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("etcd-operator-container", "0.9.2", "1", target="operators-1-candidate")

    answer = session.getTaskInfo(build["task_id"], request=True)

    theirs = recorded("getTaskInfo.1")["result"]
    assert shape(answer) == shape(theirs)
    assert answer["request"] == theirs["request"]
    assert "request" not in session.getTaskInfo(build["task_id"])
    assert session.getTaskInfo(999, request=True) is None


def test_logs_are_listed_as_the_recorded_ones(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("etcd-legacy-operator-container", "0.9.2", "7", manifests=ZIP, legacy=True)
    broken = hub.add_build("etcd-legacy-broken-container", "1.0", "1", kind=OperatorKind.UNKNOWN, legacy=True)

    assert session.getBuildLogs(build["id"]) == recorded("getBuildLogs.legacy_log")["result"]
    assert session.getBuildLogs(broken["id"]) == recorded("getBuildLogs.legacy_log_missing")["result"]
    assert broken["extra"]["operator_manifests_archive"] == "operator_manifests.zip"


@pytest.mark.parametrize("name", ["getAPIVersion", "getKojiVersion", "getBuild.missing_id", "getBuild.missing_nvr"])
def test_simple_answers_are_the_recorded_ones(session: Any, name: str) -> None:
    recording = recorded(name)

    assert getattr(session, recording["call"]["method"])(*recording["call"]["args"]) == recording["result"]


@pytest.mark.parametrize(
    ("recording", "outage"),
    [("offline_mode", "offline"), ("lockout_mode", "lockout"), ("database_outage", "database")],
)
def test_an_outage_is_the_recorded_fault_and_ends(hub: SandboxKoji, session: Any, recording: str, outage: str) -> None:
    hub.fail_calls(outage, times=2)

    for _ in range(2):
        with pytest.raises(koji.ServerOffline) as caught:
            session.getBuild(1)
        assert str(caught.value) == recorded(recording)["client_exception_str"]
    assert session.getBuild(1) is None

    hub.fail_calls(outage)
    with pytest.raises(koji.ServerOffline), session.multicall() as many:
        many.getBuild(1)
    hub.recover()
    assert session.getBuild(1) is None


@pytest.mark.parametrize("nvr", ["notannvr", "", "a-b", "foo--1", "1"])
def test_a_malformed_nvr_is_the_recorded_fault(session: Any, nvr: str) -> None:
    with pytest.raises(koji.GenericError) as caught:
        session.getBuild(nvr)

    assert caught.value.faultCode == recorded("getBuild.malformed_00")["fault"]["faultCode"]
    assert str(caught.value) == f"invalid format: {nvr}"


@pytest.mark.parametrize("argument", [None, [1], 1.5, {"name": "a"}])
def test_what_names_no_build_is_a_generic_error(session: Any, argument: Any) -> None:
    with pytest.raises(koji.GenericError):
        session.getBuild(argument)


def test_other_faults_reach_the_client_as_they_do_from_a_hub(hub: SandboxKoji, session: Any) -> None:
    with pytest.raises(koji.xmlrpcplus.Fault):
        session.getBuild(True)
    with pytest.raises(requests.HTTPError, match="400"):
        session.getBuild("a-1-\x01")
    with pytest.raises(koji.GenericError, match="Invalid method"):
        session.noSuchMethod()
    with pytest.raises(koji.ParameterError):
        session.getBuild()
    with pytest.raises(koji.GenericError, match="No such build"):
        session.getBuild(5, strict=True)
    with pytest.raises(koji.GenericError, match="unsupported build type"):
        session.listBuilds(type="nonsense")
    assert requests.get(hub.hub_url, timeout=5).status_code == 405
    assert requests.post(hub.hub_url, data=b"no XML", timeout=5).status_code == 400


def test_a_build_is_found_by_id_nvr_and_dictionary(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("plus+op_container", "1.0~rc1+git^2", "1.el8_2", manifests=ZIP, epoch=3)

    for key in (build["id"], build["nvr"], {"name": build["name"], "version": build["version"], "release": "1.el8_2"}):
        assert session.getBuild(key) == build
    assert build["epoch"] == 3


def test_many_calls_travel_in_one_request(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP)

    with session.multicall() as many:
        found = many.getBuild("a-1-1")
        missing = many.getBuild("b-1-1")
        broken = many.getBuild("nonsense")
        archives = many.listArchives(buildID=1, type="operator-manifests")

    assert found.result == build
    assert missing.result is None
    assert len(archives.result) == 1
    with pytest.raises(koji.GenericError, match="invalid format: nonsense"):
        _ = broken.result
    assert [entry.method for entry in hub.log] == ["POST"]
    assert hub.calls == ["getBuild", "getBuild", "getBuild", "listArchives"]


def test_the_client_learns_the_hubs_version_from_a_header(hub: SandboxKoji, session: Any) -> None:
    session.getBuild(1)

    assert session.hub_version_str == "1.35.3"
    assert hub.calls == ["getBuild"]


def archive_url(hub: SandboxKoji, build: dict[str, Any], *more: str) -> str:
    directory = koji.PathInfo(topdir=hub.root_url).build(build).removeprefix(hub.root_url)
    return hub.root_url + quote(directory) + "/" + "/".join(more)


@pytest.mark.parametrize("volume", ["DEFAULT", "archive"])
@pytest.mark.parametrize("version", ["1.0", "1.0~rc1+git^2"])
def test_a_modern_archive_is_where_pathinfo_says(hub: SandboxKoji, volume: str, version: str) -> None:
    build = hub.add_build("a+b", version, "1", manifests=ZIP, volume=volume)

    answer = requests.get(archive_url(hub, build, "files", "operator-manifests", "operator_manifests.zip"), timeout=5)

    assert (answer.status_code, answer.content) == (200, ZIP)
    assert ("/vol/archive/" in answer.url) == (volume == "archive")


@pytest.mark.parametrize("architecture", ["", "x86_64"])
@pytest.mark.parametrize("volume", ["DEFAULT", "archive"])
def test_a_legacy_archive_is_where_the_hub_says(hub: SandboxKoji, session: Any, volume: str, architecture: str) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP, legacy=True, volume=volume, subdirectory=architecture)

    (log,) = [log for log in session.getBuildLogs(build["id"]) if log["name"] == "operator_manifests.zip"]

    assert log["dir"] == (architecture or ".")
    assert requests.get(f"{hub.root_url}/{log['path']}", timeout=5).content == ZIP
    assert session.listArchives(buildID=build["id"], type="operator-manifests") == []
    assert build["extra"]["typeinfo"].keys() == {"image"}


@pytest.mark.parametrize("knobs", [{"metadata_only": True}, {"missing_file": True}, {"subdirectory": "x86_64"}])
def test_an_archive_may_be_known_and_not_be_where_it_belongs(
    hub: SandboxKoji, session: Any, knobs: dict[str, Any]
) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP, **knobs)
    url = archive_url(hub, build, "files", "operator-manifests", "operator_manifests.zip")

    assert len(session.listArchives(buildID=build["id"], type="operator-manifests")) == 1
    assert requests.get(url, timeout=5).status_code == 404


def test_a_checksum_may_be_wrong_or_of_another_type(hub: SandboxKoji, session: Any) -> None:
    hub.add_build("wrong", "1", "1", manifests=ZIP, checksum="0" * 32)
    hub.add_build("sha256", "1", "1", manifests=ZIP, checksum_type="sha256")

    (wrong,), (sha256,) = (session.listArchives(buildID=number) for number in (1, 2))

    assert (wrong["checksum"], wrong["checksum_type"]) == ("0" * 32, koji.CHECKSUM_TYPES["md5"])
    assert (sha256["checksum"], sha256["checksum_type"]) == (
        hashlib.sha256(ZIP).hexdigest(),
        koji.CHECKSUM_TYPES["sha256"],
    )


def test_extra_says_as_much_as_it_is_told_to(hub: SandboxKoji) -> None:
    typeinfo_only = hub.add_build("a", "1", "1", manifests=ZIP, flat_key=False)["extra"]
    unnamed = hub.add_build("b", "1", "1", manifests=ZIP, subtypes=False)["extra"]
    own = hub.add_build("c", "1", "1", manifests=ZIP, extra={"typeinfo": {}})["extra"]
    other_name = hub.add_build("d", "1", "1", manifests=ZIP, archive="m.zip")["extra"]

    assert "operator_manifests_archive" not in typeinfo_only
    assert typeinfo_only["typeinfo"]["operator-manifests"] == {"archive": "operator_manifests.zip"}
    assert "subtypes" not in unnamed["osbs_build"]
    assert own == {"typeinfo": {}}
    assert other_name["operator_manifests_archive"] == "m.zip"


def test_a_build_that_runs_has_nothing_until_it_is_complete(hub: SandboxKoji, session: Any) -> None:
    hub.add_build("a", "1", "1", manifests=ZIP, state=BuildState.BUILDING)
    url = archive_url(hub, session.getBuild("a-1-1"), "files", "operator-manifests", "operator_manifests.zip")

    running = session.getBuild("a-1-1")
    complete = hub.set_state("a-1-1", BuildState.COMPLETE)

    assert (running["extra"], running["task_id"], running["completion_time"]) == (None, None, None)
    assert session.getBuild("a-1-1") == complete
    assert complete["extra"]["typeinfo"]["operator-manifests"]
    assert requests.get(url, timeout=5).content == ZIP


def test_a_deleted_build_keeps_all_but_its_files(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP)
    hub.set_state(build, BuildState.DELETED)

    assert session.getBuild(build["id"]) == {**build, "state": 2}
    assert len(session.listArchives(buildID=build["id"])) == 1
    url = archive_url(hub, build, "files", "operator-manifests", "operator_manifests.zip")
    assert requests.get(url, timeout=5).status_code == 404


def test_a_failed_build_is_built_again_under_its_id_and_another_is_not(hub: SandboxKoji) -> None:
    failed = hub.add_build("a", "1", "1", state=BuildState.FAILED)
    again = hub.add_build("a", "1", "1", manifests=ZIP)

    assert (again["id"], again["state"]) == (failed["id"], BuildState.COMPLETE)
    with pytest.raises(ValueError, match="a-1-1 exists"):
        hub.add_build("a", "1", "1")


def test_builds_are_listed_by_what_is_asked(hub: SandboxKoji, session: Any) -> None:
    start = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    for number in range(4):
        hub.add_build("a", "1", str(number), manifests=ZIP, completed_at=start + timedelta(hours=number))
    hub.add_build("legacy", "1", "1", manifests=ZIP, legacy=True)
    hub.add_build("rpm", "1", "1", extra=None, content_generator=None)
    hub.add_build("a", "1", "9", state=BuildState.FAILED)

    def nvrs(**filters: Any) -> list[str]:
        return [row["nvr"] for row in session.listBuilds(queryOpts={"order": "build_id"}, **filters)]

    modern = ["a-1-0", "a-1-1", "a-1-2", "a-1-3"]
    assert nvrs(type="operator-manifests", state=1) == modern
    assert nvrs(type="operator-manifests", completeAfter=(start + timedelta(hours=1)).timestamp()) == modern[2:]
    assert nvrs(packageID="a", state=1, completeAfter="2026-11-21 14:00:00") == modern[3:]
    assert nvrs(packageID="a", completeBefore=str(start + timedelta(hours=1))) == modern[:1]
    assert nvrs(packageID=1, state=3) == ["a-1-9"]
    assert nvrs(cgID="atomic-reactor", state=1) == [*modern, "legacy-1-1"]
    assert nvrs(packageID="nothing") == []
    assert nvrs(cgID="nobody") == []
    newest = session.listBuilds(packageID="a", state=1, queryOpts={"order": "-completion_ts", "limit": 1})
    assert [row["nvr"] for row in newest] == ["a-1-3"]
    assert session.listBuilds(state=1, queryOpts={"countOnly": True}) == 6


def test_ids_and_times_of_completion_grow(hub: SandboxKoji) -> None:
    builds = [hub.add_build("a", "1", str(number)) for number in range(20)]

    assert [build["id"] for build in builds] == list(range(1, 21))
    times = [build["completion_ts"] for build in builds]
    assert times == sorted(set(times))


def test_faults_hit_the_hub_or_the_files(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP)
    url = archive_url(hub, build, "files", "operator-manifests", "operator_manifests.zip")
    hub.faults.add(Fault("GET /kojiroot/", status=503))

    assert session.getBuild("a-1-1") == build
    assert [requests.get(url, timeout=5).status_code for _ in range(2)] == [503, 200]

    hub.faults.add(Fault("POST /kojihub", status=502, body="<html>Bad Gateway</html>"))
    with pytest.raises(requests.HTTPError, match="502"):
        session.getBuild("a-1-1")
    assert session.getBuild("a-1-1") == build


def test_koji_can_go_away_and_come_back_at_the_same_address(hub: SandboxKoji, session: Any) -> None:
    build = hub.add_build("a", "1", "1", manifests=ZIP)
    hub.stop()
    with pytest.raises(requests.ConnectionError):
        session.getBuild("a-1-1")
    hub.start()

    assert session.getBuild("a-1-1") == build


def fedora(name: str) -> Any:
    return json.loads((DATA / "messages" / "fedora" / f"{name}.json").read_bytes())


def test_fedoras_messages_have_the_shape_of_the_recorded_ones(hub: SandboxKoji) -> None:
    etcd = hub.add_build("etcd-operator-container", "0.9.2", "1", manifests=ZIP)
    bundle = hub.add_build(
        "marketplace-operator-bundle-container", "1.0.0", "3", manifests=ZIP, kind=OperatorKind.BUNDLE, task=False
    )
    nginx = hub.add_build("nginx-container", "1.20", "5")
    failed = hub.add_build("failed-container", "1.0", "1", state=3, owner="osbs")
    deleted = hub.add_build("deleted-operator-container", "1.0", "1", state=2)
    published = {
        "build.complete.operator_appregistry.reserved": hub.message(etcd),
        "build.complete.operator_bundle.unreserved_no_task": hub.message(bundle),
        "build.complete.plain_image": hub.message(nginx["nvr"]),
        "build.failed": hub.message(failed),
        "build.deleted": hub.message(deleted["id"]),
        "build.building": hub.message(etcd, state=BuildState.BUILDING),
        "tag": hub.tag_message(etcd),
    }
    for name, message in published.items():
        body, theirs = json.loads(message.body), fedora(name)
        assert message.routing_key == theirs["routing_key"], name
        assert shape(body) == shape(theirs["body"]), name
        same = ("name", "version", "release", "attribute", "old", "new", "request", "instance", "tag")
        assert {key: body.get(key) for key in same} == {key: theirs["body"].get(key) for key in same}, name
        ours, properties = dict(message.properties), theirs["properties"]
        owner = "jdoe" if name == "build.building" else None
        assert set(ours) == set(properties) - {"priority"}
        assert set(ours["headers"]) - {f"fedora_messaging_user_{owner}"} <= set(properties["headers"]), name
        assert ours["headers"]["fedora_messaging_schema"] == properties["headers"]["fedora_messaging_schema"]


def test_kojis_own_messages_have_the_shape_of_the_recorded_ones(hub: SandboxKoji) -> None:
    etcd = hub.add_build("etcd-operator-container", "0.9.2", "1", manifests=ZIP)
    legacy = hub.add_build("etcd-legacy-operator-container", "0.9.2", "7", manifests=ZIP, legacy=True)
    nginx = hub.add_build("nginx-container", "1.20", "5")
    published = {
        "build.complete.operator_appregistry.reserved": hub.message(etcd, "protonmsg"),
        "build.complete.legacy_log_archive": hub.message(legacy, "protonmsg"),
        "build.complete.plain_image": hub.message(nginx, "protonmsg"),
        "build.building": hub.message(etcd, "protonmsg", state=BuildState.BUILDING),
    }
    for name, message in published.items():
        theirs = json.loads((DATA / "messages" / "protonmsg" / f"{name}.json").read_bytes())
        assert shape(json.loads(message.body)) == shape(theirs["body"]), name
        assert message.properties == {"headers": theirs["application-properties"]}, name
        assert message.routing_key == "VirtualTopic.eng.brew" + theirs["link_target_address"].removeprefix(
            "topic://koji"
        )


def decoded(message: Any) -> BuildEvent | Ignored:
    properties = message.properties
    return decode(
        message.body,
        headers=properties["headers"],
        content_type=properties.get("content_type"),
        content_encoding=properties.get("content_encoding"),
        message_type=properties.get("type"),
        topic=message.routing_key,
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_understood(hub: SandboxKoji, dialect: str) -> None:
    build = hub.add_build("a-container", "1.0", "1", manifests=ZIP, owner="someone", target="t-1-candidate")

    event = decoded(hub.message(build, dialect))

    assert isinstance(event, BuildEvent)
    assert (event.build_id, event.nvr, event.owner) == (build["id"], "a-container-1.0-1", "someone")
    assert event.target == ("t-1-candidate" if dialect.startswith("fedora") else None)
    assert event.completed_at == datetime.fromisoformat(build["completion_time"])
    for state in set(BuildState) - {BuildState.COMPLETE}:
        assert isinstance(decoded(hub.message(build, dialect, state=state)), Ignored)


def test_the_topic_prefix_is_the_sites(hub: SandboxKoji) -> None:
    build = hub.add_build("a-container", "1.0", "1")

    assert hub.message(build, topic_prefix="org.example").routing_key == "org.example.buildsys.build.state.change"
    assert hub.message(build, "protonmsg", topic_prefix="koji").routing_key == "koji.build.complete"
    assert isinstance(decoded(hub.tag_message(build)), Ignored)


PROTON = [dialect for dialect in DIALECTS if not dialect.startswith("fedora")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_message_of_a_draft_is_understood_as_that_of_a_draft(hub: SandboxKoji, dialect: str) -> None:
    draft = hub.add_build("a-container", "1.0", "1", manifests=ZIP, draft=True)

    assert draft["nvr"] == f"a-container-1.0-1,draft_{draft['id']}"
    message = hub.message(draft, dialect)
    assert decoded(message) == Ignored("draft_build", message.routing_key)


@pytest.mark.parametrize("dialect", PROTON)
def test_the_message_of_a_promotion_is_one_of_a_complete_build(hub: SandboxKoji, dialect: str) -> None:
    draft = hub.add_build("a-container", "1.0", "1", manifests=ZIP, owner="someone", draft=True)
    promoted = hub.promote(draft)

    event = decoded(hub.promotion_message(draft, dialect))

    assert (promoted["id"], promoted["nvr"], promoted["draft"]) == (draft["id"], "a-container-1.0-1", False)
    assert isinstance(event, BuildEvent)
    assert (event.build_id, event.nvr, event.owner) == (draft["id"], "a-container-1.0-1", "someone")
    assert event.completed_at == datetime.fromisoformat(draft["completion_time"])


def test_what_fedoras_plugin_says_of_a_promotion_names_no_build(hub: SandboxKoji) -> None:
    draft = hub.add_build("a-container", "1.0", "1", manifests=ZIP, draft=True)
    hub.promote(draft)

    message = hub.promotion_message(draft, "fedora")

    assert message.routing_key == "org.fedoraproject.prod.buildsys.build.promote"
    assert decoded(message) == Ignored("not_a_build_message", message.routing_key)


def test_a_promoted_build_has_its_files_at_the_new_place_and_at_the_old_one(hub: SandboxKoji, session: Any) -> None:
    draft = hub.add_build("a", "1", "1", manifests=ZIP, draft=True)
    hub.promote(draft)

    for build in (draft, session.getBuild("a-1-1")):
        url = archive_url(hub, build, "files", "operator-manifests", "operator_manifests.zip")
        assert requests.get(url, timeout=5).content == ZIP
    with pytest.raises(ValueError, match="cannot be promoted"):
        hub.promote(draft)


def test_builds_are_listed_by_draft_and_by_promotion(hub: SandboxKoji, session: Any) -> None:
    start = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    first, second = (hub.add_build("a", "1", str(number), draft=True) for number in range(2))
    hub.add_build("a", "1", "9")
    hub.promote(first, promoted_at=start)

    def ids(**filters: Any) -> list[int]:
        return [row["build_id"] for row in session.listBuilds(queryOpts={"order": "build_id"}, **filters)]

    assert ids(draft=True) == [second["id"]]
    assert ids(draft=False) == [first["id"], 3]
    assert ids(promotedAfter=start.timestamp() - 1) == [first["id"]]
    assert ids(promotedAfter=start.timestamp()) == []
    assert ids(promotedBefore=str(start + timedelta(seconds=1))) == [first["id"]]
