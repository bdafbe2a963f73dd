# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API beside slow packages, greedy clients, strangers, and clients that go away and come again."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
import requests
from pydantic import SecretStr

from omps_worker.api.requests.idempotency import IdempotencyKeys
from omps_worker.api.scheduling import permissions, scheduler
from omps_worker.api.scheduling.permissions import Permission, PermissionChecker
from omps_worker.api.scheduling.worker_pool import WorkerPool
from omps_worker.common.errors import InvalidIdempotencyKey
from omps_worker.common.locks.file import FileLock, state_directory
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.sandbox import operators
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault
from tests.support.api import api, koji_path, serve, zip_path
from tests.support.cnr import CnrServer
from tests.support.waiting import wait_until

SLOW = operators.zip_of(operators.nested_operator("slow"))
OTTER = operators.zip_of(operators.nested_operator("otter"))
STRANGER = "basic d3Jvbmc6d3Jvbmc="


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMPS_WORKER_STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def shared(state, tmp_path_factory):
    with api(tmp_path_factory.mktemp("api"), concurrency=1) as made:
        made.registry.add_organization("partners")
        yield made


@pytest.fixture
def server(shared):
    yield shared
    shared.reset()


class Held:
    """Pushes to a package whose registry does not answer."""

    def __init__(self, server, gate, ending):
        self.server = server
        self.gate = gate
        self.replies = []
        self._ending = ending

    def push(self, count=1, **options):
        for _ in range(count):
            thread = threading.Thread(
                target=lambda: self.replies.append(self.server.push("v2", SLOW, "slow", **options))
            )
            thread.start()
            self._ending.callback(thread.join)

    @property
    def statuses(self):
        return sorted(reply.status_code for reply in self.replies)


@contextmanager
def slow_package(server):
    """While inside, a push to the package ``slow`` is under way at the registry."""
    with ExitStack() as ending:
        gate = threading.Event()
        fault = server.registry.faults.add(Fault("POST /cnr/api/v1/packages/community/slow", hold=gate))
        held = Held(server, gate, ending)
        try:
            held.push()
            wait_until(lambda: server.registry.faults.fired(fault))
            yield held
        finally:
            gate.set()


def leave_behind(server, path, content, headers=None):
    """A connection on which an upload was sent whole, and nothing was read."""
    request = requests.Request(
        "POST",
        server.url + path,
        headers={"Authorization": server.token, **(headers or {})},
        files={"file": ("manifests.zip", content)},
    ).prepare()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items())
    connection = socket.create_connection(server.address)
    connection.sendall(head.encode() + b"\r\n" + request.body)
    return connection


def check(reply, status, error):
    assert (reply.status_code, reply.json().get("error")) == (status, error), reply.text
    return reply


def waiting(server):
    return server.site._scheduler._releasing.waiting


# ---- one package, one client


def test_a_slow_package_holds_up_neither_others_of_its_client_nor_other_clients(server):
    with slow_package(server) as held:
        held.push(6)
        wait_until(lambda: waiting(server) == 6)
        assert server.push("v2", OTTER, "otter").status_code == 200
        partner = server.registry.add_robot("partners")
        assert server.upload("/v2/partners/zipfile", OTTER, token=partner).status_code == 200
        assert server.delete("/v2/community/otter").status_code == 200
        assert held.replies == []
    assert held.statuses == [200] * 7
    assert server.versions("slow") == [f"{number}.0.0" for number in range(1, 8)]


def test_a_package_has_a_line_of_its_own_and_no_longer_one_than_can_be_served(server):
    with slow_package(server) as held:
        held.push(20)
        wait_until(lambda: waiting(server) == 20)
        for version in ("v1", "v2"):
            reply = check(server.push(version, SLOW, "slow"), 503, "PackageBusy")
            assert int(reply.headers["Retry-After"]) > 0
        check(server.delete("/v2/community/slow"), 503, "PackageBusy")
    assert held.statuses == [200] * 21


