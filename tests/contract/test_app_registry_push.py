# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushing to a registry: what is final, what passes, and whether the release may exist all the same."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest

from omps_worker.common.errors import QuayCourierError, RegistryError
from omps_worker.destinations.app_registry.client import AppRegistry, PackageListing
from omps_worker.sandbox.app_registry.server import MAX_BODY, SandboxRegistry
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import tar_gz
from tests.support.peer import Conversation, Peer
from tests.support.quay import BLOB, PUSH, Quay
from tests.support.waiting import wait_until


@pytest.fixture
def quay() -> Iterator[Quay]:
    with Quay() as registry:
        yield registry


@pytest.mark.parametrize(
    ("fault", "ambiguous", "stored"),
    [
        (Fault(PUSH, drop=True), True, 0),
        (Fault(PUSH, drop_answer=True), True, 1),
        (Fault(PUSH, truncate=True), True, 1),
        (Fault(PUSH, status=500, body="<title>500</title>"), True, 0),
        (Fault(PUSH, status=502, effect=True, body="<h1>502 Bad Gateway</h1>"), True, 1),
        (Fault(PUSH, status=504, effect=True), True, 1),
        (Fault(PUSH, status=408), True, 0),
        (Fault(PUSH, status=200, body="<title>Sign in</title>"), True, 0),
        (Fault(PUSH, body="<title>Thanks</title>"), True, 1),
        (Fault(PUSH, body={"status": "no"}), True, 1),
        (Fault(PUSH, body=b"null"), True, 1),
        (Fault(PUSH, status=429, body="<h1>Too many requests</h1>"), False, 0),
    ],
    ids=lambda value: f"{value.status} {value.body!r:.30}" if isinstance(value, Fault) else None,
)
def test_trouble_on_the_way_is_passing_and_says_whether_the_release_may_exist(
    quay: Quay, fault: Fault, ambiguous: bool, stored: int
) -> None:
    quay.faults.add(fault)

    with pytest.raises(QuayCourierError, match=r"Failed to push community/etcd 1.0.0: ") as caught:
        quay.push()

    assert caught.value.transient
    assert caught.value.ambiguous is ambiguous
    assert not caught.value.conflict
    assert len(quay.releases("community", "etcd")) == stored
    assert quay.faults.fired(fault) == 1, "a push is never repeated by itself"


@pytest.mark.parametrize("more", [0, 1])
def test_that_a_push_is_too_large_can_be_foreseen_to_the_byte(more: int) -> None:
    bytes_of_push = len(json.dumps({"blob": base64.b64encode(BLOB).decode(), "release": "1.0.0", "media_type": "helm"}))
    with Quay(max_body=bytes_of_push - more) as quay:
        refused = pytest.raises(QuayCourierError, match=f"{len(BLOB)} bytes .* more than")
        with refused if more else nullcontext() as caught:
            quay.client.foresee("community", "etcd", "1.0.0", BLOB)

        assert [asked.method for asked in quay.log] == ["GET"], "it changes nothing"
        assert not caught or not caught.value.transient
        with pytest.raises(QuayCourierError) if more else nullcontext():
            quay.push()


def test_what_is_asked_to_foresee_a_push_leaves_no_connection_for_it() -> None:
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            requests.append(request)
            peer.answer(b'{"cnr-api": "0.2.7"}')

    with Peer(script) as peer:
        client = AppRegistry(peer.url, timeout=20)
        for _ in range(3):
            client.version()
            client.foresee("community", "etcd", "1.0.0", BLOB)
        assert (len(requests), peer.connections) == (6, 4), "one is kept, and not the one that a body came on"


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 403}, {"status": 502}, {"status": 302}], ids=str)
def test_what_cannot_be_foreseen_is_left_to_the_push(quay: Quay, fault: dict[str, Any]) -> None:
    quay.faults.add(Fault("GET /cnr/version", **fault, times=None))
    quay.client.foresee("community", "etcd", "1.0.0", BLOB)


def test_a_push_that_runs_out_of_time_may_still_be_stored_later(quay: Quay) -> None:
    gate = threading.Event()
    quay.faults.add(Fault(PUSH, hold=gate))

    with pytest.raises(QuayCourierError, match=r"within 0.3 seconds") as caught:
        AppRegistry(quay.url, timeout=0.3).push("community", "etcd", "1.0.0", BLOB, quay.robot)

    assert caught.value.ambiguous
    assert quay.releases("community", "etcd") == ()
    gate.set()
    wait_until(lambda: quay.releases("community", "etcd"))


