# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at packages of a registry with credentials, privacy and a proxy in front, as Quay is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from omps_worker.common.errors import QuayAuthorizationError, QuayCourierError, QuayPackageError
from omps_worker.destinations.app_registry.client import AppRegistry, PackageListing
from omps_worker.destinations.app_registry.credential_checks import check_organization
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import digest_of
from tests.support.quay import BLOB, LOOK, Quay

WRONG = SecretStr("basic " + base64.b64encode(b"community+push:wrong").decode())


@pytest.fixture
def quay() -> Iterator[Quay]:
    with Quay() as registry:
        yield registry


def test_a_robot_pushes_and_sees_what_it_pushed(quay: Quay) -> None:
    quay.push()

    assert quay.look().releases[0].digest == digest_of(BLOB)
    assert quay.is_public("community", "etcd") is False


@pytest.mark.parametrize("authorization", [WRONG, SecretStr("nonsense"), SecretStr("Bearer x"), None])
def test_a_wrong_credential_may_not_push(quay: Quay, authorization: SecretStr | None) -> None:
    with pytest.raises(QuayAuthorizationError, match="Unauthorized access for: community/etcd") as caught:
        quay.client.push("community", "etcd", "1.0.0", BLOB, authorization)

    assert caught.value.details["quay_response"]["error"]["code"] == "forbidden"
    assert caught.value.transient
    assert quay.packages() == ()


@pytest.mark.parametrize("authorization", ["basic é", "basic \x9b\xff", "Bearer é", "é"])
def test_a_credential_that_is_not_ascii_is_nobodys(quay: Quay, authorization: str) -> None:
    quay.push()
    headers = {"Authorization": authorization.encode("latin-1")}
    answers = [
        requests.get(f"{quay.url}/cnr/api/v1/packages/community/etcd", headers=headers, timeout=10),
        requests.post(f"{quay.url}/cnr/api/v1/packages/community/etcd", headers=headers, json={}, timeout=10),
        requests.post(
            f"{quay.url}/api/v1/repository/community/etcd/changevisibility", headers=headers, json={}, timeout=10
        ),
    ]
    assert [answer.status_code for answer in answers] == [
        requests.request(answer.request.method or "", answer.url, json={}, timeout=10).status_code for answer in answers
    ]
    assert all(answer.status_code < 500 for answer in answers)


def test_a_password_that_is_no_text_is_a_wrong_one(quay: Quay) -> None:
    user = {"user": {"username": "community+push", "password": "\ud800"}}
    assert requests.post(f"{quay.url}/cnr/api/v1/users/login", json=user, timeout=10).status_code == 401


def test_a_wrong_credential_sees_neither_that_a_private_package_exists_nor_that_it_is_missing(quay: Quay) -> None:
    quay.push()

    assert quay.client.look("community", "etcd", WRONG) == PackageListing(None)
    assert quay.client.look("community", "missing", WRONG) == PackageListing(None)


def test_only_those_with_rights_on_the_namespace_learn_that_a_package_is_missing(quay: Quay) -> None:
    admin = SecretStr(quay.add_robot("community", "admin", role="admin"))

    assert quay.client.look("community", "missing", admin) == PackageListing(False)
    assert quay.client.look("community", "missing", quay.robot) == PackageListing(None)


def test_everybody_sees_a_public_package(quay: Quay) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB, public=True)

    assert [release.version for release in quay.client.look("community", "etcd", None).releases] == ["1.0.0"]


def test_a_login_tells_right_from_wrong(quay: Quay) -> None:
    assert quay.client.check_credentials(quay.robot).accepted is True
    wrong = quay.client.check_credentials(WRONG)
    assert wrong.accepted is False
    assert wrong.detail == "Invalid Username or Password"


@pytest.mark.parametrize("value", ["nonsense", "Bearer abcdefgh", "basic", "basic !!!", "basic dXNlcg=="])
def test_what_is_no_basic_credential_is_not_even_sent(quay: Quay, value: str) -> None:
    verdict = quay.client.check_credentials(SecretStr(value))

    assert verdict.accepted is False
    assert "is not of the form" in verdict.detail
    assert quay.log == []


@pytest.mark.parametrize("login", [200, 404])
def test_a_refused_query_is_a_lasting_failure_of_the_check_whatever_the_login_says(quay: Quay, login: int) -> None:
    organization: Any = SimpleNamespace(authorization=lambda: quay.robot)
    if login == 404:
        quay.faults.add(Fault("POST /cnr/api/v1/users/login", status=404))
    quay.faults.add(Fault(LOOK, status=401, body={"error": {"message": "no"}}))
    with pytest.raises(QuayAuthorizationError) as caught:
        check_organization(quay.client, "community", organization)

    assert not caught.value.transient


def test_a_registry_that_is_tired_of_logins_does_not_tell(quay: Quay) -> None:
    quay.faults.add(Fault("POST /cnr/api/v1/users/login", status=429, body="<h1>Too many</h1>"))

    assert quay.client.check_credentials(quay.robot).accepted is None


@pytest.mark.parametrize("fault", [Fault("POST", status=500), Fault("POST", drop=True)])
def test_a_registry_in_trouble_is_no_verdict_on_a_credential(quay: Quay, fault: Fault) -> None:
    quay.faults.add(fault)

    with pytest.raises(QuayPackageError, match="Failed to log in") as caught:
        quay.client.check_credentials(quay.robot)

    assert caught.value.transient


def test_a_package_beyond_the_cap_of_the_namespace_listing_is_found(quay: Quay) -> None:
    for number in range(101):
        quay.add_release("community", f"package{number}", "1.0.0", BLOB)
    headers = {"Authorization": quay.robot.get_secret_value()}
    listing = requests.get(f"{quay.url}/cnr/api/v1/packages?namespace=community", headers=headers, timeout=10)

    assert [entry["name"] for entry in listing.json()] == [f"community/package{n}" for n in range(100)]
    assert quay.client.look("community", "package100", quay.robot).exists