def test_there_is_a_limit_to_what_one_client_may_have_waiting(server, monkeypatch):
    monkeypatch.setattr(server.site._scheduler._admitted, "_per_owner", 3)
    with slow_package(server) as held:
        held.push(2)
        wait_until(lambda: waiting(server) == 2)
        reply = check(server.push("v2", OTTER, "otter"), 503, "ServiceBusy")
        assert int(reply.headers["Retry-After"]) > 0
        partner = server.registry.add_robot("partners")
        assert server.upload("/v2/partners/zipfile", OTTER, token=partner).status_code == 200


# ---- strangers


@pytest.mark.parametrize("token", [STRANGER, "basic no-base64", "Bearer x", "x", "partners' robot"])
def test_nothing_heavy_is_done_for_a_stranger(server, token):
    if token == "partners' robot":
        token = server.registry.add_robot("partners")
    server.koji.faults.add(Fault(".*", status=500, times=None))
    for path in (koji_path("v1", "otter", "otter-container-1.0-1"), koji_path("v2", "otter", "otter-container-1.0-1")):
        reply = check(server.ask("POST", path, token=token), 403, "QuayAuthorizationError")
        assert "Unauthorized access" in reply.json()["message"]
    check(server.push("v2", b"what is no zip is not looked at", "otter", token=token), 403, "QuayAuthorizationError")


def test_a_token_is_looked_at_once_and_forgotten_in_time(server):
    now = [0.0]
    robot = SecretStr(server.registry.add_robot("community", "other"))
    known = PermissionChecker(AppRegistry(server.registry.url, timeout=5), clock=lambda: now[0])
    assert known.kept("community", robot) is None
    assert known.ask("community", robot).permission is Permission.KNOWN
    asked = len(server.registry.log)
    assert known.ask("community", robot).permission is Permission.KNOWN
    assert len(server.registry.log) == asked
    assert known.kept("partners", robot) is None
    now[0] = permissions.KEPT_SECONDS[Permission.KNOWN]
    assert known.kept("community", robot) is None


def test_what_is_kept_of_tokens_has_a_limit(server, monkeypatch):
    monkeypatch.setattr(permissions, "KEPT", 3)
    known = PermissionChecker(AppRegistry(server.registry.url, timeout=5))
    for number in range(5):
        assert known.ask("community", SecretStr(f"x{number}")).permission is Permission.REFUSED
    assert [known.kept("community", SecretStr(f"x{number}")) is None for number in range(5)] == [True] * 2 + [False] * 3


def test_everybody_who_may_push_is_known_and_nobody_else(server, tmp_path):
    registry = server.registry
    known = PermissionChecker(AppRegistry(registry.url, timeout=5))
    owner = registry.add_user("jdoe")
    standing = {
        "creator": known.ask("community", SecretStr(registry.add_robot("community", "other"))),
        "owner": known.ask("jdoe", SecretStr(owner)),
        "wrong": known.ask("community", SecretStr(STRANGER)),
        "nothing of the kind": known.ask("community", SecretStr("Bearer abc")),
        "robot of others": known.ask("community", SecretStr(registry.add_robot("partners"))),
    }
    assert {name for name, found in standing.items() if found.permission is Permission.KNOWN} == {"creator", "owner"}
    assert "unauthorized-access" in str(standing["wrong"].response)
    with CnrServer(tmp_path) as reference:
        # It asks nobody who they are.
        everybody = PermissionChecker(AppRegistry(reference.url, timeout=10))
        assert everybody.ask("community", SecretStr("anything")).permission is Permission.KNOWN


def test_where_the_registry_cannot_be_asked_the_push_itself_tells(server):
    known = PermissionChecker(AppRegistry("http://127.0.0.1:9", timeout=5))
    assert known.ask("community", SecretStr(server.token)).permission is Permission.UNKNOWN
    server.registry.faults.add(Fault("GET .*omps-worker-probe", status=502, times=None))
    token = server.registry.add_robot("community", "other")
    assert server.push("v2", OTTER, "otter", token=token).status_code == 200


