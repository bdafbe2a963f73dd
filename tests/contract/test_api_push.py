# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushing by REST, row by row of what clients of OMPS know; with a real server, Koji and registry."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from omps_worker.common.model import BuildState, OperatorKind
from omps_worker.sandbox import operators
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.http_server import HttpServer, Response
from tests.support.api import api, assert_documented, koji_path, serve, zip_path
from tests.support.waiting import wait_until

FILES = operators.nested_operator("otter-cache")
NESTED = operators.zip_of(FILES)
PUSH = "POST /cnr/api/v1/packages/.*"
LOOK = "GET /cnr/api/v1/packages/.*"
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
    """The module's server, with nothing amiss and an organization that is empty."""
    yield shared
    shared.reset()


def build(server, name="otter-container", manifests=NESTED, **more):
    number = str(len(server.koji._hub.builds))
    return server.koji.add_build(name, "1.0", number, manifests=manifests, **more)["nvr"]


def check(reply, status, error, message="", **extras):
    body = reply.json()
    assert (reply.status_code, body["status"], body["error"]) == (status, status, error), body
    assert message in body["message"]
    assert_documented(reply)
    assert set(body) == {"status", "error", "message", *extras}
    for name, value in extras.items():
        assert value is ... or body[name] == value
    assert_nothing_leaks(reply.text)
    return body


def assert_nothing_leaks(text):
    for secret in ("Traceback", "NoneType", "/tmp", "omps_worker/", "basic "):
        assert secret not in text


@both
def test_an_upload_becomes_a_release(server, v):
    reply = server.push(v, NESTED, "otter-cache")
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.json() == {
        "organization": "community",
        "repo": "otter-cache",
        "version": "1.0.0",
        "extracted_files": sorted(FILES),
    }
    assert server.versions("otter-cache") == ["1.0.0"]


@both
def test_a_build_becomes_a_release(server, v):
    nvr = build(server)
    reply = server.push_build(v, nvr, "otter-cache")
    assert reply.status_code == 200
    assert reply.json() == {
        "organization": "community",
        "repo": "otter-cache",
        "version": "1.0.0",
        "extracted_files": sorted(FILES),
        "nvr": nvr,
    }


@both
def test_a_version_may_be_given(server, v):
    assert server.push(v, NESTED, "otter-cache", "2.5.1").json()["version"] == "2.5.1"
    assert server.push_build(v, build(server), "otter-cache", "2.6.0").json()["version"] == "2.6.0"
    assert server.push(v, NESTED, "otter-cache").json()["version"] == "3.0.0"


def test_without_a_version_the_same_content_is_released_again(server):
    for expected in ("1.0.0", "2.0.0", "3.0.0"):
        assert server.push("v2", NESTED, "otter-cache").json()["version"] == expected
    assert server.push_build("v2", build(server), "otter-cache").json()["version"] == "4.0.0"


@both
def test_a_given_version_that_exists_fails_whatever_its_content(server, v):
    server.push(v, NESTED, "otter-cache", "1.0.0")
    check(server.push(v, NESTED, "otter-cache", "1.0.0"), 500, "QuayCourierError", "Failed to push", quay_response={})
    assert server.versions("otter-cache") == ["1.0.0"]


@both
@pytest.mark.parametrize(
    "version",
    ["1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-rc1", "v1.0.0", "csv", "increment", "{version}", "1.0.0\n", "٣.0.0"],
)
def test_what_is_no_version_is_named(server, v, version):
    reply = server.push(v, NESTED, "otter-cache", version)
    check(reply, 400, "OMPSInvalidVersionFormat", repr(version))
    check(server.push_build(v, build(server), "otter-cache", version), 400, "OMPSInvalidVersionFormat", repr(version))
    assert server.registry.packages() == ()


def test_the_archive_is_looked_at_before_the_version(server):
    check(server.push("v2", b"no zip", "otter-cache", "1"), 400, "OMPSUploadedFileError")
    check(server.push_build("v2", "no-such-1", "otter-cache", "1"), 404, "KojiNVRBuildNotFound")