def test_an_image_repository_is_no_place_for_a_package(quay: Quay) -> None:
    quay.add_image_repository("community", "etcd")

    with pytest.raises(QuayPackageError, match="image repository with the same name") as looked:
        quay.look()
    with pytest.raises(QuayCourierError, match="image repository with the same name") as pushed:
        quay.push()

    for error in (looked.value, pushed.value):
        assert error.transient, "somebody may rename it"
        assert error.details["quay_response"]["error"].startswith("Cannot push an application")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(LOOK, status=500, body="<title>500 Internal Server Error</title>"),
        Fault(LOOK, status=503),
        Fault(LOOK, status=429, body="<html>slow down</html>"),
        Fault(LOOK, status=408),
        Fault(LOOK, drop=True, times=2),
        Fault(LOOK, truncate=True, times=2),
        Fault(LOOK, status=404, body="<title>404 Not Found</title>nginx"),
        Fault(LOOK, body="<html><title>Sign in</title></html>"),
        Fault(LOOK, body=b""),
        Fault(LOOK, body={"releases": []}),
        Fault(LOOK, body=["1.0.0", None, {}]),
        Fault(LOOK, body=b"[" * 100_000),
        Fault(LOOK, body=b'[{"release": "1.0.0", "content": ' + b"[" * 900 + b"]" * 900 + b"}"),
    ],
)
def test_what_is_no_answer_may_be_one_later(quay: Quay, fault: Fault) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB)
    quay.faults.add(fault)

    with pytest.raises(QuayPackageError, match="Failed to look at community/etcd: ") as caught:
        quay.look()

    assert caught.value.transient
    assert len(caught.value.message) < 1000
    assert "<" not in caught.value.message
    quay.faults.clear()
    assert quay.look().exists


def test_a_registry_that_is_away_may_come_back(quay: Quay) -> None:
    quay.stop()
    with pytest.raises(QuayPackageError, match="cannot be reached") as caught:
        quay.look()
    assert caught.value.transient

    quay.start()
    assert quay.look().exists is None


@pytest.mark.parametrize("fault", [Fault(LOOK, delay=60), Fault(LOOK, drip=0.05)])
def test_a_slow_registry_costs_no_more_than_the_time_out(quay: Quay, fault: Fault) -> None:
    quay.faults.add(fault)

    with pytest.raises(QuayPackageError, match=r"within 0.3 seconds") as caught:
        AppRegistry(quay.url, timeout=0.3).look("community", "etcd", quay.robot)

    assert caught.value.transient


def test_an_endless_answer_is_cut_off(quay: Quay) -> None:
    quay.faults.add(Fault(LOOK, status=200, body=b"[" + b" " * 100_000_000 + b"]"))

    with pytest.raises(QuayPackageError, match="more than") as caught:
        quay.look()

    assert caught.value.transient


def test_unreadable_entries_do_not_hide_the_others(quay: Quay) -> None:
    good = {"release": "1.0.0", "content": {"digest": "a" * 64}, "created_at": "2026-11-21T01:58:28"}
    bad: list[object] = [
        None,
        1,
        "2.0.0",
        [],
        {},
        {"release": 3},
        {"release": None},
        {"release": ""},
        {"release": "x\n"},
    ]
    quay.faults.add(Fault(LOOK, status=200, body=[*bad, good, *bad]))

    releases = quay.look().releases

    assert [(release.version, release.digest) for release in releases] == [("1.0.0", "a" * 64)]


@pytest.mark.parametrize("digest", [None, 5, "", "a" * 63, "g" * 64, ["a" * 64], "md5:" + "a" * 64, "a" * 64 + "\n"])
def test_a_digest_that_is_none_is_no_reason_to_lose_the_version(quay: Quay, digest: object) -> None:
    quay.faults.add(Fault(LOOK, status=200, body=[{"release": "1.0.0", "content": {"digest": digest}}]))

    assert [(r.version, r.digest) for r in quay.look().releases] == [("1.0.0", None)]


def test_what_is_no_app_registry_is_named_so(quay: Quay) -> None:
    quay.faults.add(Fault("GET /cnr/version", body="<title>Welcome to nginx!</title>"))
    with pytest.raises(QuayPackageError, match=r"this is not an app registry.*Welcome to nginx!"):
        quay.client.version()

    quay.faults.add(Fault("GET /cnr/version", status=503))
    with pytest.raises(QuayPackageError, match="answered 503") as caught:
        quay.client.version()
    assert caught.value.transient


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_a_registry_that_says_anything_at_all_is_there(quay: Quay, status: int) -> None:
    quay.faults.add(Fault("GET /cnr/version", status=status, body="<title>Nothing here</title>"))

    quay.client.is_there()


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"drop": True}])
def test_a_registry_in_trouble_is_not_there(quay: Quay, fault: dict[str, object]) -> None:
    quay.faults.add(Fault("GET /cnr/version", times=None, **fault))

    with pytest.raises(QuayPackageError, match="Failed to reach the registry"):
        quay.client.is_there()


def test_appr_names_itself_differently(quay: Quay) -> None:
    quay.faults.add(Fault("GET /cnr/version", body={"appr-api": "0.7.4"}))

    assert quay.client.version() == "appr-api 0.7.4"


def test_a_slash_at_the_end_of_the_address_does_no_harm(quay: Quay) -> None:
    AppRegistry(quay.url + "/", timeout=20)

    assert quay.client.url == quay.url
    assert quay.client.version() == "cnr-api 0.2.7"