def test_strangers_that_cannot_be_told_apart_share_what_one_client_gets(server):
    """A registry that takes no more logins does not say who is a stranger."""
    server.registry.faults.add(Fault("POST /cnr/api/v1/users/login", status=429, times=None))
    server.koji.add_build("heavy-container", "1.0", "1", manifests=SLOW)
    gate, replies = threading.Event(), []
    held = server.koji.faults.add(Fault("GET .*heavy-container", hold=gate, times=None))
    with ExitStack() as ending:
        for number in range(4):
            token = "basic " + base64.b64encode(f"stranger{number}:secret".encode()).decode()
            path = koji_path("v2", "slow", "heavy-container-1.0-1")
            thread = threading.Thread(
                target=lambda token=token, path=path: replies.append(server.ask("POST", path, token=token))
            )
            thread.start()
            ending.callback(thread.join)
        ending.callback(gate.set)
        wait_until(lambda: server.koji.faults.fired(held))
        statuses = server.site._scheduler._admitted._owners
        wait_until(lambda: statuses[scheduler.UNKNOWN_TOKENS] == 4 or len(replies) == 4)
        assert server.site._scheduler._preparing._owners[scheduler.UNKNOWN_TOKENS] == 1


# ---- clients that go away


def test_what_a_client_that_left_asked_for_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with slow_package(server) as held:
        left = [leave_behind(server, zip_path("v2", "slow"), SLOW) for _ in range(5)]
        wait_until(lambda: waiting(server) == 5)
        for connection in left:
            connection.close()
        wait_until(lambda: waiting(server) == 0)
        held.push()
    assert held.statuses == [200, 200]
    assert server.versions("slow") == ["1.0.0", "2.0.0"]
    wait_until(lambda: not list(tmp_path.glob("omps-worker-*")))


def test_nor_if_it_leaves_while_somebody_elsewhere_has_the_package(server, caplog):
    caplog.set_level("INFO")
    lock = FileLock(state_directory())
    with lock.hold(server.registry.url, "community", "otter"):
        with closing(leave_behind(server, zip_path("v2", "otter"), OTTER)):
            busy = server.site._scheduler._releasing._parts
            wait_until(lambda: busy["community/otter"] == 1)
        wait_until(lambda: "/v2/community/zipfile: 499" in caplog.text)
    wait_until(lambda: server.site.pool.idle)
    assert server.versions("otter") == []
    assert "omps_worker.outcomes" not in {record.name for record in caplog.records}


def test_a_client_that_left_has_not_stopped_the_push_that_was_under_way(server):
    gate = threading.Event()
    fault = server.registry.faults.add(Fault("POST /cnr/api/v1/packages/community/otter", hold=gate))
    with closing(leave_behind(server, zip_path("v2", "otter"), OTTER)):
        wait_until(lambda: server.registry.faults.fired(fault))
    gate.set()
    wait_until(lambda: server.versions("otter") == ["1.0.0"])


def test_what_is_under_way_for_a_client_that_left_is_finished_and_told_before_the_end(tmp_path, caplog):
    caplog.set_level("INFO")
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        registry.add_organization("community")
        gate = threading.Event()
        fault = registry.faults.add(Fault("POST /cnr/api/v1/packages/community/otter", hold=gate))
        with serve(tmp_path, koji, registry, registry.add_robot("community")) as server:
            with closing(leave_behind(server, zip_path("v2", "otter"), OTTER)):
                wait_until(lambda: registry.faults.fired(fault))
            wait_until(lambda: "/v2/community/zipfile: 499" in caplog.text)
            threading.Timer(0.3, gate.set).start()
        assert [release.version for release in registry.releases("community", "otter")] == ["1.0.0"]
    assert "published community/otter 1.0.0" in caplog.text


def test_it_is_not_waited_for_without_end(tmp_path):
    pool = WorkerPool(1)

    async def story():
        gate = threading.Event()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(pool.run(lambda: gate.wait(10)), 0.05)
        assert not pool.idle
        await pool.finish(time.monotonic() + 0.05)
        assert not pool.idle
        gate.set()
        await pool.finish(time.monotonic() + 10)
        assert pool.idle

    asyncio.run(story())
    pool.close()


# ---- clients that come again


