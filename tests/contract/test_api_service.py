# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of the REST API but pushing: deletes, health, paths, limits, and clients that behave badly."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from importlib import metadata
from urllib.parse import quote

import jsonschema
import pytest

from omps_worker import __version__
from omps_worker.api import health as api_health
from omps_worker.api import openapi, replies
from omps_worker.api import server as api_server
from omps_worker.api.announcer import Announcer
from omps_worker.api.health import HealthEndpoint
from omps_worker.api.replies import reply_to
from omps_worker.common.errors import (
    BrokerUnavailable,
    PackageBusy,
    RequestError,
    SettingsError,
    StorageError,
    WorkerError,
)
from omps_worker.common.errors import Fault as ConfigurationFault
from omps_worker.common.logs import JsonFormatter, TextFormatter
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.api import api, assert_documented, zip_path
from tests.support.blobs import tar_gz
from tests.support.waiting import wait_until

NESTED = operators.zip_of(operators.nested_operator("otter-cache"))
LIMIT = 2 * 2**20
both = pytest.mark.parametrize("v", ["v1", "v2"])


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMPS_WORKER_STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def shared(state, tmp_path_factory):
    with api(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture
def server(shared):
    yield shared
    shared.reset()


def release(server, *versions, repository="etcd"):
    for version in versions:
        server.registry.add_release("community", repository, version, tar_gz(version))


def check(reply, status, error, message=""):
    body = reply.json()
    assert (reply.status_code, body["status"], body["error"]) == (status, status, error), body
    assert message in body["message"]
    assert_documented(reply)
    return body


# ---- deleting


@both
def test_one_release_is_deleted(server, v):
    release(server, "1.0.0", "2.0.0")
    reply = server.delete(f"/{v}/community/etcd/1.0.0")
    assert reply.status_code == 200
    assert reply.json() == {"organization": "community", "repo": "etcd", "deleted": ["1.0.0"]}
    assert server.versions("etcd") == ["2.0.0"]


@both
def test_all_releases_are_deleted_odd_ones_too_and_the_repository_stays(server, v):
    odd = ("1.0.0", "v1", "1.0", "2.0.0+a b", "zipfile")
    release(server, *odd)
    reply = server.delete(f"/{v}/community/etcd")
    assert reply.json() == {"organization": "community", "repo": "etcd", "deleted": sorted(odd)}
    assert server.registry.packages() == (("community", "etcd"),)
    check(server.delete(f"/{v}/community/etcd"), 404, "QuayPackageNotFound")


def test_an_odd_version_is_deleted_by_its_name(server):
    release(server, "zipfile", "1.0")
    for version in ("zipfile", "1.0"):
        assert server.delete(f"/v1/community/etcd/{version}").json()["deleted"] == [version]


@both
def test_what_does_not_exist_cannot_be_deleted(server, v):
    release(server, "1.0.0")
    check(server.delete(f"/{v}/community/etcd/2.0.0"), 404, "QuayPackageNotFound", "doesn't exist")
    check(server.delete(f"/{v}/community/lantern"), 404, "QuayPackageNotFound", "not found")
    check(server.delete(f"/{v}/community/%C3%A9tcd"), 404, "QuayPackageNotFound")
    check(server.delete(f"/{v}/community/etcd", token=None), 403, "OMPSAuthorizationHeaderRequired")
    assert server.versions("etcd") == ["1.0.0"]


@both
def test_who_has_no_rights_in_an_organization_is_told_so(server, v):
    release(server, "1.0.0")
    wrong = server.delete(f"/{v}/community/etcd", token="basic d3Jvbmc6d3Jvbmc=")
    check(wrong, 403, "QuayAuthorizationError", "Unauthorized access")
    check(server.delete(f"/{v}/no-such-organization/etcd"), 403, "QuayAuthorizationError", "Unauthorized access")
    one = server.delete(f"/{v}/no-such-organization/etcd/1.0.0")
    check(one, 500, "QuayPackageError", "Unauthorized access")
    assert server.versions("etcd") == ["1.0.0"]


@both
def test_who_may_see_and_not_delete_is_told_so(server, v):
    release(server, "1.0.0", "2.0.0")
    server.registry._api.repositories["community", "etcd"].public = True
    for path, status, error in (("etcd", 403, "QuayAuthorizationError"), ("etcd/1.0.0", 500, "QuayPackageError")):
        stranger = server.delete(f"/{v}/community/{path}", token="basic d3Jvbmc6d3Jvbmc=")
        assert check(stranger, status, error, "nauthorized access")["deleted"] == []
    assert server.versions("etcd") == ["1.0.0", "2.0.0"]


@both
def test_an_escaped_slash_is_none(server, v):
    release(server, "1.0.0")
    check(server.delete(f"/{v}/community%2fetcd"), 400, "InvalidOrganizationName", "/ in its name")
    check(server.delete(f"/{v}/community/etcd%2F1.0.0"), 400, "InvalidOrganizationName", "/ in its name")
    for path in ("comm%2Funity/zipfile", "community/lan%2Ftern/zipfile", "community/koji/a%2Fb-1-1", "%2f%2F"):
        check(server.ask("POST", f"/{v}/{path}"), 400, "InvalidOrganizationName", "/ in its name")
    assert server.versions("etcd") == ["1.0.0"]


@both
@pytest.mark.parametrize(
    "name", ["_under", "commu%20nity", "%C3%A9", "a" * 256], ids=["underscore", "blank", "accent", "long"]
)
def test_an_organization_that_nothing_can_be_called_is_refused_before_any_work(server, v, name):
    asked = len(server.registry.log) + len(server.koji.log)
    for reply in (
        server.delete(f"/{v}/{name}/etcd"),
        server.upload(f"/{v}/{name}/{'etcd/' if v == 'v1' else ''}zipfile", b"no zip"),
        server.ask("POST", f"/{v}/{name}/{'etcd/' if v == 'v1' else ''}koji/etcd-container-1-1"),
    ):
        check(reply, 400, "InvalidOrganizationName", "is not the name of an organization")
    assert len(server.registry.log) + len(server.koji.log) == asked


def test_one_that_cannot_be_deleted_does_not_keep_the_others(server):
    release(server, "1.0.0", "2.0.0", "3.0.0")
    server.registry.faults.add(Fault("DELETE .*/2.0.0/", status=500))
    body = check(server.delete("/v2/community/etcd"), 500, "QuayPackageError", "1 of 3 releases")
    assert (body["organization"], body["repo"], body["deleted"]) == ("community", "etcd", ["1.0.0", "3.0.0"])
    assert server.versions("etcd") == ["2.0.0"]
    server.registry.faults.add(Fault("DELETE .*", status=500))
    assert check(server.delete("/v2/community/etcd/2.0.0"), 500, "QuayPackageError")["deleted"] == []


# ---- how the services do


@both
def test_about(server, v):
    reply = server.get(f"/{v}/about")
    assert reply.json() == {"version": __version__, "operatorcourier": metadata.version("operator-courier")}


@both
def test_health(server, v):
    reply = server.get(f"/{v}/health/ping")
    fine = {"ok": True, "details": "It works!"}
    assert reply.status_code == 200
    assert reply.json() == {
        "ok": True,
        "status": 200,
        "services": {"koji": fine, "quay": fine, "greenwave": None},
    }


def test_a_dead_koji_and_a_failing_registry_are_told(tmp_path):
    with api(tmp_path) as server:
        server.koji.stop()
        server.registry.faults.add(Fault("GET /cnr/version", status=503))
        reply = server.get("/v2/health/ping")
        services = reply.json()["services"]
        assert (reply.status_code, reply.json()["ok"], reply.json()["status"]) == (503, False, 503)
        assert services["koji"]["ok"] is services["quay"]["ok"] is False
        assert "cannot be reached" in services["koji"]["details"] or "refused" in services["koji"]["details"]
        assert "503" in services["quay"]["details"]


def test_services_are_asked_together_once_and_not_for_ever():
    release_all, asked = threading.Event(), []

    def hangs():
        asked.append(1)
        release_all.wait(20)

    def breaks():
        raise RuntimeError("deep inside")

    async def look():
        health = HealthEndpoint({"koji": hangs, "quay": hangs, "greenwave": breaks}, seconds=0.2)
        found = await asyncio.gather(*(health.look() for _ in range(20)))
        release_all.set()
        health.close()
        return found

    found = asyncio.run(look())
    assert len(asked) == 2
    assert {reply.status for reply in found} == {503}
    services = found[0].body["services"]
    assert "within 0.2 seconds" in services["koji"]["details"]
    assert "deep inside" not in json.dumps(services)
    assert api_health.ASK_SECONDS <= 5


def test_health_is_told_while_all_threads_push(tmp_path):
    with api(tmp_path, concurrency=1) as server, ExitStack() as ending:
        gate = threading.Event()
        held = server.registry.faults.add(Fault("GET /cnr/api/v1/packages/.*", hold=gate))
        pushes = [threading.Thread(target=server.push, args=("v2", NESTED, "otter-cache")) for _ in range(3)]
        for push in pushes:
            push.start()
            ending.callback(push.join)
        ending.callback(gate.set)
        wait_until(lambda: server.registry.faults.fired(held))
        assert server.get("/v2/health/ping").status_code == 200
        assert server.get("/v2/about").status_code == 200


# ---- paths and methods


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v3/about", "/v1/about/", "/v1/a/b/c/d/e/f", "/v2/a/zipfile/1.0.0/x", "//", "/v2/%00/%ff/x/y"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_an_unknown_path_is_told_as_json(server, path, method):
    check(server.ask(method, path, token=None, data=b"x" * 1000), 404, "NotFound")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/community/zipfile", "DELETE, POST"),
        ("PUT", "/v1/community/etcd/zipfile", "DELETE, POST"),
        ("POST", "/v1/about", "GET, HEAD"),
        ("GET", "/v1/community/etcd/koji/x-1-1", "POST"),
        ("OPTIONS", "/v1/health/ping", "DELETE, GET, HEAD"),
        ("PATCH", "/v2/community/etcd/1.0.0", "DELETE"),
    ],
)
def test_a_wrong_method_is_told_as_json_with_the_right_ones(server, method, path, allowed):
    reply = server.ask(method, path, token=None)
    check(reply, 405, "MethodNotAllowed")
    assert reply.headers["Allow"] == allowed


