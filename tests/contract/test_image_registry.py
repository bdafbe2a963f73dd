# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for the client of image registries, against the sandbox's registry and the real one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError
from omps_worker.destinations.catalog.image_registry.answers import DOCKER_MANIFEST, Descriptor, digest_of
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from tests.support.images import Place, SmallImage, delete, docker_place, list_of, sandbox_place

PLACES = {
    "sandbox": lambda directory: sandbox_place(directory),
    "sandbox-basic": lambda directory: sandbox_place(directory, "basic"),
    "sandbox-token": lambda directory: sandbox_place(directory, "token", page=2),
    "sandbox-tls": lambda directory: sandbox_place(directory, "token", tls=True, relative_locations=True),
    "sandbox-elsewhere": lambda directory: sandbox_place(directory, "basic", elsewhere=True),
    "docker": lambda directory: docker_place(directory),
    "docker-basic": lambda directory: docker_place(directory, "basic"),
    "docker-token": lambda directory: docker_place(directory, "token"),
    "docker-tls": lambda directory: docker_place(directory, "basic", tls=True),
}
IMAGE = SmallImage()
WRONG = Credentials("robot", SecretStr("not the password"))
NOWHERE = "sha256:" + 64 * "a"


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory: Path = tmp_path_factory.mktemp("registry")
    with PLACES[request.param](directory) as made:
        yield made


def needs_login(place: Place) -> bool:
    return place.login != "none"


@pytest.mark.parametrize("oci", [False, True], ids=["docker", "oci"])
def test_an_image_is_read_as_it_was_written(place: Place, oci: bool) -> None:
    client, image, written = place.client(), place.image(), SmallImage(oci=oci)

    assert written.push(client, image) == written.digest

    manifest = client.look(image)
    assert (manifest.digest, manifest.body, manifest.media_type) == (written.digest, written.body, written.media_type)
    assert not manifest.is_list
    assert client.digest(image) == client.digest(image.at(written.digest)) == written.digest
    assert client.manifest(image.at(written.digest)) == manifest
    blobs = [client.blob(image.repository, each, max_bytes=10**6) for each in (manifest.config, *manifest.layers)]
    assert blobs == [written.config, written.layer]
    assert client.tags(image.repository) == ("latest",)


def test_a_list_of_images_comes_as_such(place: Place) -> None:
    client, image = place.client(), place.image()
    images = IMAGE, SmallImage(extra="another")
    for each in images:
        each.push(client, image.at(each.digest))
    body, media_type = list_of(*images)
    client.put_manifest(image, body, media_type)

    found = client.look(image)

    assert (found.is_list, found.body, found.config, found.layers) == (True, body, None, ())
    assert [each.digest for each in found.manifests] == [each.digest for each in images]
    assert found.manifests[1].platform == {"os": "linux", "architecture": "arm64"}
    assert found.manifests[0].size == len(IMAGE.body)


def test_what_was_never_there_is_certainly_missing(place: Place) -> None:
    client, image = place.client(), place.image()

    assert client.look(image) is None
    assert client.digest(image) is None
    assert client.tags(image.repository) is None
    with pytest.raises(CatalogError, match="404, manifest unknown \\(MANIFEST_UNKNOWN\\)") as caught:
        client.manifest(image)
    assert caught.value.transient


def test_another_tag_is_missing_where_there_are_some(place: Place) -> None:
    client, image = place.client(), place.image()
    for tag in ("v1", "v2", "v3", "v4", "v5"):
        IMAGE.push(client, ImageName(image.repository, tag))

    assert client.look(image) is None
    assert client.tags(image.repository) == ("v1", "v2", "v3", "v4", "v5")


def test_a_tag_that_was_deleted_is_missing_and_so_is_every_other_of_its_manifest(place: Place) -> None:
    client, image = place.client(), place.image()
    IMAGE.push(client, image)
    IMAGE.push(client, ImageName(image.repository, "v1"))

    assert delete(client, image) == 400
    assert delete(client, image.at(IMAGE.digest)) == 202
    assert delete(client, image.at(IMAGE.digest)) == 404

    assert client.tags(image.repository) == ()
    assert client.look(image) is None
    assert client.push_blob(image.repository, IMAGE.layer) is False


def test_a_tag_moves(place: Place) -> None:
    client, image, newer = place.client(), place.image(), SmallImage(extra="newer")
    IMAGE.push(client, image)

    newer.push(client, image)

    assert client.digest(image) == newer.digest
    assert client.manifest(image.at(IMAGE.digest)).body == IMAGE.body


def test_a_manifest_whose_blobs_are_missing_is_refused_for_now(place: Place) -> None:
    client, image = place.client(), place.image()
    client.push_blob(image.repository, IMAGE.config)

    with pytest.raises(CatalogError, match="MANIFEST_BLOB_UNKNOWN") as caught:
        client.put_manifest(image, IMAGE.body, IMAGE.media_type)

    assert caught.value.transient
    assert not caught.value.ambiguous
    assert client.look(image) is None


def test_a_manifest_that_is_none_is_refused_for_good(place: Place) -> None:
    client, image = place.client(), place.image()

    with pytest.raises(CatalogError, match="MANIFEST_INVALID") as caught:
        client.put_manifest(image, b"garbage", DOCKER_MANIFEST)

    assert not caught.value.transient
    assert caught.value.details["registry_response"]["errors"][0]["code"] == "MANIFEST_INVALID"


def test_a_blob_is_sent_once(place: Place) -> None:
    client, repository = place.client(), place.repository()

    assert client.push_blob(repository, IMAGE.layer) is True
    assert client.push_blob(repository, IMAGE.layer) is False


