# SPDX-License-Identifier: GPL-3.0-or-later
"""Image registries that are odd and not wrong, and the odd ones of which nothing may be believed."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError
from omps_worker.destinations.catalog.image_registry import client as client_module
from omps_worker.destinations.catalog.image_registry.answers import DOCKER_MANIFEST, Descriptor, digest_of
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.destinations.catalog.images.image import Format, Image
from omps_worker.destinations.catalog.uploads import put
from omps_worker.sandbox.faults import Fault
from tests.support.images import ROBOT, Place, SmallImage, sandbox_place
from tests.support.peer import Conversation, Peer

IMAGE = SmallImage()
LAYER = Descriptor("application/octet-stream", digest_of(IMAGE.layer), len(IMAGE.layer))
MANIFEST = f"Content-Type: {DOCKER_MANIFEST}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with sandbox_place(tmp_path, "token") as made:
        yield made


def registry(answer: Callable[[Conversation, bytes], object]) -> Peer:
    """A registry without a login, which answers everything but the first question with ``answer``."""

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            if request.startswith(b"GET /v2/ "):
                peer.answer(b"{}")
            else:
                answer(peer, request)

    return Peer(script)


def image_at(peer: Peer) -> ImageName:
    return ImageName(Repository("http", peer.url.partition("://")[2], "community/catalog"), "latest")


def client_of(credentials: Credentials | None = None, timeout: float = 5) -> ImageRegistryClient:
    return ImageRegistryClient(lambda _: credentials, timeout=timeout)


def error_of(call: Callable[[], object]) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        call()
    assert caught.value.transient
    return caught.value


def asked_for(place: Place) -> str:
    """The requests for tokens so far."""
    return " ".join(each.target for each in place.registry.log if each.target.startswith("/token"))


# ---- what counts as stored


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_another_success_counts_if_it_names_the_digest(status: str) -> None:
    with registry(lambda peer, _: peer.answer(b"", f"Docker-Content-Digest: {IMAGE.digest}", status=status)) as peer:
        assert client_of().put_manifest(image_at(peer), IMAGE.body, IMAGE.media_type) == IMAGE.digest


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content", "206 Partial Content"])
def test_a_success_that_names_no_digest_may_come_from_anything(status: str) -> None:
    with registry(lambda peer, _: peer.answer(b"<html>Welcome</html>", status=status)) as peer:
        assert error_of(lambda: client_of().put_manifest(image_at(peer), IMAGE.body, IMAGE.media_type)).ambiguous


def test_a_promise_to_store_is_not_enough() -> None:
    header = f"Docker-Content-Digest: {IMAGE.digest}"
    with registry(lambda peer, _: peer.answer(b"", header, status="202 Accepted")) as peer:
        assert error_of(lambda: client_of().put_manifest(image_at(peer), IMAGE.body, IMAGE.media_type)).ambiguous


def test_a_blob_that_something_else_took_is_not_there(place: Place) -> None:
    place.registry.faults.add(Fault("PUT /v2/.*/blobs/uploads/", status=200, body="<html>Welcome</html>"))

    assert error_of(lambda: place.client().push_blob(place.repository(), b"x")).ambiguous


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("stored", [True, False])
def test_whether_an_image_was_stored_is_looked_up_if_the_answer_is_odd(place: Place, status: int, stored: bool) -> None:
    client, image = place.client(), place.image()
    made = Image(Format.DOCKER, IMAGE.config, IMAGE.body)
    for blob in (IMAGE.layer, IMAGE.config):
        client.push_blob(image.repository, blob)
    place.registry.faults.add(Fault("PUT /v2/.*/manifests/", status=status, body="<html>", effect=stored))

    if stored:
        put(client, image, made, ())
    else:
        error_of(lambda: put(client, image, made, ()))


# ---- logins


def test_ways_to_log_in_may_come_in_several_headers() -> None:
    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            if b"authorization: basic " in request.lower():
                peer.answer(b"{}")
            else:
                headers = ("WWW-Authenticate: Negotiate", 'WWW-Authenticate: Basic realm="x"')
                peer.answer(b"{}", *headers, status="401 Unauthorized")

    with Peer(script) as peer:
        client_of(ROBOT).check_account(image_at(peer).repository)


def test_a_token_that_expires_in_the_middle_of_an_upload_is_renewed(place: Place) -> None:
    client, repository = place.client(), place.repository()
    place.registry.before("PUT /v2/.*/blobs/uploads/", place.registry.tokens.revoke)

    assert client.push_blob(repository, b"x") is True
    assert client.push_blob(repository, b"x") is False


def test_a_password_that_is_revoked_in_the_middle_of_an_upload_ends_it(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, "basic") as place:
        place.registry.before("PUT /v2/.*/blobs/uploads/", lambda: place.registry.accounts.add("robot", "another"))

        with pytest.raises(CatalogAuthorizationError):
            place.client().push_blob(place.repository(), b"x")


@pytest.mark.parametrize("actions", ["pull,push", "push", "*", "delete,pull"])
def test_reading_never_asks_for_permission_to_write(place: Place, actions: str) -> None:
    """Asking for it makes the repository on some registries."""
    client, image = place.client(), place.image()
    scope = f"repository:{image.repository.path}:{actions} repository:community/base:push"
    challenge = f'Bearer realm="{place.url}/token",service="sandbox-registry",scope="{scope}"'
    place.registry.faults.add(Fault("GET /v2/.*/manifests", status=401, headers={"WWW-Authenticate": challenge}))

    assert client.look(image) is None
    assert "pull" in asked_for(place)
    assert not {"push", "*", "delete"} & set(asked_for(place).replace(",", ":").replace("&", ":").split(":"))


def test_a_token_server_may_ask_for_time(place: Place) -> None:
    place.registry.faults.add(Fault("GET /token", status=429, headers={"Retry-After": "7"}))

    assert error_of(lambda: place.client().look(place.image())).retry_after == 7


def test_a_token_server_that_drips_ends_with_the_call(place: Place) -> None:
    with registry(lambda peer, _: peer.drip(b"HTTP/1.1 200 OK\r\n" * 100, 0.05)) as peer:
        challenge = f'Bearer realm="{peer.url}/token",service="x"'
        place.registry.faults.add(Fault("GET /v2/", status=401, headers={"WWW-Authenticate": challenge}, times=None))
        began = time.monotonic()
        error_of(lambda: place.client(timeout=0.5).look(place.image()))

    assert time.monotonic() - began < 3


# ---- answers in many forms


def test_a_blob_may_be_led_elsewhere_more_than_once() -> None:
    """As by a mirror in front of a registry that keeps its blobs in a cloud."""
    seen: list[bytes] = []

    def answer(peer: Conversation, request: bytes) -> None:
        seen.append(request)
        path = request.split(b" ")[1]
        following = {b"/1": "/2", b"/2": "/3", b"/3": None}.get(path, "/1")
        if following is None:
            peer.answer(IMAGE.layer)
        else:
            peer.answer(b"", f"Location: {following}", status="302 Found")

    with registry(answer) as peer:
        assert client_of().blob(image_at(peer).repository, LAYER, max_bytes=10**6) == IMAGE.layer
    assert len(seen) == 4


def chunked(content: bytes) -> bytes:
    pieces = (content[at : at + 7] for at in range(0, len(content), 7))
    body = b"".join(b"%x;an=extension\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{MANIFEST}\r\n\r\n".encode() + body + b"0\r\n\r\n"


def test_an_answer_may_come_in_chunks() -> None:
    with registry(lambda peer, _: peer.send(chunked(IMAGE.body))) as peer:
        client, image = client_of(), image_at(peer)
        assert [client.look(image).digest for _ in range(2)] == [IMAGE.digest, IMAGE.digest]


@pytest.mark.parametrize("length", ["5", "999999", "0", "+10"])
def test_an_answer_of_another_length_than_it_says_is_none(length: str) -> None:
    def answer(peer: Conversation, _request: bytes) -> None:
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{MANIFEST}\r\n\r\n".encode() + IMAGE.body)
        peer.connection.shutdown(socket.SHUT_WR)

    with registry(answer) as peer:
        error_of(lambda: client_of(timeout=1).look(image_at(peer)))


def test_what_follows_the_answer_to_a_head_is_not_taken_for_the_next_answer() -> None:
    """Some servers send the body all the same."""
    false = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"

    def answer(peer: Conversation, request: bytes) -> None:
        if request.startswith(b"HEAD"):
            peer.answer(false, f"Docker-Content-Digest: {IMAGE.digest}")
        else:
            peer.answer(IMAGE.body, MANIFEST)

    with registry(answer) as peer:
        client, image = client_of(), image_at(peer)
        assert client.digest(image) == IMAGE.digest
        assert client.look(image).digest == IMAGE.digest


@pytest.mark.parametrize("tags", [None, []])
def test_a_repository_without_tags_may_say_so_in_two_ways(place: Place, tags: list | None) -> None:
    place.registry.faults.add(Fault("GET /v2/.*/tags/list", status=200, body={"name": "x", "tags": tags}))

    assert place.client().look(place.image()) is None


def test_a_list_of_tags_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TAGS", 1000)
    numbers = itertools.count()

    def answer(peer: Conversation, _request: bytes) -> None:
        tags = [f"v{next(numbers)}" for _ in range(400)]
        peer.answer(json.dumps({"tags": tags}).encode(), f'Link: <?last={tags[-1]}>; rel="next"')

    with registry(answer) as peer:
        assert "more than 1000 tags" in str(error_of(lambda: client_of().tags(image_at(peer).repository)))
    assert next(numbers) == 1200