def test_every_reply_has_an_id_which_may_be_the_clients(server, caplog):
    caplog.set_level(logging.INFO)
    assert re.fullmatch("[0-9a-f]{32}", server.get("/v1/about").headers["X-Request-ID"])
    assert server.ask("GET", "/nix", headers={"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for odd in ("", "a b", "x" * 65, "ä".encode(), "<script>"):
        reply = server.ask("GET", "/v1/about", headers={"X-Request-ID": odd})
        assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-ID"])


def test_the_access_log_has_the_id_and_no_credentials(server, caplog):
    caplog.set_level(logging.INFO)
    server.ask("DELETE", "/v2/community/etcd?token=hidden", headers={"X-Request-ID": "known"})
    found = wait_until(lambda: [r for r in caplog.records if r.getMessage().startswith("DELETE /v2/")])
    assert found
    assert "hidden" not in caplog.text
    assert server.token not in caplog.text
    record = logging.makeLogRecord({"msg": "x", "request_id": "known"})
    assert "[known] x" in TextFormatter().format(record)


# ---- limits, and clients that behave badly


def test_a_request_that_is_announced_to_be_too_large_gets_a_reply(server):
    check(server.upload(zip_path("v2", "x"), b"x" * (3 * LIMIT)), 413, "RequestEntityTooLarge", str(LIMIT))


def test_a_request_that_turns_out_to_be_too_large_gets_a_reply(server):
    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 65536

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = server.ask("POST", zip_path("v2", "x"), data=pieces(), headers=headers)
    check(reply, 413, "RequestEntityTooLarge", str(LIMIT))


@pytest.mark.parametrize("token", [None, ""])
def test_a_large_request_that_is_refused_for_another_reason_gets_a_reply_too(server, token):
    reply = server.upload("/nix", b"x" * (3 * LIMIT), token=token)
    check(reply, 404, "NotFound")


def test_the_whole_request_counts_and_the_limit_itself_is_taken(tmp_path):
    with api(tmp_path, api={"max_content_length": len(NESTED) + 1000}) as server:
        assert server.push("v2", NESTED, "otter-cache").status_code == 200
        check(server.push("v2", NESTED + b"x" * 1000, "otter-cache"), 413, "RequestEntityTooLarge")


def head(server, path, length, *more):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {server.token}",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {length}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(connection):
    """The status and the body of the reply on a connection, whose end is awaited."""
    connection.settimeout(20)
    received = b""
    while piece := connection.recv(65536):
        received += piece
    top, _, body = received.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


def test_who_asks_first_is_refused_before_the_body_is_sent(server):
    with closing(socket.create_connection(server.address)) as connection:
        connection.sendall(head(server, zip_path("v2", "x"), 10 * LIMIT, "Expect: 100-continue"))
        status, body = answer(connection)
    assert (status, body["error"]) == (413, "RequestEntityTooLarge")


def test_stalled_uploads_end_after_a_while_and_hold_up_nobody(tmp_path):
    with api(tmp_path, upload_seconds=1.0, concurrency=1) as server, ExitStack() as open_ones:
        begun = time.monotonic()
        stalled = []
        for _ in range(2):
            connection = open_ones.enter_context(closing(socket.create_connection(server.address)))
            connection.sendall(head(server, zip_path("v2", "x"), 1000) + b"--x\r\n")
            stalled.append(connection)
        assert server.get("/v2/about").status_code == 200
        assert server.push("v2", NESTED, "otter-cache").status_code == 200
        for connection in stalled:
            status, body = answer(connection)
            assert (status, body["error"]) == (408, "RequestTimeout")
        assert time.monotonic() - begun < 15


def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with api(tmp_path / "site") as server:
        with closing(socket.create_connection(server.address)) as connection:
            connection.sendall(head(server, zip_path("v2", "x"), 1000) + b"--x\r\n")
            wait_until(lambda: list(tmp_path.glob("omps-worker-*")))
        wait_until(lambda: not list(tmp_path.glob("omps-worker-*")))
        assert server.push("v2", NESTED, "otter-cache").status_code == 200
        assert server.push("v2", b"no zip", "otter-cache").status_code == 400
        wait_until(lambda: not list(tmp_path.glob("omps-worker-*")))


def test_what_is_no_http_is_told_as_json(server):
    with closing(socket.create_connection(server.address)) as connection:
        connection.sendall(b"HELO example.com\r\n\r\n")
        status, body = answer(connection)
    assert (status, body["status"], body["error"]) == (400, 400, "BadRequest")


@pytest.mark.parametrize(
    ("version", "lengths"),
    [
        ("1.1", ("Content-Length: 5", "Transfer-Encoding: chunked")),
        ("1.1", ("Transfer-Encoding: chunked", "Content-Length: 5")),
        ("1.1", ("transfer-encoding: Chunked", "content-length: 0")),
        ("1.0", ("Transfer-Encoding: chunked",)),
    ],
)
@pytest.mark.parametrize("first", ["POST /v2/community/zipfile", "GET /v2/about", "GET /nix"])
def test_a_request_of_which_others_may_see_another_body_is_refused_and_the_connection_closed(
    server, version, lengths, first
):
    hidden = b"0\r\n\r\nDELETE /v2/community/etcd HTTP/1.1\r\nHost: x\r\n\r\n"
    with closing(socket.create_connection(server.address)) as connection:
        top = [f"{first} HTTP/{version}", "Host: x", f"Authorization: {server.token}", *lengths, "", ""]
        connection.sendall("\r\n".join(top).encode() + hidden)
        status, body = answer(connection)
    assert (status, body["error"]) == (400, "BadRequest"), "there is one reply, and then the end"
    assert "Transfer-Encoding" in body["message"]


def test_a_body_that_is_not_as_announced_leaves_no_traceback(server, caplog):
    with closing(socket.create_connection(server.address)) as connection:
        top = ["POST /v2/community/zipfile HTTP/1.1", "Host: x", f"Authorization: {server.token}"]
        top += ["Content-Length: 9", "Transfer-Encoding: chunked", "", "no chunks at all"]
        connection.sendall("\r\n".join(top).encode())
        status, body = answer(connection)
    assert (status, body["error"]) == (400, "BadRequest")
    assert server.get("/v2/about").status_code == 200
    assert [record for record in caplog.records if record.exc_info] == []


CURSOR = "\x1b[2J\x9b1A\r\n\x07\u202e\u2028"


def test_a_reply_escapes_what_moves_a_cursor_and_what_utf_8_cannot_say():
    body = {"message": f"ü “{CURSOR}”", "quay_response": {CURSOR: ["\ud800", CURSOR, "\U000e0001", 1.5, None]}}
    text = replies.as_json(body).decode()
    assert text.isprintable()
    assert "ü “" in text
    assert json.loads(text) == body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v2/{0}/etcd"),
        ("DELETE", "/v2/community/{0}"),
        ("DELETE", "/v2/community/etcd/{0}"),
        ("POST", "/v2/community/koji/{0}"),
        ("POST", "/v1/community/{0}/koji/x-1-1/{0}"),
        ("GET", "/{0}"),
        ("PUT", "/v2/{0}/zipfile"),
    ],
)
def test_a_refusal_repeats_no_path_and_no_header_that_moves_a_cursor(server, caplog, method, path):
    caplog.set_level(logging.DEBUG)
    hostile = quote(CURSOR, safe="")
    headers = {"X-Request-ID": "\x9b1A", "Content-Type": "\x9b1A"}
    reply = server.ask(method, path.format(hostile), headers=headers)
    assert reply.status_code >= 400
    assert reply.text.isprintable()
    assert reply.json()["message"].isprintable()
    assert all(value.isprintable() for value in reply.headers.values())
    wait_until(lambda: any(f"{method} /" in record.getMessage() for record in caplog.records))
    for record in caplog.records:
        assert TextFormatter().format(record).isprintable()
        assert JsonFormatter().format(record).isprintable()


