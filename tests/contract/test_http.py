# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP client against peers that behave badly, on real sockets."""

from __future__ import annotations

import gzip
import io
import json
import random
import threading
import time
from pathlib import Path

import pytest

from omps_worker.common.http_client.client import Answer, HttpClient, HttpFault, deadline
from omps_worker.common.http_client.session import new_session
from tests.support.certificates import self_signed
from tests.support.peer import Conversation, Peer, closed_port, deaf_port
from tests.support.waiting import wait_until

SHORT = 0.4
"""A deadline in seconds for peers that never finish."""


def fault_when(client: HttpClient, method: str, url: str, **options: object) -> HttpFault:
    with pytest.raises(HttpFault) as caught:
        client.request(method, url, **options)  # type: ignore[arg-type]
    return caught.value


def serves(*answers: bytes):
    """A script that answers the requests of one connection, one after the other."""

    def script(peer: Conversation) -> None:
        for answer in answers:
            if not peer.read_request():
                return
            peer.answer(answer)
        peer.wait()

    return script


def silent(peer: Conversation) -> None:
    peer.read_request()
    peer.wait()


def mute(peer: Conversation) -> None:
    peer.wait()


def test_an_answer_has_status_headers_and_body() -> None:
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(b'{"status": "no"}', "X-Thing: 1", status="422 Unprocessable")

    with Peer(script) as peer:
        answer = HttpClient(timeout=5).request("GET", peer.url)
    assert (answer.status, answer.headers["x-thing"], answer.json()) == (422, "1", {"status": "no"})


def test_a_json_body_and_headers_are_sent() -> None:
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        requests.append(peer.read_request())
        peer.answer(b"{}")

    with Peer(script) as peer:
        HttpClient(timeout=5).request("POST", peer.url, headers={"Authorization": "basic eA=="}, json={"a": "é"})
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"a": "é"}
    assert b"authorization: basic ea==" in head.lower()
    assert b"content-type: application/json" in head.lower()


def test_connections_are_kept_and_used_again() -> None:
    with Peer(serves(b"1", b"2", b"3")) as peer:
        client = HttpClient(timeout=5)
        bodies = [client.request("GET", peer.url).body for _ in range(3)]
        assert (bodies, peer.connections) == ([b"1", b"2", b"3"], 1)


def test_threads_share_no_connection() -> None:
    with Peer(serves(b"x", b"x")) as peer:
        client = HttpClient(timeout=5)
        client.request("GET", peer.url)
        thread = threading.Thread(target=client.request, args=("GET", peer.url))
        thread.start()
        thread.join()
        assert peer.connections == 2


def drips_its_headers(peer: Conversation) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n")
    peer.drip(b"X-Slow: yes\r\n" * 40, 0.02)


def drips_its_body(peer: Conversation) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(b"x" * 500, 0.02)


def drips_a_body_of_unknown_length(peer: Conversation) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    peer.drip(b"x" * 500, 0.02)


def drips_chunks(peer: Conversation) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"1\r\nx\r\n" * 80, 0.02)


def continues_for_ever(peer: Conversation) -> None:
    peer.read_request()
    for _ in range(500):
        if not peer.stopping.wait(0.02):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "script",
    [silent, drips_its_headers, drips_its_body, drips_a_body_of_unknown_length, drips_chunks, continues_for_ever],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_peer_can_make_a_call_exceed_its_deadline(script, method: str) -> None:
    with Peer(script) as peer:
        started = time.monotonic()
        fault = fault_when(HttpClient(timeout=SHORT), method, peer.url)
        assert (fault.kind, fault.sent) == ("timeout", True)
        assert SHORT * 0.9 < time.monotonic() - started < SHORT + 2
        assert "did not finish its answer within 0.4 seconds" in str(fault)


def test_a_dripping_download_ends_at_its_deadline() -> None:
    with Peer(drips_its_body) as peer:
        received = bytearray()
        with pytest.raises(HttpFault) as caught:
            HttpClient(timeout=30).download(peer.url, received.extend, max_bytes=10**6, timeout=SHORT)
        assert caught.value.kind == "timeout"
        assert len(received) < 100