def test_a_registry_that_is_away_has_surely_not_stored_it(quay: Quay) -> None:
    quay.stop()

    with pytest.raises(QuayCourierError, match="cannot be reached") as caught:
        quay.push()

    assert caught.value.transient
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("status", "passing"),
    [(400, False), (413, False), (422, False), (402, True), (404, True), (405, True), (410, True), (415, True)],
)
def test_a_refusal_is_final_only_if_it_is_one_of_the_release(quay: Quay, status: int, passing: bool) -> None:
    quay.faults.add(Fault(PUSH, status=status, body={"error": "No, thank you."}))

    with pytest.raises(QuayCourierError, match=f"answered {status}, No, thank you.") as caught:
        quay.push()

    assert caught.value.transient is passing
    assert not caught.value.ambiguous
    assert caught.value.details == {"quay_response": {"error": "No, thank you."}}


def test_a_blob_that_is_too_large_says_so(quay: Quay) -> None:
    blob = bytes(MAX_BODY)

    with pytest.raises(QuayCourierError, match=f"{MAX_BODY} bytes .* more than the registry.*413") as caught:
        quay.push("1.0.0", blob)

    assert not caught.value.transient
    assert not caught.value.ambiguous


def test_a_redirect_is_not_followed_and_takes_no_credentials_along(quay: Quay) -> None:
    with SandboxRegistry() as other:
        quay.faults.add(Fault(PUSH, status=307, headers={"Location": other.url + "/cnr/api/v1/packages/a/b"}))

        with pytest.raises(QuayCourierError, match="redirects") as caught:
            quay.push()

        assert other.log == []
    assert caught.value.transient
    assert not caught.value.ambiguous


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("headers", [{}, {"Location": "/sign-in/"}], ids=["nowhere", "to a page"])
def test_a_redirect_is_a_fault_of_the_site_whatever_is_asked(quay: Quay, status: int, headers: dict[str, str]) -> None:
    quay.faults.add(Fault("(GET|POST|DELETE) /", status=status, headers=headers, times=None))
    client, robot = quay.client, quay.robot
    asked: list[Callable[[], object]] = [
        quay.look,
        lambda: client.look("community", "etcd", None),
        quay.push,
        quay.publish,
        lambda: client.delete("community", "etcd", "1.0.0", robot),
        client.version,
        client.is_there,
    ]

    told = f"redirects to {quay.url}/sign-in, which is not followed" if headers else f"answered {status}"
    for ask in asked:
        with pytest.raises(RegistryError, match=told) as caught:
            ask()
        assert caught.value.transient, caught.value

    assert not any("sign-in" in request.target for request in quay.log)


def test_a_redirect_that_repeats_a_credential_is_told_without_it(quay: Quay) -> None:
    secret = quay.robot.get_secret_value().partition(" ")[2]
    for place in (f"/{secret}/in", f"http://{secret}.example.com/", f"/in/{quote(secret, safe='')}?{secret}"):
        quay.faults.add(Fault(PUSH, status=302, headers={"Location": place}))
        with pytest.raises(QuayCourierError, match=r"\*\*\*") as caught:
            quay.push()
        assert secret.rstrip("=").lower() not in caught.value.message.lower()


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("0", 0.0), ("999999999", 3600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0), ("soon", None), ("-5", None), ("²", None), ("9" * 5000, 3600.0)],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_the_registry_may_ask_to_be_left_alone_for_a_while(
    quay: Quay, status: int, header: str, expected: float | None
) -> None:
    quay.faults.add(Fault(PUSH, status=status, headers={"Retry-After": header}))

    with pytest.raises(QuayCourierError) as caught:
        quay.push()

    assert caught.value.retry_after == expected


def test_a_refused_first_release_leaves_an_empty_private_repository(quay: Quay) -> None:
    with pytest.raises(QuayCourierError, match=r"Invalid version string: '1.0'"):
        quay.push("1.0")

    assert quay.is_public("community", "etcd") is False
    assert quay.look() == PackageListing(True, ())


def test_of_simultaneous_pushes_one_wins(quay: Quay) -> None:
    outcomes = push_together(quay, 8)

    assert outcomes.count("stored") == 1
    assert outcomes.count("conflict") == 7
    assert len(quay.releases("community", "etcd")) == 1


def test_a_racy_registry_stores_one_version_several_times_and_a_look_shows_it() -> None:
    with Quay(racy=True) as quay:
        quay.push()

        stored = push_together(quay, 4).count("stored")

        assert stored > 1
        assert len(quay.releases("community", "etcd")) == 1 + stored
        seen = [release for release in quay.look().releases if release.version == "2.0.0"]
        assert len(seen) == stored, "each has another content"


def test_one_content_listed_twice_is_one_release(quay: Quay) -> None:
    for _ in range(3):
        quay.add_release("community", "etcd", "1.0.0", BLOB)

    assert len(quay.look().releases) == 1


def push_together(quay: Quay, count: int) -> list[str]:
    start = threading.Barrier(count)

    def push(number: int) -> str:
        start.wait(10)
        try:
            quay.push("2.0.0", tar_gz(str(number)))
        except QuayCourierError as error:
            return "conflict" if error.conflict else "error"
        return "stored"

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(push, range(count)))