def test_what_a_registry_says_is_repeated_without_moving_a_cursor(server):
    body = json.dumps({"error": {"message": f"no {CURSOR}", "details": {CURSOR: [CURSOR, "\ud800"]}}}).encode()
    server.registry.faults.add(Fault("POST /cnr/.*", status=403, body=body))
    reply = server.push("v2", NESTED, "otter-cache")
    assert reply.status_code == 403
    assert reply.text.isprintable()
    assert reply.json()["quay_response"]["error"]["message"] == f"no {CURSOR}"


def test_a_client_that_does_not_finish_the_head_of_its_request_is_hung_up_on(server, monkeypatch):
    monkeypatch.setattr(api_server, "HEADER_SECONDS", 0.2)
    for beginning in (b"", b"GET /v1/about HTTP/1.1\r\nHost: x\r\nX-Long: "):
        with closing(socket.create_connection(server.address)) as connection:
            connection.sendall(beginning)
            connection.settimeout(20)
            assert connection.recv(1000) == b""


# ---- replies and announcements


def errors_of(kind=WorkerError):
    for each in kind.__subclasses__():
        yield each
        yield from errors_of(each)


def test_every_error_of_a_request_and_of_those_that_are_asked_has_its_status():
    known = set(replies.STATUSES)
    assert set(errors_of(RequestError)) <= known
    for each in known:
        assert 400 <= replies.STATUSES[each] < 600


