# SPDX-License-Identifier: GPL-3.0-or-later
"""What image registries need of the HTTP client: bytes as bodies, HEAD, and downloads that are led elsewhere."""

from __future__ import annotations

import pytest

from omps_worker.common.http_client.client import HttpClient, HttpFault
from tests.support.peer import Conversation, Peer

LOGIN = {"Authorization": "Basic c2VjcmV0", "Cookie": "secret", "X-Other": "kept"}


def keeping(seen: list[bytes], body: bytes = b"", *headers: str, status: str = "200 OK"):
    """A script that keeps what it is sent, and answers the same to all of it."""

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            seen.append(request)
            peer.answer(b"" if request.startswith(b"HEAD") else body, *headers, status=status)

    return script


def leading_to(seen: list[bytes], target: str):
    return keeping(seen, b"", f"Location: {target}", status="307 Temporary Redirect")


def test_bytes_are_sent_as_they_are() -> None:
    seen: list[bytes] = []
    content = bytes(range(256)) * 100
    with Peer(keeping(seen)) as peer:
        for url in (f"{peer.url}/plain", f"{peer.url}/with?a=query&digest=sha256:abc"):
            HttpClient(timeout=5).request(
                "PUT", url, headers={"Content-Type": "application/octet-stream"}, data=content
            )
    for request in seen:
        head, _, body = request.partition(b"\r\n\r\n")
        assert body == content
        assert b"content-type: application/octet-stream" in head.lower()
        assert b"content-length: 25600" in head.lower()
    assert b"PUT /with?a=query&digest=sha256:abc HTTP/1.1" in seen[1]


def test_an_empty_body_is_one() -> None:
    seen: list[bytes] = []
    with Peer(keeping(seen)) as peer:
        HttpClient(timeout=5).request("PUT", peer.url, data=b"")
    assert b"content-length: 0" in seen[0].lower()


@pytest.mark.parametrize("length", ["10", "99999999999", "x"])
def test_a_head_has_headers_whatever_the_size_that_they_name(length: str) -> None:
    seen: list[bytes] = []

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            seen.append(request)
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Digest: abc\r\n\r\n".encode())

    with Peer(script) as peer:
        client = HttpClient(timeout=5)
        answers = [client.request("HEAD", peer.url, max_bytes=5) for _ in range(3)]
    assert {(each.status, each.headers["x-digest"], each.body) for each in answers} == {(200, "abc", b"")}
    assert seen[0].startswith(b"HEAD ")


def test_a_head_is_sent_again_when_a_kept_connection_is_dead() -> None:
    def once(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(b"")
        peer.read_request()

    with Peer(once, keeping([])) as peer:
        client = HttpClient(timeout=5)
        assert [client.request("HEAD", peer.url).status for _ in range(2)] == [200, 200]


def test_a_download_with_credentials_keeps_them_from_where_it_is_led() -> None:
    asked: list[bytes] = []
    seen: list[bytes] = []
    with Peer(keeping(seen, b"the blob")) as other, Peer(leading_to(asked, f"{other.url}/blob?signature=x")) as peer:
        received = bytearray()
        answer = HttpClient(timeout=5).download(peer.url, received.extend, max_bytes=100, headers=LOGIN, redirects=1)
    assert (answer.status, answer.redirected, bytes(received)) == (200, True, b"the blob")
    assert b"Basic c2VjcmV0" in asked[0]
    assert b"secret" not in seen[0].lower()
    assert b"c2VjcmV0" not in seen[0]
    assert b"x-other: kept" in seen[0].lower()


def test_not_even_the_same_server_gets_them_again() -> None:
    asked: list[bytes] = []

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            asked.append(request)
            if b"GET /elsewhere" in request:
                peer.answer(b"x")
            else:
                peer.answer(b"", "Location: /elsewhere", status="302 Found")

    with Peer(script) as peer:
        HttpClient(timeout=5).download(peer.url, bytearray().extend, max_bytes=9, headers=LOGIN, redirects=1)
    assert b"c2VjcmV0" not in asked[1]


@pytest.mark.parametrize(
    ("redirects", "told"), [(0, "which is not followed"), (1, "more than once"), (2, "more than 2 times")]
)
def test_no_more_redirects_are_followed_than_were_asked_for(redirects: int, told: str) -> None:
    asked: list[bytes] = []
    with Peer(leading_to(asked, "/again")) as peer, pytest.raises(HttpFault, match=told) as caught:
        HttpClient(timeout=5).download(peer.url, bytearray().extend, max_bytes=9, headers=LOGIN, redirects=redirects)
    assert caught.value.kind == "redirect"
    assert len(asked) == redirects + 1


def test_an_answer_that_was_not_led_elsewhere_says_so() -> None:
    with Peer(keeping([], b"x")) as peer:
        client = HttpClient(timeout=5)
        answers = [client.request("GET", peer.url), client.download(peer.url, bytearray().extend, max_bytes=9)]
    assert [each.redirected for each in answers] == [False, False]