@both
@pytest.mark.parametrize("path", ["zip", "koji"])
def test_the_authorization_comes_first(server, v, path):
    wanted = zip_path(v, "otter-cache", "no version") if path == "zip" else koji_path(v, "otter-cache", "no-such-build")
    check(server.ask("POST", wanted, token=None), 403, "OMPSAuthorizationHeaderRequired", "Authorization")
    assert server.registry.packages() == ()


@both
def test_the_authorization_is_passed_on_unchanged_and_never_shown(server, v, caplog):
    caplog.set_level("DEBUG")
    wrong = "basic d3Jvbmc6dmVyeSBzZWNyZXQ="
    body = check(
        server.push(v, NESTED, "otter-cache", token=wrong),
        403,
        "QuayAuthorizationError",
        "nauthorized",
        quay_response=...,
    )
    assert body["quay_response"]
    assert "d3Jvbmc6" not in caplog.text + json.dumps(body)
    assert "very secret" not in caplog.text
    server.push(v, NESTED, "otter-cache")
    assert server.token.partition(" ")[2] not in caplog.text


@both
def test_the_repository_of_v1_must_be_the_package(server, v):
    reply = server.push(v, NESTED, "lantern")
    if v == "v1":
        verdict = check(reply, 400, "PackageValidationError", "lantern", validation_info=...)["validation_info"]
        assert verdict["errors"] == [
            "The packageName (otter-cache) in bundle does not match repository name (lantern) provided as command "
            "line argument."
        ]
    else:
        assert reply.json()["repo"] == "otter-cache"


@both
@pytest.mark.parametrize("name", ["manifests.tar.gz", "zip", "manifests.zip.exe"])
def test_an_upload_must_be_called_zip(server, v, name):
    reply = server.upload(zip_path(v, "otter-cache"), NESTED, name)
    check(reply, 400, "OMPSUploadedFileError", ".zip")


@pytest.mark.parametrize("name", ["A.ZIP", "a.Zip", "ünïcode.zip", "with space.zip", '".zip'])
def test_the_extension_may_be_in_any_case(server, name):
    assert server.upload(zip_path("v2", "otter-cache"), NESTED, name).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        (b"filename*=UTF-8''%C3%BCnicode.zip", 200),
        (b"filename*=utf-8'en'a%20b.ZIP", 200),
        (b"FILENAME*=ISO-8859-1''%FCnicode.zip", 200),
        (b"filename=\"unicode\"; filename*=UTF-8''%C3%BCnicode.zip", 200),
        (b"filename*=UTF-8''%C3%BCnicode.zip; filename=\"unicode.tar\"", 200),
        (b"filename*=klingon''a.tar; filename=\"a.zip\"", 200),
        (b"filename*=a.tar; filename=a.zip", 200),
        (b"filename=\"a; filename*=UTF-8''b.tar;.zip\"", 200),
        (b"filename*=UTF-8''%C3%BCnicode.tar", 400),
        (b"filename=a.zip; filename*=UTF-8''a.tar", 400),
        (b"filename*=UTF-8''", 400),
        (b"filename*=klingon''a.zip", 400),
        (b"filename=\"a; filename*=UTF-8''b.zip;\"", 400),
        (b"filename" * 400 + b';a="' * 100, 400),
    ],
)
def test_a_name_may_be_given_as_rfc_5987_has_it(server, parameters, status):
    content = b'--x\r\nContent-Disposition: form-data; name="file"; ' + parameters + b"\r\n\r\n" + NESTED
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = server.ask("POST", zip_path("v2", "otter-cache"), data=content + b"\r\n--x--\r\n", headers=headers)
    assert reply.status_code == status, reply.json()