@pytest.mark.parametrize(
    ("error", "status"),
    [(PackageBusy("busy"), 503), (StorageError("full"), 503), (BrokerUnavailable("rabbit.internal:5671 is away"), 503)],
)
def test_who_cannot_work_for_now_says_when_to_try_again(error, status):
    reply = reply_to(error)
    assert (reply.status, reply.headers) == (status, {"Retry-After": "10"})
    assert "rabbit" not in str(reply.body)


def test_what_is_wrong_with_the_configuration_is_for_the_log_alone(caplog):
    reply = reply_to(SettingsError([ConfigurationFault("/etc/secret/config.toml", "x", "is gone")]))
    assert reply.status == 500
    assert "secret" not in str(reply.body)
    assert "/etc/secret/config.toml" in caplog.text


def test_results_are_announced_in_the_background_and_failures_are_only_logged(caplog):
    gate, sent = threading.Event(), []

    def send(result):
        gate.wait(20)
        if result == 1:
            raise BrokerUnavailable("The broker is away.")
        sent.append(result)

    announcer = Announcer(send)
    for result in range(3):
        announcer.announce(result)
    gate.set()
    announcer.close()
    assert sent == [0, 2]
    assert "The broker is away." in caplog.text


# ---- the description


def test_the_description_is_one_and_has_every_route(server):
    document = server.get("/openapi.json").json()
    assert document == openapi.document()
    assert document["openapi"] == "3.1.0"
    assert len(document["paths"]) == 16
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})
    text = json.dumps(document)
    for name in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    ids = [about["operationId"] for methods in document["paths"].values() for about in methods.values()]
    assert len(ids) == len(set(ids))


