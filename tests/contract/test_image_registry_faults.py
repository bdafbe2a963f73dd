# SPDX-License-Identifier: GPL-3.0-or-later
"""Image registries that are in trouble, lie or attack: nothing is written by mistake, nothing missing is invented."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omps_worker.common.errors import CatalogError, ImageRegistryError
from omps_worker.destinations.catalog.image_registry import client as client_module
from omps_worker.destinations.catalog.image_registry.answers import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    Descriptor,
    digest_of,
)
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.sandbox.faults import Fault
from tests.support.endless import ENDLESS, RETRY_AFTER
from tests.support.images import Place, SmallImage, sandbox_place
from tests.support.peer import Conversation, Peer

IMAGE, NEWER = SmallImage(), SmallImage(extra="newer")
LAYER = Descriptor("application/octet-stream", digest_of(IMAGE.layer), len(IMAGE.layer))
GET = "GET /v2/.*/manifests/"
TAGS = "GET /v2/.*/tags/list"
UNKNOWN = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}


REFUSED = {"errors": [{"code": "MANIFEST_INVALID", "message": "manifest invalid"}]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with sandbox_place(tmp_path) as made:
        yield made


def fault_when(call: Callable[[], object], *, transient: bool = True) -> Any:
    with pytest.raises(ImageRegistryError) as caught:
        call()
    assert caught.value.transient is transient, caught.value
    return caught.value


def peer_image(peer: Peer, tag: str = "latest") -> ImageName:
    scheme, _, host = peer.url.partition("://")
    return ImageName(Repository(scheme, host, "community/catalog"), tag)


def client_of(timeout: float = 5) -> ImageRegistryClient:
    return ImageRegistryClient(lambda _: None, timeout=timeout)


# ---- a missing tag is never by itself an empty catalog


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502},
        {"status": 503, "headers": {"Retry-After": "2"}},
        {"status": 403},
        {"status": 401},
        {"status": 404},
        {"status": 404, "body": "<html>404 Not Found</html>"},
        {"status": 404, "body": {"message": "no Route matched with those values"}},
        {"status": 404, "body": {"errors": []}},
        {"status": 404, "body": {"errors": "MANIFEST_UNKNOWN"}},
        {"status": 410, "body": UNKNOWN},
        {"status": 400, "body": UNKNOWN},
        {"status": 429},
        {"status": 200, "body": "<html>Welcome</html>"},
        {"status": 200, "body": {}},
        {"status": 200, "body": b""},
        {"status": 204},
        {"status": 206, "body": IMAGE.body},
        {"status": 301, "headers": {"Location": "/v2/"}},
        {"status": 407},
        {"drop": True},
        {"drop_answer": True},
        {"truncate": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("which", [GET, TAGS])
def test_only_a_registry_that_says_so_twice_has_no_tag(place: Place, which: str, fault: dict) -> None:
    client, image = place.client(), place.image()
    NEWER.push(client, ImageName(image.repository, "another"))
    assert client.look(image) is None
    if which == GET or fault.get("status") == 404:
        # What is not the first page of the list cannot be missing either.
        IMAGE.push(client, image)
        place.registry.hide(image.repository.path, "latest", times=1 if which == TAGS else 0)
    place.registry.faults.add(Fault(which, times=None, **fault))

    fault_when(lambda: client.look(image))


@pytest.mark.parametrize("body", [None, "<html>404 Not Found</html>", {"message": "no route"}, {"errors": []}, b"404"])
def test_something_in_front_of_a_registry_cannot_say_that_a_tag_is_missing(place: Place, body: object) -> None:
    client, image = place.client(), place.image()
    NEWER.push(client, ImageName(image.repository, "another"))
    place.registry.faults.add(Fault(GET, status=404, body=body))

    assert "from something else" in str(fault_when(lambda: client.look(image)))
    assert client.look(image) is None


def test_a_tag_that_is_listed_is_not_missing(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    place.registry.hide(image.repository.path, "latest", times=2)

    assert "lists the tag and does not find it" in str(fault_when(lambda: client.look(image)))
    assert client.digest(image) is None, "which is not certain"
    assert client.look(image).digest == IMAGE.digest


def test_a_tag_on_a_later_page_is_not_missing(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, page=2) as place:
        client, image = place.client(), place.image(tag="v7")
        for tag in ("v1", "v2", "v3", "v4", "v5", "v6", "v7"):
            IMAGE.push(client, ImageName(image.repository, tag))
        place.registry.hide(image.repository.path, "v7")

        fault_when(lambda: client.look(image))
        place.registry.hide(image.repository.path, "v7")
        place.registry.faults.add(Fault(f"{TAGS}.*last=v4", status=500))
        fault_when(lambda: client.look(image))


def test_reads_during_a_write_fail_for_now(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    place.registry.slow_tags = 0.5
    writer = threading.Thread(target=lambda: NEWER.push(place.client(), image))
    writer.start()
    seen, failures = set(), []
    while writer.is_alive():
        try:
            seen.add(client.look(image).digest)
        except CatalogError as error:
            failures.append(error)
    writer.join()

    assert failures
    assert all(error.transient for error in failures)
    assert seen <= {IMAGE.digest, NEWER.digest}
    assert client.look(image).digest == NEWER.digest


# ---- what comes back is what was asked for


def other(**changes: object) -> bytes:
    return json.dumps({**json.loads(IMAGE.body), **changes}).encode()


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (other(schemaVersion=1), DOCKER_MANIFEST),
        (other(schemaVersion="2"), DOCKER_MANIFEST),
        (other(mediaType=OCI_MANIFEST), DOCKER_MANIFEST),
        (other(mediaType=DOCKER_LIST), DOCKER_LIST),
        (other(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"), "text/plain"),
        (other(mediaType=[]), DOCKER_MANIFEST),
        (other(manifests=[]), DOCKER_MANIFEST),
        (other(config=None), DOCKER_MANIFEST),
        (other(layers={}), DOCKER_MANIFEST),
        (other(layers=[None]), DOCKER_MANIFEST),
        (other(layers=[{"mediaType": "x", "size": -1, "digest": LAYER.digest}]), DOCKER_MANIFEST),
        (other(layers=[{"mediaType": "x", "size": True, "digest": LAYER.digest}]), DOCKER_MANIFEST),
        (other(layers=[{"mediaType": "x", "size": 2**80, "digest": LAYER.digest}]), DOCKER_MANIFEST),
        (other(layers=[{"mediaType": "x", "size": 1, "digest": "sha256:../../x"}]), DOCKER_MANIFEST),
        (other(layers=[{"mediaType": "x\n", "size": 1, "digest": LAYER.digest}]), DOCKER_MANIFEST),
        (b"[" * 100_000, DOCKER_MANIFEST),
        (b'{"schemaVersion": 2, "manifests": [{}]}', DOCKER_LIST),
        (b"null", DOCKER_MANIFEST),
        (b"\xff\xfe", DOCKER_MANIFEST),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_manifest_is_none(place: Place, body: bytes, media_type: str) -> None:
    client, image = place.client(), place.image()
    digest = place.registry.put(image.repository.path, "latest", body, media_type)

    fault_when(lambda: client.look(image))
    fault_when(lambda: client.manifest(image.at(digest)))


SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
UNSUPPORTED = [
    (b'{"schemaVersion": 1, "fsLayers": [], "signatures": []}', SCHEMA_1),
    (b'{"artifactType": "text/plain"}', "application/vnd.oci.artifact.manifest.v1+json"),
    (other(layers=[{"mediaType": "x", "size": 1, "digest": "sha512:" + "a" * 128}]), DOCKER_MANIFEST),
]


@pytest.mark.parametrize(("body", "media_type"), UNSUPPORTED, ids=["schema 1", "an artifact", "another digest"])
def test_a_manifest_of_another_kind_is_there_all_the_same(place: Place, body: bytes, media_type: str) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(body)}
    fault = Fault(GET, body=body, headers=headers, times=2)
    place.registry.faults.add(fault)

    found = client.look(image)
    assert (found.digest, found.config) == (digest_of(body), None)
    assert found.unsupported
    fault_when(lambda: client.manifest(image))


def test_a_manifest_of_another_kind_counts_only_if_the_registry_names_its_digest() -> None:
    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            body, media_type = UNSUPPORTED[0] if b"/manifests/" in request else (b"{}", "application/json")
            peer.answer(body, f"Content-Type: {media_type}")

    with Peer(script) as peer:
        fault_when(lambda: client_of().look(peer_image(peer)))


def test_the_digest_of_a_signed_manifest_is_the_one_that_the_registry_names(place: Place) -> None:
    """It does not cover the signatures."""
    client, image = place.client(), place.image()
    place.registry.put(image.repository.path, "latest", *UNSUPPORTED[0])
    headers = {"Docker-Content-Digest": NEWER.digest, "Content-Type": SCHEMA_1}
    place.registry.faults.add(Fault("(GET|HEAD) /v2/.*/manifests/", body=UNSUPPORTED[0][0], headers=headers, times=2))

    assert client.look(image).digest == client.digest(image) == NEWER.digest


@pytest.mark.parametrize("named", [NEWER.digest, "sha256:" + "A" * 64, "sha512:" + "a" * 128, "", "../../x"])
def test_an_answer_that_is_not_its_digest_is_none(place: Place, named: str) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    headers = {"Docker-Content-Digest": named}
    place.registry.faults.add(Fault("(GET|HEAD|PUT) /v2/.*/manifests/", headers=headers, times=None))

    fault_when(lambda: client.look(image))
    fault_when(lambda: client.manifest(image.at(IMAGE.digest)))
    fault_when(lambda: client.digest(image.at(IMAGE.digest)))
    fault_when(lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type))


def test_another_manifest_than_was_asked_for_is_none(place: Place) -> None:
    client, image = place.client(), place.image()
    for each in (IMAGE, NEWER):
        each.push(client, image)
    body = Fault("GET /v2/.*/manifests/sha256:", body=NEWER.body, headers={"Docker-Content-Digest": NEWER.digest})
    place.registry.faults.add(body)

    assert "not what the digest" in str(fault_when(lambda: client.manifest(image.at(IMAGE.digest))))


def test_a_registry_that_names_no_digest_is_read_all_the_same(place: Place) -> None:
    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            body = b"" if request.startswith(b"HEAD") else b"{}" if b" /v2/ " in request else IMAGE.body
            peer.answer(body, f"Content-Type: {DOCKER_MANIFEST}")

    with Peer(script) as peer:
        image = peer_image(peer)
        assert client_of().digest(image) == client_of().look(image).digest == IMAGE.digest


@pytest.mark.parametrize("body", [b"", IMAGE.layer[:-1], IMAGE.layer + b"x", bytes(len(IMAGE.layer)), bytes(10**7)])
def test_a_blob_that_is_not_its_digest_is_none(place: Place, body: bytes) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    place.registry.faults.add(Fault("GET /v2/.*/blobs/", body=body))

    fault_when(lambda: client.blob(image.repository, LAYER, max_bytes=10**6))
    assert client.blob(image.repository, LAYER, max_bytes=10**6) == IMAGE.layer


def test_a_foreign_layer_is_not_read(place: Place) -> None:
    client, image = place.client(), place.image()
    foreign = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 1}
    layers = [{**foreign, "digest": LAYER.digest, "urls": ["http://127.0.0.1/layer"]}]
    place.registry.put(image.repository.path, "latest", other(layers=layers), DOCKER_MANIFEST)

    (layer,) = client.look(image).layers

    assert "foreign layer" in str(
        fault_when(lambda: client.blob(image.repository, layer, max_bytes=100), transient=False)
    )


# ---- writes whose outcome is not known


@pytest.mark.parametrize("status", [None, 408, 500, 502, 503, 504, 200, 202])
def test_a_write_whose_answer_is_lost_may_be_stored(place: Place, status: int | None) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    for blob in (NEWER.layer, NEWER.config):
        client.push_blob(image.repository, blob)
    place.registry.lose_answer("PUT /v2/.*/manifests/", status=status)
    if status == 200:
        assert client.put_manifest(image, NEWER.body, NEWER.media_type) == NEWER.digest
    else:
        assert fault_when(lambda: client.put_manifest(image, NEWER.body, NEWER.media_type)).ambiguous

    assert client.digest(image) == NEWER.digest


def test_a_blob_whose_answer_is_lost_is_not_sent_again(place: Place) -> None:
    client, repository = place.client(), place.repository()
    place.registry.lose_answer("PUT /v2/.*/blobs/uploads/", status=504)

    assert fault_when(lambda: client.push_blob(repository, b"x")).ambiguous
    assert client.push_blob(repository, b"x") is False


def test_a_write_that_was_refused_is_not_stored(place: Place) -> None:
    client, image = place.client(), place.image()
    client.ping(image.repository)
    for status, transient in ((400, False), (413, False), (422, False), (405, True), (404, True), (429, True)):
        place.registry.faults.add(Fault("PUT /v2/.*/manifests/", status=status, body=REFUSED))
        error = fault_when(lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type), transient=transient)
        assert not error.ambiguous
    place.registry.stop()
    assert not fault_when(lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type)).ambiguous


@pytest.mark.parametrize("body", [None, "<html>413 Request Entity Too Large</html>", {"errors": []}])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_a_proxy_refuses_in_place_of_the_registry_is_tried_again(place: Place, status: int, body: object) -> None:
    client, image = place.client(), place.image()
    for write, call in (
        ("PUT /v2/.*/blobs/uploads/", lambda: client.push_blob(image.repository, IMAGE.layer)),
        ("PUT /v2/.*/manifests/", lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type)),
    ):
        place.registry.faults.add(Fault(write, status=status, body=body))
        error = fault_when(call)
        assert "a proxy in front of it may have refused" in error.message
        assert ("client_max_body_size" in error.message) is (status == 413)
    assert IMAGE.push(client, image) == IMAGE.digest


@pytest.mark.parametrize("body", [None, REFUSED])
def test_a_call_that_sent_nothing_says_nothing_of_the_content(place: Place, body: object) -> None:
    place.registry.faults.add(Fault("POST /v2/.*/blobs/uploads/", status=400, body=body))

    assert "proxy" not in fault_when(lambda: place.client().push_blob(place.repository(), b"x")).message


def unknown_blob(times: int | None, status: int = 400) -> Fault:
    errors = [{"code": code, "message": "x"} for code in ("DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN")]
    return Fault("PUT /v2/.*/manifests/", status=status, body={"errors": errors}, times=times)


def uploads(place: Place) -> int:
    return sum(each.method == "PUT" and "/blobs/uploads/" in each.target for each in place.registry.log)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_image_whose_blob_is_not_known_for_a_moment_is_written(place: Place, status: int) -> None:
    client, image = place.client(), place.image()
    place.registry.faults.add(unknown_blob(1, status))

    assert IMAGE.push(client, image) == IMAGE.digest
    assert client.digest(image) == IMAGE.digest
    assert uploads(place) == 2, "what the registry has is not sent again at once"


def test_an_image_whose_blob_was_lost_is_written_even_if_the_registry_says_that_it_has_it(place: Place) -> None:
    """As after a garbage collection, while the answer to HEAD comes from a cache."""
    client, image = place.client(), place.image()
    place.registry.faults.add(Fault("HEAD /v2/.*/blobs/", status=200, times=None))

    assert IMAGE.push(client, image) == IMAGE.digest
    assert client.digest(image) == IMAGE.digest
    assert uploads(place) == 2


def test_an_image_whose_blobs_are_never_known_fails_for_now(place: Place) -> None:
    place.registry.faults.add(unknown_blob(None))

    error = fault_when(lambda: IMAGE.push(place.client(), place.image()))

    assert error.blobs_unknown
    assert not error.ambiguous
    assert uploads(place) == 4


def test_an_image_that_is_refused_is_not_sent_again(place: Place) -> None:
    place.registry.faults.add(Fault("PUT /v2/.*/manifests/", status=400, body=REFUSED))

    error = fault_when(lambda: IMAGE.push(place.client(), place.image()), transient=False)

    assert not error.blobs_unknown
    assert uploads(place) == 2


def test_a_blob_that_cannot_be_asked_for_is_sent(place: Place) -> None:
    """The reference registry answers so while another program sends the same blob."""
    place.registry.faults.add(Fault("HEAD /v2/.*/blobs/", status=500))

    assert place.client().push_blob(place.repository(), b"x") is True


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_blob_that_may_not_be_asked_for_is_not_sent(place: Place, status: int) -> None:
    place.registry.faults.add(Fault("HEAD /v2/.*/blobs/", status=status))

    fault_when(lambda: place.client().push_blob(place.repository(), b"x"))
    assert uploads(place) == 0


def test_a_blob_that_is_too_large_for_a_proxy_waits_until_the_proxy_takes_it(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, max_body=1000) as place:
        error = fault_when(lambda: place.client().push_blob(place.repository(), bytes(1001)))
    assert "client_max_body_size" in error.message


@pytest.mark.parametrize("status", [400, 404, 416])
@pytest.mark.parametrize(
    "code", ["DIGEST_INVALID", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID", "SIZE_INVALID"]
)
def test_a_blob_that_was_damaged_on_its_way_is_sent_again_later(place: Place, code: str, status: int) -> None:
    body = {"errors": [{"code": code, "message": "x"}]}
    place.registry.faults.add(Fault("PUT /v2/.*/blobs/uploads/", status=status, body=body))

    assert code in str(fault_when(lambda: place.client().push_blob(place.repository(), b"x")))


def test_a_foreign_writer_is_seen(place: Place) -> None:
    """What the sandbox offers to those who update catalogs."""
    client, image = place.client(), place.image()
    NEWER.push(client, image)
    IMAGE.push(client, image)
    path = image.repository.path
    place.registry.before(
        f"HEAD /v2/{path}/manifests/latest", lambda: place.registry.move_tag(path, "latest", NEWER.digest)
    )

    assert client.look(image).digest == IMAGE.digest
    assert client.digest(image) == NEWER.digest


@pytest.mark.parametrize("value", RETRY_AFTER)
def test_a_registry_may_ask_to_be_left_alone_for_an_hour_at_most(place: Place, value: str) -> None:
    client, image = place.client(), place.image()
    client.ping(image.repository)
    place.registry.faults.add(Fault(GET, status=503, headers={"Retry-After": value}))

    error = fault_when(lambda: client.look(image))

    assert error.retry_after is None or 0 <= error.retry_after <= 3600


# ---- peers that never end, or lead elsewhere


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_answer_ends(script: Callable[[Conversation], None]) -> None:
    calls: list[Callable[[ImageRegistryClient, ImageName], object]] = [
        lambda client, image: client.look(image),
        lambda client, image: client.digest(image),
        lambda client, image: client.tags(image.repository),
        lambda client, image: client.blob(image.repository, LAYER, max_bytes=10**6),
        lambda client, image: client.put_manifest(image, IMAGE.body, IMAGE.media_type),
    ]
    for call in calls:
        with Peer(script) as peer:
            began = time.monotonic()
            with contextlib.suppress(CatalogError):
                # A HEAD may be answered before the body that never ends.
                call(client_of(1), peer_image(peer))
            assert time.monotonic() - began < 8


def leads_to(location: str, status: str = "307 Temporary Redirect") -> Callable[[Conversation], None]:
    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            if b" /v2/ " in request:
                peer.answer(b"{}")
            else:
                peer.answer(b"", f"Location: {location}", status=status)

    return script


def test_a_blob_is_not_led_elsewhere_for_ever() -> None:
    with Peer(leads_to("/again")) as peer:
        image = peer_image(peer)
        error = fault_when(lambda: client_of().blob(image.repository, LAYER, max_bytes=10**6))
    assert "redirects more than 3 times" in str(error)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//[", "gopher:x"])
def test_a_blob_is_not_led_to_what_is_no_web_server(location: str) -> None:
    with Peer(leads_to(location)) as peer:
        image = peer_image(peer)
        fault_when(lambda: client_of().blob(image.repository, LAYER, max_bytes=10**6))


def test_nothing_else_is_led_elsewhere() -> None:
    seen: list[bytes] = []

    def elsewhere(peer: Conversation) -> None:
        seen.append(peer.read_request())

    with Peer(elsewhere) as other_peer, Peer(leads_to(other_peer.url + "/x?signature=y")) as peer:
        client, image = client_of(), peer_image(peer)
        for call in (
            lambda: client.look(image),
            lambda: client.digest(image),
            lambda: client.tags(image.repository),
            lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type),
            lambda: client.push_blob(image.repository, b"x", anyway=True),
        ):
            assert "signature" not in str(fault_when(call))
    assert seen == []


@pytest.mark.parametrize(
    "location",
    ["", "http://127.0.0.1:1/v2/x", "//127.0.0.1:1/x", "http://user@127.0.0.1:1/", "mailto:x", "http://[", "x" * 9000],
)
def test_an_upload_stays_at_the_registry(place: Place, location: str) -> None:
    place.registry.faults.add(Fault("POST /v2/", status=202, headers={"Location": location}))

    fault_when(lambda: place.client().push_blob(place.repository(), b"x"))


@pytest.mark.parametrize(
    "link",
    [
        '<http://127.0.0.1:1/v2/x/tags/list?last=a>; rel="next"',
        '</v2/other/tags/list?last=a>; rel="next"',
        '<tags/list>; rel="next"',
        '<>; rel="next"',
        '<//[?x>; rel="next"',
        'rel="next"',
        '<?last=a; rel="next"',
        "x" * 9000,
    ],
)
def test_the_next_page_is_one_of_the_same_list(place: Place, link: str) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    place.registry.faults.add(Fault(TAGS, headers={"Link": link}))

    fault_when(lambda: client.tags(image.repository))


@pytest.mark.parametrize(
    "form",
    ['<{}>; rel="next"', "<{}>;rel=next", '<{}>; title=x; REL = "Next last"', '<x>; rel="prev", <{}>; rel="next"'],
)
def test_the_next_page_may_be_named_in_many_ways(place: Place, form: str) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    address = f"/v2/{image.repository.path}/tags/list?last=a"
    place.registry.faults.add(Fault(f"{TAGS}$", body={"tags": ["a"]}, headers={"Link": form.format(address)}))

    assert client.tags(image.repository) == ("a", "latest")


@pytest.mark.parametrize("link", ["", '</v2/next/tags/list?next=x>; rel="prev"', "<x>; rel=last"])
def test_other_links_lead_to_no_page(place: Place, link: str) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    place.registry.faults.add(Fault(TAGS, headers={"Link": link}))

    assert client.tags(image.repository) == ("latest",)


def test_pages_that_never_end_do_end(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    link = {"Link": f'</v2/{image.repository.path}/tags/list?last=a>; rel="next"'}
    place.registry.faults.add(Fault(TAGS, headers=link, times=None))

    assert "no further tags" in str(fault_when(lambda: client.tags(image.repository)))


def test_slow_pages_take_no_longer_than_a_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LIST_CALLS", 1.5)
    numbers = itertools.count()

    def script(peer: Conversation) -> None:
        while request := peer.read_request():
            if b" /v2/ " in request:
                peer.answer(b"{}")
                continue
            peer.stopping.wait(0.1)
            tags = json.dumps({"tags": [f"v{next(numbers)}"]}).encode()
            peer.answer(tags, 'Link: </v2/community/catalog/tags/list?last=a>; rel="next"')

    with Peer(script) as peer:
        began = time.monotonic()
        fault_when(lambda: client_of(1.0).tags(peer_image(peer).repository))
        assert time.monotonic() - began < 5
    assert next(numbers) > 2


def test_a_slow_login_is_part_of_the_call(tmp_path: Path) -> None:
    with sandbox_place(tmp_path, "token") as place:
        place.registry.faults.add(Fault("GET /", delay=0.4, times=None))
        began = time.monotonic()
        fault_when(lambda: place.client(timeout=0.6).look(place.image()))
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "body", [{"tags": {}}, {"tags": [1]}, {"tags": ["a b"]}, {"tags": ["x" * 129]}, {}, [], "html"]
)
def test_what_is_no_list_of_tags_is_none(place: Place, body: object) -> None:
    place.registry.faults.add(Fault(TAGS, status=200, body=body))

    fault_when(lambda: place.client().tags(place.repository()))


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 200, "body": "<html>Welcome</html>"},
        {"status": 404},
        {"status": 401},
        {"status": 500},
        {"drop": True},
    ],
)
def test_something_else_is_not_a_registry(place: Place, fault: dict) -> None:
    place.registry.faults.add(Fault("GET /v2/", **fault))

    fault_when(lambda: place.client().ping(place.repository()))