@both
def test_the_field_must_be_there(server, v):
    path = zip_path(v, "otter-cache")
    for options in (
        {},
        {"files": {"other": ("a.zip", NESTED)}},
        {"data": {"file": "text"}},
        {"json": {"file": "text"}},
        {"data": b"--x\r\nnothing", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"garbage", "headers": {"Content-Type": "multipart/form-data"}},
        {"data": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000}},
        {"files": [(f"field{number}", b"") for number in range(200)]},
    ):
        check(server.ask("POST", path, **options), 400, "OMPSExpectedFileError")
    check(server.ask("POST", path), 400, "OMPSExpectedFileError", 'No field "file"')
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    check(server.ask("POST", path, data=form, headers=headers), 400, "OMPSExpectedFileError", 'No selected "file"')
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nPK'
    check(server.ask("POST", path, data=form, headers=headers), 400, "OMPSExpectedFileError", "cut off")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "File is not a zip file"), (b"text", "File is not a zip file"), (NESTED[:-200], "File is not a zip file")],
)
def test_an_upload_must_be_a_zip(server, content, message):
    check(server.push("v1", content, "otter-cache"), 400, "OMPSUploadedFileError", message)


def test_a_bad_archive_in_koji_is_told_in_the_same_way(server):
    check(server.push_build("v1", build(server, manifests=b"text"), "x"), 400, "OMPSUploadedFileError", "not a zip")


@both
def test_manifests_must_name_their_package(server, v):
    files = {name: text for name, text in FILES.items() if "package" not in name}
    reply = server.push(v, operators.zip_of(files), "otter-cache")
    check(reply, 400, "PackageValidationError", validation_info=...)


def test_couriers_verdict_comes_whole(server):
    files = operators.flat_operator("lantern")
    csv = next(name for name in files if "clusterserviceversion" in name)
    files[csv] = "\n".join(line for line in files[csv].splitlines() if "installModes" not in line)
    body = check(
        server.push("v2", operators.zip_of(files), "lantern"), 400, "PackageValidationError", validation_info=...
    )
    assert body["validation_info"]["errors"] == ["csv spec.installModes not defined"]
    assert "warnings" in body["validation_info"]


@both
def test_an_unknown_build_is_not_found(server, v):
    check(
        server.push_build(v, "no-such-build-1-1", "x"), 404, "KojiNVRBuildNotFound", "NVR not found: no-such-build-1-1"
    )
    check(server.push_build(v, "garbage\x00", "x"), 404, "KojiNVRBuildNotFound", "NVR not found: garbage")


@both
@pytest.mark.parametrize(
    "what",
    [
        {"manifests": None},
        {"manifests": operators.zip_of(operators.bundle_tree()), "kind": OperatorKind.BUNDLE},
        {"manifests": operators.zip_of(operators.bundle_tree()), "subtypes": False},
        {"extra": None},
        {"extra": {"typeinfo": None}},
        {"state": BuildState.FAILED},
        {"state": BuildState.BUILDING},
        {"state": BuildState.DELETED},
    ],
)
def test_what_is_no_operator_image_is_named(server, v, what):
    nvr = build(server, **what)
    check(server.push_build(v, nvr, "x"), 400, "KojiNotAnOperatorImage", f"Not an operator image: {nvr}")


def test_an_archive_that_is_missing_in_koji(server):
    nvr = build(server, metadata_only=True)
    check(server.push_build("v2", nvr, "otter-cache"), 500, "KojiManifestsArchiveNotFound", nvr)


def test_an_archive_that_koji_lists_and_does_not_serve(server):
    nvr = build(server, completed_at=datetime.now(timezone.utc) - timedelta(hours=1))
    server.koji.faults.add(Fault("GET .*zip", status=404))
    assert server.push_build("v2", nvr, "otter-cache").status_code == 200
    server.koji.faults.add(Fault("GET .*zip", status=404, times=None))
    check(server.push_build("v2", nvr, "otter-cache"), 500, "KojiError", server.koji.root_url)


@both
def test_a_draft_is_named_as_what_it_is(server, v):
    nvr = build(server, draft=True)
    check(server.push_build(v, nvr, "x"), 400, "KojiNotAnOperatorImage", f"{nvr} is a draft build")
    promoted = server.koji.promote(nvr)["nvr"]
    assert server.push_build("v2", promoted, "otter-cache").json()["nvr"] == promoted