def test_a_blob_may_be_empty_or_large(place: Place) -> None:
    client, repository = place.client(), place.repository()
    large = bytes(range(256)) * 40_000
    for content in (b"x", large):
        client.push_blob(repository, content)
        descriptor = Descriptor("application/octet-stream", digest_of(content), len(content))
        assert client.blob(repository, descriptor, max_bytes=len(content)) == content
    with pytest.raises(CatalogError, match="more than the limit of 1000") as caught:
        client.blob(repository, descriptor, max_bytes=1000)
    assert not caught.value.transient


def test_a_blob_that_is_not_there_may_come(place: Place) -> None:
    with pytest.raises(CatalogError, match="BLOB_UNKNOWN") as caught:
        place.client().blob(place.repository(), Descriptor("text/plain", NOWHERE, 3), max_bytes=10)
    assert caught.value.transient


def test_a_blob_of_another_size_than_its_manifest_says_is_none(place: Place) -> None:
    client, repository = place.client(), place.repository()
    client.push_blob(repository, b"a blob")
    for size in (5, 7):
        with pytest.raises(CatalogError) as caught:
            client.blob(repository, Descriptor("text/plain", digest_of(b"a blob"), size), max_bytes=100)
        assert caught.value.transient


def test_it_answers_and_lets_the_account_in(place: Place) -> None:
    client, repository = place.client(), place.repository()

    client.ping(repository)
    client.check_account(repository)
    client.check_login(repository)
    assert client.has_login(repository) is needs_login(place)
    client.check_push(repository)

    assert client.tags(repository) is None, "a check makes no repository"


@pytest.mark.parametrize("credentials", [WRONG, None], ids=["wrong", "none"])
def test_it_lets_nobody_else_write(place: Place, credentials: Credentials | None) -> None:
    client, image = place.client(credentials), place.image()
    client.ping(image.repository)
    if not needs_login(place):
        client.check_push(image.repository)
        return
    for call in (
        lambda: client.check_push(image.repository),
        lambda: client.push_blob(image.repository, b"x"),
        lambda: client.put_manifest(image, IMAGE.body, IMAGE.media_type),
        lambda: client.look(image),
        lambda: client.digest(image),
        lambda: client.tags(image.repository),
        lambda: client.check_login(image.repository),
    ):
        with pytest.raises(CatalogAuthorizationError) as caught:
            call()
        assert caught.value.transient
        assert "not the password" not in f"{caught.value} {caught.value.details}"
    assert place.client().tags(image.repository) is None


def test_a_login_is_refused_if_the_credentials_are_wrong(place: Place) -> None:
    assert not place.client(None).has_login(place.repository())
    if not needs_login(place):
        return
    with pytest.raises(CatalogAuthorizationError, match=r"Failed to log in to the image registry .* answered 401"):
        place.client(WRONG).check_account(place.repository())


def test_a_refusal_without_credentials_says_that_none_are_configured(place: Place) -> None:
    if not needs_login(place):
        return
    hint = f"No login is configured for {place.host}: .* username .* auth_file"
    with pytest.raises(CatalogAuthorizationError, match=hint):
        place.client(None).look(place.image())
    with pytest.raises(CatalogAuthorizationError) as caught:
        place.client(WRONG).look(place.image())
    assert "No login is configured" not in caught.value.message


def test_credentials_that_are_renewed_are_used_at_once(place: Place) -> None:
    image, given = place.image(), [WRONG]
    client = place.client()
    client._calls.auth._keychain = lambda _: given[0]
    if needs_login(place):
        with pytest.raises(CatalogAuthorizationError):
            client.tags(image.repository)

    given[0] = place.client()._calls.auth._keychain(image.repository)
    IMAGE.push(client, image)

    assert client.digest(image) == IMAGE.digest


def test_reads_while_a_tag_moves_find_it_or_fail_for_now(place: Place) -> None:
    """The reference registry answers 500 to some of them."""
    image, images = place.image(), (IMAGE, SmallImage(extra="newer"))
    for each in images:
        each.push(place.client(), image)

    def write() -> None:
        client = place.client()
        for number in range(30):
            client.put_manifest(image, images[number % 2].body, images[number % 2].media_type)

    writer, client, seen, failures = threading.Thread(target=write), place.client(), set(), []
    writer.start()
    while writer.is_alive():
        try:
            seen.add(client.look(image).digest)
        except CatalogError as error:
            failures.append(error)
    writer.join()

    assert seen <= {each.digest for each in images}
    assert all(error.transient for error in failures), failures
    assert client.digest(image) == images[1].digest


def test_writers_in_many_threads_share_a_client(place: Place) -> None:
    client, image = place.client(), place.image()
    images = [SmallImage(extra=str(number)) for number in range(6)]
    threads = [
        threading.Thread(target=each.push, args=(client, ImageName(image.repository, f"v{number}")))
        for number, each in enumerate(images)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = {tag: client.digest(ImageName(image.repository, tag)) for tag in client.tags(image.repository)}
    assert found == {f"v{number}": each.digest for number, each in enumerate(images)}


def test_writers_of_one_image_do_not_disturb_each_other(place: Place) -> None:
    """As replicas that work on one build do; the reference registry then denies blobs that it has."""
    image, written, together = place.image(), [], threading.Barrier(4)

    def write() -> None:
        client = place.client()
        client.ping(image.repository)
        for number in range(3):
            each = SmallImage(extra=str(number))
            together.wait(30)
            written.append(each.push(client, image.at(each.digest)))

    threads = [threading.Thread(target=write) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(written) == 12