def test_the_same_request_again_makes_one_release(server):
    key = {"Idempotency-Key": "pipeline 4711"}
    gate = threading.Event()
    fault = server.registry.faults.add(Fault("POST /cnr/api/v1/packages/community/otter", hold_answer=gate))
    with closing(leave_behind(server, zip_path("v2", "otter"), OTTER, key)):
        wait_until(lambda: server.registry.faults.fired(fault))
    threading.Timer(0.2, gate.set).start()
    for _ in range(3):
        assert server.push("v2", OTTER, "otter", headers=key).json()["version"] == "1.0.0"
    assert server.push("v1", OTTER, "otter", "1.0.0", headers=key).json()["version"] == "1.0.0"
    assert server.versions("otter") == ["1.0.0"]
    assert server.push("v2", OTTER, "otter", headers={"Idempotency-Key": "4712"}).json()["version"] == "2.0.0"
    assert server.push("v2", OTTER, "otter").json()["version"] == "3.0.0"
    assert server.push("v2", OTTER, "otter", headers=key).json()["version"] == "1.0.0", "as it was told before"


def test_a_key_counts_for_one_content_and_one_token(server):
    key = {"Idempotency-Key": "k"}
    changed = operators.zip_of(operators.nested_operator("otter", versions=("9.9.9",)))
    assert server.push("v2", OTTER, "otter", headers=key).json()["version"] == "1.0.0"
    assert server.push("v2", changed, "otter", headers=key).json()["version"] == "2.0.0"
    admin = server.registry.add_robot("community", "admin", role="admin")
    assert server.push("v2", changed, "otter", headers=key, token=admin).json()["version"] == "3.0.0"


def test_a_release_that_was_deleted_is_made_again(server):
    key = {"Idempotency-Key": "deleted"}
    assert server.push("v2", OTTER, "otter", headers=key).json()["version"] == "1.0.0"
    assert server.push("v2", SLOW, "slow", headers=key).json()["version"] == "1.0.0"
    server.delete("/v2/community/slow/1.0.0")
    assert server.push("v2", SLOW, "slow", headers=key).json()["version"] == "1.0.0"
    assert server.versions("slow") == ["1.0.0"]


@pytest.mark.parametrize("key", ["", "x" * 256, "\u00e9"])
def test_what_is_no_key_is_refused_before_anything_is_done(server, key):
    headers = {"Idempotency-Key": key.encode("utf-8")}
    check(server.push("v2", OTTER, "otter", headers=headers), 400, InvalidIdempotencyKey.__name__)
    assert server.versions("otter") == []


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "garbage", "zeros"])
def test_what_somebody_put_in_the_place_of_a_key_holds_up_nobody(server, kind, tmp_path, caplog):
    headers = {"Idempotency-Key": f"trap {kind}"}
    before = set(state_directory().glob("*.request"))
    assert server.push("v2", OTTER, "otter", headers=headers).json()["version"] == "1.0.0"
    (path,) = set(state_directory().glob("*.request")) - before
    path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("1.0.0")
    {
        "fifo": lambda: os.mkfifo(path),
        "symlink": lambda: path.symlink_to(elsewhere),
        "directory": path.mkdir,
        "garbage": lambda: path.write_text("something else"),
        "zeros": lambda: path.write_bytes(bytes(10**6)),
    }[kind]()
    reply = server.push("v2", OTTER, "otter", headers=headers)
    if kind == "directory":
        check(reply, 503, "StorageError")
        assert list(path.parent.glob("new-*")) == []
        path.rmdir()
    else:
        assert reply.json()["version"] == "2.0.0"
        assert "counts as new" in caplog.text
    assert elsewhere.read_text() == "1.0.0"
    path.unlink(missing_ok=True)


def test_keys_are_forgotten_after_a_day_and_there_are_not_too_many(tmp_path, monkeypatch):
    from omps_worker.api.requests import idempotency

    monkeypatch.setattr(idempotency, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(idempotency, "KEPT", 3)
    keys, token = IdempotencyKeys(lambda: tmp_path), SecretStr("basic x")
    for number in range(6):
        key = keys.of(f"{number}", "community", token)
        key.note("1.0.0")
        os.utime(key.path, (time.time(), time.time() - 100 + number))
    assert keys.of("5", "community", token).earlier() == "1.0.0"
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(idempotency, "KEPT_SECONDS", 0.0)
    assert keys.of("5", "community", token).earlier() is None
    assert list(tmp_path.iterdir()) == []
    assert not any("basic" in path.name for path in tmp_path.iterdir())