@pytest.mark.parametrize("outage", ["offline", "lockout", "database"])
def test_a_koji_that_does_not_work_is_asked_again_and_then_told(server, outage):
    nvr = build(server)
    server.koji.fail_calls(outage)
    check(server.push_build("v2", nvr, "otter-cache"), 500, "KojiError")
    server.koji.fail_calls("offline", 1)
    assert server.push_build("v2", nvr, "otter-cache").status_code == 200


def test_a_download_that_fails_is_made_again_and_then_told(server):
    nvr = build(server)
    server.koji.faults.add(Fault("GET .*zip", status=503))
    assert server.push_build("v2", nvr, "otter-cache").status_code == 200
    server.koji.faults.add(Fault("GET .*zip", drop=True, times=None))
    check(server.push_build("v2", nvr, "otter-cache"), 500, "KojiError")


def test_a_registry_that_refuses(server):
    server.registry.faults.add(Fault(PUSH, status=422, body={"error": {"message": "Nope"}}))
    body = check(server.push("v2", NESTED, "otter-cache"), 500, "QuayCourierError", "Nope", quay_response=...)
    assert body["quay_response"] == {"error": {"message": "Nope"}}
    server.registry.faults.add(Fault(LOOK, status=500, times=None))
    check(server.push("v2", NESTED, "otter-cache"), 500, "QuayPackageError")


def test_an_answer_of_the_registry_that_is_lost_makes_no_second_release(server):
    server.registry.faults.add(Fault(PUSH, drop_answer=True))
    reply = server.push("v2", NESTED, "otter-cache")
    assert (reply.status_code, reply.json()["version"]) == (200, "1.0.0")
    assert server.versions("otter-cache") == ["1.0.0"]


def test_an_exception_that_nobody_thought_of_is_told_in_the_log_alone(server, caplog, monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("deep inside /secret/path")

    monkeypatch.setattr(server.site.service, "push_archive", broken)
    reply = server.push("v2", NESTED, "otter-cache")
    check(reply, 500, "UnexpectedError")
    assert "secret/path" not in reply.text
    assert "deep inside" in caplog.text


def test_eight_pushes_at_once_become_eight_consecutive_releases(server):
    contents = [
        operators.zip_of(operators.nested_operator("otter-cache", versions=(f"1.0.{number}",))) for number in range(8)
    ]
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda content: server.push("v2", content, "otter-cache"), contents))
    assert {reply.status_code for reply in replies} == {200}
    expected = [f"{number}.0.0" for number in range(1, 9)]
    assert sorted(reply.json()["version"] for reply in replies) == expected
    assert server.versions("otter-cache") == expected


def test_two_processes_take_turns(tmp_path):
    """Two services that share nothing but the directory with the locks."""
    with SandboxKoji() as koji, SandboxRegistry(racy=True) as registry:
        registry.add_organization("community")
        token = registry.add_robot("community")
        with (
            serve(tmp_path, koji, registry, token) as one,
            serve(tmp_path, koji, registry, token) as two,
            ThreadPoolExecutor(8) as threads,
        ):
            replies = list(
                threads.map(lambda number: (one, two)[number % 2].push("v2", NESTED, "otter-cache"), range(8))
            )
        assert {reply.status_code for reply in replies} == {200}
        assert one.versions("otter-cache") == [f"{number}.0.0" for number in range(1, 9)]


def test_who_wants_no_duplicates_gets_none(tmp_path):
    with api(tmp_path, api={"deduplicate": True}) as server:
        for _ in range(2):
            assert server.push("v2", NESTED, "otter-cache").json()["version"] == "1.0.0"
        assert server.push("v2", NESTED, "otter-cache", "5.0.0").json()["version"] == "5.0.0"
        assert server.versions("otter-cache") == ["1.0.0", "5.0.0"]


def test_when_only_publishing_failed_the_reply_names_the_release_and_a_retry_only_publishes(tmp_path):
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        registry.add_organization("community")
        token, oauth = registry.add_robot("community"), registry.add_oauth_token("community")
        organization = {"public": True, "oauth_token": oauth}
        with serve(tmp_path, koji, registry, token, organizations={"community": organization}) as server:
            registry.faults.add(Fault("POST .*/changevisibility", status=503))
            reply = server.push("v2", NESTED, "otter-cache")
            check(reply, 500, "QuayPackageError", "Release 1.0.0 of community/otter-cache exists")
            assert server.push("v2", NESTED, "otter-cache").json()["version"] == "1.0.0"
            assert registry.is_public("community", "otter-cache")
            assert server.versions("otter-cache") == ["1.0.0"]