def test_a_peer_that_takes_no_request_body_ends_at_the_deadline() -> None:
    with Peer(mute) as peer:
        fault = fault_when(HttpClient(timeout=SHORT), "POST", peer.url, json="x" * 20_000_000)
        assert (fault.kind, fault.sent) == ("timeout", True)


def test_a_kept_connection_is_watched_again() -> None:
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(b"quick")
        drips_its_body(peer)

    with Peer(script) as peer:
        client = HttpClient(timeout=5)
        client.request("GET", peer.url)
        started = time.monotonic()
        fault = fault_when(client, "POST", peer.url, timeout=SHORT)
        assert (fault.kind, peer.connections) == ("timeout", 1)
        assert time.monotonic() - started < SHORT + 2


def test_an_outer_deadline_is_never_exceeded() -> None:
    with Peer(drips_its_body) as peer, deadline(SHORT):
        started = time.monotonic()
        fault = fault_when(HttpClient(timeout=30), "GET", peer.url)
        assert fault.kind == "timeout"
        assert time.monotonic() - started < SHORT + 2


def test_a_connection_after_a_missed_deadline_is_a_new_one() -> None:
    with Peer(silent, serves(b"fine")) as peer:
        client = HttpClient(timeout=SHORT)
        fault_when(client, "GET", peer.url)
        assert client.request("GET", peer.url, timeout=5).body == b"fine"


def test_connecting_that_hangs_ends_at_the_deadline_and_nothing_was_sent() -> None:
    with deaf_port() as port:
        fault = fault_when(HttpClient(timeout=SHORT), "POST", f"http://127.0.0.1:{port}/")
    assert (fault.kind, fault.sent) == ("timeout", False)
    assert "could not be reached" in str(fault)


def test_a_refused_port_received_nothing() -> None:
    with closed_port() as port:
        fault = fault_when(HttpClient(timeout=5), "POST", f"http://127.0.0.1:{port}/")
    assert (fault.kind, fault.sent) == ("connection", False)
    assert str(fault) == f"http://127.0.0.1:{port} cannot be reached: Connection refused."


def test_a_name_that_does_not_exist_received_nothing() -> None:
    fault = fault_when(HttpClient(timeout=10), "POST", "http://nobody.invalid/")
    assert (fault.kind, fault.sent) == ("connection", False)


def test_an_untrusted_certificate_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    _, context = self_signed(tmp_path)
    requests: list[bytes] = []
    with Peer(lambda peer: requests.append(peer.read_request()), tls=context) as peer:
        fault = fault_when(HttpClient(timeout=5), "POST", peer.url, headers={"Authorization": "basic secret"})
    assert (fault.kind, fault.sent) == ("tls", False)
    assert "self-signed" in str(fault).replace("self signed", "self-signed")
    assert requests == []


def test_a_certificate_of_the_bundle_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted, context = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    with Peer(serves(b"1", b"2"), tls=context) as peer:
        client = HttpClient(timeout=5, ca_bundle=trusted)
        assert [client.request("GET", peer.url).body for _ in range(2)] == [b"1", b"2"]
        assert peer.connections == 1