def test_replies_are_as_described(server):
    schemas = openapi.document()["components"]["schemas"]

    def fits(reply, name):
        jsonschema.validate(reply.json(), {**schemas[name], "components": {"schemas": schemas}})

    fits(server.push("v2", NESTED, "otter-cache"), "Pushed")
    fits(server.push("v2", b"", "otter-cache"), "Error")
    fits(server.delete("/v2/community/otter-cache"), "Deleted")
    fits(server.get("/v2/about"), "About")
    fits(server.get("/v2/health/ping"), "Health")
    fits(server.get("/nix"), "Error")


def test_the_page_needs_nobody_else(server):
    reply = server.get("/docs")
    assert reply.headers["Content-Type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=\"([^\"]*)", reply.text) == ["openapi.json"]
    assert "://" not in reply.text
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


def test_a_body_that_nobody_asked_for_has_a_limit_too(server):
    for method, path in (("DELETE", "/v2/community/etcd"), ("POST", "/v2/community/koji/a-1-1")):
        check(server.ask(method, path, data=b"x" * (2 * LIMIT)), 413, "RequestEntityTooLarge")


def test_every_status_of_a_refused_body_is_in_the_openapi_document():
    for path, operations in openapi.document()["paths"].items():
        for operation in operations.values():
            assert ("413" in operation["responses"]) is ("security" in operation), path