@pytest.fixture
def gated(tmp_path):
    """A service that asks a Greenwave, which says what ``decision`` holds."""
    decision = {"status": 200, "body": {"policies_satisfied": True}}
    asked = []

    def answer(request):
        asked.append(request)
        if request.method == "GET":
            return Response.json({"version": "1.9"})
        return Response(decision["status"], json.dumps(decision["body"]).encode(), "application/json")

    with HttpServer(answer) as greenwave:
        wanted = {"url": greenwave.url, "context": "omps", "product_version": "example-4"}
        with api(tmp_path, greenwave=wanted) as server:
            yield server, decision, asked


def test_greenwave_is_asked_about_builds_after_the_download_and_never_about_uploads(gated):
    server, decision, asked = gated
    assert server.push("v2", NESTED, "otter-cache").status_code == 200
    assert asked == []
    nvr = build(server)
    assert server.push_build("v2", nvr, "otter-cache").status_code == 200
    assert asked[-1].json()["subject_identifier"] == nvr
    decision["body"] = {"policies_satisfied": False, "summary": "1 of 2 tests failed"}
    check(
        server.push_build("v2", nvr, "otter-cache"),
        400,
        "GreenwaveUnsatisfiedError",
        "1 of 2 tests failed",
        greenwave_response=decision["body"],
    )
    decision.update(status=503, body={"message": "busy"})
    check(server.push_build("v2", nvr, "x"), 500, "GreenwaveError", greenwave_response={"message": "busy"})
    count = len(asked)
    check(server.push_build("v2", build(server, metadata_only=True), "x"), 500, "KojiManifestsArchiveNotFound")
    assert len(asked) == count
    assert server.get("/v1/health/ping").json()["services"]["greenwave"] == {"ok": True, "details": "It works!"}


def test_what_a_configured_organization_wants_changed_is_changed(tmp_path):
    with api(tmp_path, organizations={"community": {"package_name_suffix": "-internal"}}) as server:
        assert server.push("v2", NESTED, "otter-cache").json()["repo"] == "otter-cache-internal"
        check(server.push("v1", NESTED, "otter-cache"), 400, "PackageValidationError", "internal", validation_info=...)
        assert server.push("v1", NESTED, "otter-cache-internal").json()["version"] == "2.0.0"
        assert server.registry.packages() == (("community", "otter-cache-internal"),)


MAPPING = "version: 1\nhold: ['otter-cache-container-1.0-1']\npause: [frozen]\nrules: []\n"


@pytest.fixture
def mapped(tmp_path):
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    with api(tmp_path) as server:
        yield server


@both
def test_a_build_that_the_mapping_holds_is_not_published(mapped, v):
    for release in ("1", "2"):
        mapped.koji.add_build("otter-cache-container", "1.0", release, manifests=NESTED)
    check(mapped.push_build(v, "otter-cache-container-1.0-1", "otter-cache"), 409, "BuildHeld", "otter-cache-container")
    assert mapped.versions("otter-cache") == []
    assert mapped.push_build(v, "otter-cache-container-1.0-2", "otter-cache").status_code == 200


def test_an_organization_that_the_mapping_pauses_waits_until_the_key_goes(mapped, tmp_path):
    path = "/v2/frozen/zipfile"
    reply = mapped.upload(path, NESTED)
    check(reply, 503, "OrganizationPaused", "frozen is paused")
    assert "Nothing was done: try again" in reply.json()["message"], "nothing of a request waits"
    assert int(reply.headers["Retry-After"]) == 300
    assert mapped.push("v2", NESTED, "otter-cache").status_code == 200, "another one is not"
    (tmp_path / "mapping.yaml").write_text(MAPPING.replace("[frozen]", "[]"))
    wait_until(lambda: mapped.upload(path, NESTED).status_code != 503, 20, "the edit to be noticed")