def test_a_renewed_bundle_is_used_for_the_next_connection(tmp_path: Path) -> None:
    trusted, context = self_signed(tmp_path)
    client = HttpClient(timeout=5, ca_bundle=trusted)
    with Peer(serves(b"1"), tls=context) as peer:
        assert client.request("GET", peer.url).body == b"1"
    renewed, context = self_signed(tmp_path)
    good = renewed.read_bytes()
    with Peer(serves(b"2"), tls=context) as peer:
        renewed.write_bytes(good[: len(good) // 2])
        fault = fault_when(client, "GET", peer.url)
        assert (fault.kind, fault.sent) == ("tls", False)
        assert "certificate.pem" in str(fault)
        renewed.unlink()
        assert fault_when(client, "GET", peer.url).kind == "tls"
        renewed.write_bytes(good)
        assert client.request("GET", peer.url).body == b"2"


def test_a_renewed_directory_of_certificates_is_used_for_the_next_connection(tmp_path: Path) -> None:
    directory = tmp_path / "trusted"
    directory.mkdir()
    client = HttpClient(timeout=5, ca_bundle=directory)
    for body in (b"1", b"2"):
        trusted, context = self_signed(tmp_path)
        fresh = directory / "fresh"
        fresh.write_bytes(trusted.read_bytes())
        fresh.replace(directory / "2101a20a.0")
        with Peer(serves(body), tls=context) as peer:
            assert client.request("GET", peer.url).body == body


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    trusted, context = self_signed(tmp_path, "127.0.0.2")
    with Peer(serves(b"1"), tls=context) as peer:
        fault = fault_when(HttpClient(timeout=5, ca_bundle=trusted), "GET", peer.url)
    assert (fault.kind, fault.sent) == ("tls", False)
    assert str(fault).endswith("is not valid for '127.0.0.1'."), (
        "one full stop: the sentence that is quoted has its own"
    )


def test_a_silent_tls_handshake_ends_at_the_deadline_and_nothing_was_sent() -> None:
    with Peer(mute) as peer:
        fault = fault_when(HttpClient(timeout=SHORT), "POST", peer.url.replace("http", "https"))
    assert (fault.kind, fault.sent) == ("timeout", False)


def test_a_dripping_answer_over_tls_ends_at_the_deadline(tmp_path: Path) -> None:
    trusted, context = self_signed(tmp_path)
    with Peer(drips_its_body, tls=context) as peer:
        fault = fault_when(HttpClient(timeout=SHORT, ca_bundle=trusted), "GET", peer.url)
    assert (fault.kind, fault.sent) == ("timeout", True)


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificate")
    fault = fault_when(HttpClient(timeout=5, ca_bundle=bundle), "GET", "https://127.0.0.1:1/")
    assert (fault.kind, fault.sent) == ("tls", False)
    assert "bundle.pem" in str(fault)


def of_unknown_length(body: bytes, *headers: bytes):
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.send(b"\r\n".join([b"HTTP/1.1 200 OK", b"Connection: close", *headers, b"", b""]) + body)

    return script


@pytest.mark.parametrize(
    "script",
    [
        serves(b"x" * 1001),
        of_unknown_length(b"x" * 1001),
        of_unknown_length(b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
        of_unknown_length(gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip"),
    ],
    ids=["announced", "unknown", "chunked", "gzip"],
)
def test_an_answer_larger_than_allowed_is_cut_off(script) -> None:
    with Peer(script) as peer:
        fault = fault_when(HttpClient(timeout=20), "GET", peer.url, max_bytes=1000)
        assert (fault.kind, fault.sent) == ("too_large", True)


def test_a_download_larger_than_allowed_gives_the_sink_no_more_than_that() -> None:
    with Peer(of_unknown_length(b"x" * 1_000_000)) as peer:
        received = bytearray()
        with pytest.raises(HttpFault) as caught:
            HttpClient(timeout=20).download(peer.url, received.extend, max_bytes=100_000)
        assert caught.value.kind == "too_large"
        assert len(received) <= 100_000


def test_an_answer_that_is_exactly_as_large_as_allowed_is_read() -> None:
    with Peer(serves(b"x" * 1000)) as peer:
        assert len(HttpClient(timeout=5).request("GET", peer.url, max_bytes=1000).body) == 1000


def test_a_compressed_answer_is_read_although_nobody_asked_for_it() -> None:
    body = gzip.compress(b'{"a": 1}')
    with Peer(of_unknown_length(body, b"Content-Encoding: gzip")) as peer:
        assert HttpClient(timeout=5).request("GET", peer.url).json() == {"a": 1}


def test_a_large_compressed_answer_is_read_whole() -> None:
    content = random.Random(7).randbytes(300_000) + bytes(300_000)
    with Peer(of_unknown_length(gzip.compress(content), b"Content-Encoding: gzip")) as peer:
        assert HttpClient(timeout=5).request("GET", peer.url).body == content


def test_a_compressed_download_unfolds_piece_by_piece() -> None:
    pieces: list[int] = []
    with Peer(of_unknown_length(gzip.compress(bytes(5_000_000)), b"Content-Encoding: gzip")) as peer:
        HttpClient(timeout=5).download(peer.url, lambda piece: pieces.append(len(piece)), max_bytes=5_000_000)
    assert sum(pieces) == 5_000_000
    assert max(pieces) <= 64 * 1024


def test_an_empty_answer_may_call_itself_compressed() -> None:
    with Peer(of_unknown_length(b"", b"Content-Encoding: gzip", b"Content-Length: 0")) as peer:
        assert HttpClient(timeout=5).request("GET", peer.url).body == b""


def test_what_follows_a_compressed_answer_is_not_waited_for() -> None:
    def script(peer: Conversation) -> None:
        of_unknown_length(gzip.compress(b"done") + bytes(100_000), b"Content-Encoding: gzip")(peer)
        peer.wait()

    with Peer(script) as peer:
        assert HttpClient(timeout=5).request("GET", peer.url).body == b"done"


@pytest.mark.parametrize("body", [gzip.compress(b"x" * 100)[:-10], b"no gzip at all"], ids=["cut", "none"])
def test_a_broken_compressed_answer_is_a_broken_answer(body: bytes) -> None:
    with Peer(of_unknown_length(body, b"Content-Encoding: gzip")) as peer:
        fault = fault_when(HttpClient(timeout=5), "GET", peer.url)
    assert (fault.kind, fault.sent) == ("connection", True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 2",
        b"\x16\x03\x01\x00\x00",
        b"",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_is_broken_off_is_no_answer(answer: bytes, method: str) -> None:
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.send(answer)

    with Peer(script) as peer:
        fault = fault_when(HttpClient(timeout=5), method, peer.url)
        assert (fault.kind, fault.sent) == ("connection", True)
        assert peer.connections == 1


def leaves_after_one_answer_when(told: threading.Event):
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(b"first")
        if not told.is_set():
            # Takes the next request, and dies without a word: what a close in flight looks like.
            peer.read_request()

    return script


def test_a_dead_kept_connection_is_no_fault_of_a_get() -> None:
    with Peer(leaves_after_one_answer_when(threading.Event()), serves(b"second")) as peer:
        client = HttpClient(timeout=5)
        assert client.request("GET", peer.url).body == b"first"
        assert client.request("GET", peer.url).body == b"second"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_changes_something_is_never_sent_twice(method: str) -> None:
    with Peer(leaves_after_one_answer_when(threading.Event()), serves(b"second")) as peer:
        client = HttpClient(timeout=5)
        assert client.request("GET", peer.url).body == b"first"
        fault = fault_when(client, method, peer.url)
        assert (fault.kind, fault.sent, peer.connections) == ("connection", True, 1)


def test_a_connection_that_the_peer_closed_meanwhile_is_not_used_again() -> None:
    told, gone = threading.Event(), threading.Event()
    told.set()

    def first(peer: Conversation) -> None:
        leaves_after_one_answer_when(told)(peer)
        peer.connection.close()
        gone.set()

    with Peer(first, serves(b"second")) as peer:
        client = HttpClient(timeout=5)
        client.request("GET", peer.url)
        wait_until(gone.is_set)
        assert client.request("POST", peer.url).body == b"second"


def redirects_to(url: str, status: str = "302 Found"):
    def script(peer: Conversation) -> None:
        while peer.read_request():
            peer.answer(b"", f"Location: {url}", status=status)

    return script


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", {}), ("DELETE", {}), ("GET", {"Authorization": "basic secret"}), ("GET", {"authorization": "x"})],
)
def test_credentials_and_changes_follow_no_redirect(status: str, method: str, headers: dict[str, str]) -> None:
    with Peer(serves(b"stolen")) as other, Peer(redirects_to(other.url + "/?token=1", status)) as peer:
        fault = fault_when(HttpClient(timeout=5), method, peer.url, headers=headers)
        assert (fault.kind, fault.sent, other.connections) == ("redirect", True, 0)
        assert f"{peer.url} redirects to {other.url}, which is not followed" in str(fault)
        assert "token" not in str(fault)


def proxied(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """The environment has a proxy for everything, and no exceptions."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("HTTPS_PROXY", proxy)


def with_password(url: str) -> str:
    return url.replace("://", "://who:s3cr3t@")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with Peer(serves(b"")) as proxy:
        url = proxy.url
    for written, told in {
        with_password(url): "Connection refused.",
        url.removeprefix("http://"): "Connection refused.",
        with_password(url).removeprefix("http://"): "the proxy's address must be of the form http://HOST:PORT.",
    }.items():
        proxied(monkeypatch, written)
        fault = fault_when(HttpClient(timeout=5), "GET", f"{scheme}://registry.invalid/cnr")
        assert (fault.kind, fault.sent) == ("connection", False)
        assert str(fault) == f"{scheme}://registry.invalid (through the proxy {url}) cannot be reached: {told}"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_proxy_that_wants_a_password_says_so(monkeypatch: pytest.MonkeyPatch, scheme: str, method: str) -> None:
    def script(peer: Conversation) -> None:
        while peer.read_request():
            peer.answer(b"who:s3cr3t", status="407 who:s3cr3t is not enough")

    with Peer(script) as proxy:
        proxied(monkeypatch, with_password(proxy.url))
        fault = fault_when(HttpClient(timeout=5), method, f"{scheme}://registry.invalid/cnr")
        url = proxy.url
    assert f"(through the proxy {url}) cannot be reached: the proxy answered 407 (does it require" in str(fault)
    assert (fault.kind, fault.sent, "s3cr3t" in str(fault)) == ("connection", False, False)


def test_a_proxy_that_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(lambda peer: peer.wait()) as proxy:
        proxied(monkeypatch, proxy.url)
        fault = fault_when(HttpClient(timeout=0.3), "GET", "http://registry.invalid/")
        assert (fault.kind, f"(through the proxy {proxy.url})" in str(fault)) == ("timeout", True)


def test_a_kind_of_proxy_that_is_not_spoken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied(monkeypatch, "socks5h://who:s3cr3t@127.0.0.1:1080")
    fault = fault_when(HttpClient(timeout=5), "GET", "https://registry.invalid/")
    assert "(through the proxy socks5h://127.0.0.1:1080) cannot be reached: SOCKS proxies are not supp" in str(fault)


def test_what_is_excepted_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(serves(b"at once")) as peer:
        proxied(monkeypatch, "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "registry.invalid,127.0.0.0/8")
        url = peer.url
        assert HttpClient(timeout=5).request("GET", url).body == b"at once"
    assert "proxy" not in str(fault_when(HttpClient(timeout=5), "GET", url))


@pytest.mark.parametrize("target", ["/sign-in/here?token=1", "//elsewhere.example.com/sign-in/here#token"])
def test_a_redirect_that_is_not_followed_is_told_with_its_path_alone(target: str) -> None:
    with Peer(redirects_to(target)) as peer:
        fault = fault_when(HttpClient(timeout=5), "GET", peer.url, follow=False)
        place = peer.url if target.startswith("/sign") else "http://elsewhere.example.com"
    assert f"redirects to {place}/sign-in/here, which is not followed; check" in str(fault)


def test_a_download_follows_a_redirect() -> None:
    with Peer(serves(b"the file")) as other, Peer(redirects_to(other.url)) as peer:
        received = bytearray()
        assert HttpClient(timeout=5).download(peer.url, received.extend, max_bytes=100).status == 200
        assert received == b"the file"


def test_the_body_of_a_redirect_is_not_read() -> None:
    sent = threading.Event()

    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n" + b"x" * 1_000_000)
        peer.drip(b"x" * 1_000_000, 0.02)
        sent.set()

    with Peer(script) as peer:
        fault = fault_when(HttpClient(timeout=20), "POST", peer.url)
        assert (fault.kind, sent.is_set()) == ("redirect", False)


def test_a_circle_of_redirects_ends() -> None:
    with Peer(redirects_to("/again")) as peer:
        fault = fault_when(HttpClient(timeout=5), "GET", peer.url)
    assert fault.kind == "redirect"


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "file:///etc/passwd", "http://[", ""])
def test_a_redirect_never_leaves_tls_or_http(target: str, tmp_path: Path) -> None:
    trusted, context = self_signed(tmp_path)
    with Peer(redirects_to(target), tls=context) as peer:
        fault = fault_when(HttpClient(timeout=5, ca_bundle=trusted), "GET", peer.url)
    assert fault.kind == "redirect"


def test_a_failed_download_leaves_the_sink_alone_and_tells_why() -> None:
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.answer(b"<h1>not\n here</h1>" + b" " * 1_000_000, status="404 Not Found")

    with Peer(script) as peer:
        received = bytearray()
        answer = HttpClient(timeout=5).download(peer.url, received.extend, max_bytes=10)
    assert (answer.status, bytes(received)) == (404, b"")
    assert answer.text().startswith("<h1>not here</h1>")


def test_what_the_sink_raises_is_not_mistaken_for_the_peers_fault() -> None:
    def full(piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    with Peer(serves(b"data")) as peer, pytest.raises(OSError, match="No space left"):
        HttpClient(timeout=5).download(peer.url, full, max_bytes=10)


def test_netrc_and_cookies_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        for _ in range(2):
            requests.append(peer.read_request())
            peer.answer(b"", "Set-Cookie: session=1; Path=/")

    with Peer(script) as peer:
        client = HttpClient(timeout=5)
        for _ in range(2):
            client.request("GET", peer.url, headers={"Authorization": "basic mine"})
    assert all(b"Authorization: basic mine\r\n" in request for request in requests)
    assert not any(b"cookie" in request.lower() for request in requests)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        requests.append(peer.read_request())
        peer.answer(b"through the proxy")

    with Peer(script) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert HttpClient(timeout=5).request("GET", "http://registry.invalid/x").body == b"through the proxy"
    assert requests[0].startswith(b"GET http://registry.invalid/x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("/cnr/api/v1/packages/community/otter", "/cnr/api/v1/packages/community/otter"),
        ("/a~b_c.d-e+f=g", "/a~b_c.d-e+f=g"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a b", "/a%20b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%zz", "/%25zz"),
        ("/käse", "/k%C3%A4se"),
        ("/a?b=c d&e=%26", "/a?b=c%20d&e=%26"),
        ("/a#b", "/a"),
    ],
)
def test_both_ways_to_call_send_the_same(path: str, target: str) -> None:
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            requests.append(request)
            peer.answer(b"")

    headers = {"Authorization": "basic mine", "Content-Type": "application/json"}
    with Peer(script) as peer:
        session = new_session()
        for method, body in (("GET", None), ("POST", b"{}"), ("PUT", b""), ("DELETE", None)):
            session.exchange(method, peer.url.removesuffix("/") + path, headers, body).close()
            whole = session.request(method, peer.url.removesuffix("/") + path, headers=headers, data=body, stream=True)
            whole.close()
    assert requests[0].startswith(f"GET {target} HTTP/1.1\r\n".encode())
    for short, long in zip(requests[::2], requests[1::2], strict=True):
        assert sorted(short.split(b"\r\n")) == sorted(long.split(b"\r\n"))


def test_credentials_in_a_url_are_those_of_its_requests() -> None:
    requests: list[bytes] = []

    def script(peer: Conversation) -> None:
        requests.append(peer.read_request())
        peer.answer(b"")

    with Peer(script) as peer:
        new_session().exchange("GET", peer.url.replace("http://", "http://user:pass@"), {}, None).close()
    assert b"\r\nAuthorization: Basic dXNlcjpwYXNz\r\n" in requests[0]


def test_a_proxy_that_refuses_the_tunnel_is_not_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Conversation) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with Peer(script) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        fault = fault_when(HttpClient(timeout=5), "POST", "https://registry.invalid/x")
    assert (fault.kind, fault.sent) == ("connection", False)


@pytest.mark.parametrize("value", ["basic s3cret\n", "basic s3cr€t", "basic s3cret\r\nX: 1"])
def test_a_header_that_cannot_be_sent_is_not_quoted(value: str) -> None:
    with closed_port() as port:
        fault = fault_when(HttpClient(timeout=5), "GET", f"http://127.0.0.1:{port}/", headers={"Authorization": value})
    assert (fault.kind, fault.sent) == ("connection", False)
    assert "s3cr" not in str(fault)
    assert fault.__cause__ is None


def test_an_answer_to_a_call_leaves_no_thread_and_no_descriptor_behind() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Peer(serves(*[b"x"] * 30)) as peer:
        client = HttpClient(timeout=5)
        client.request("GET", peer.url)
        before = descriptors()
        for _ in range(20):
            client.request("GET", peer.url)
        assert descriptors() == before
    assert sum(thread.name == "deadlines" for thread in threading.enumerate()) == 1, "one for all of them"


def test_an_answer_writes_its_text_for_people() -> None:
    written = io.StringIO()
    answer = Answer(500, {}, b"<p>\x00\x1b[2J" + b"x" * 1000)
    written.write(answer.text(limit=50))
    assert len(written.getvalue()) == 50
    assert written.getvalue().isprintable()
