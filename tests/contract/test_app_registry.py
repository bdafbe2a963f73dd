# SPDX-License-Identifier: GPL-3.0-or-later
"""What the client may rely on, whichever registry it speaks to: our stand-in or the real reference server.

The reference server knows no credentials, no privacy and no changevisibility, and does not wrap
its errors. Where that shows, a test says so.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from omps_worker.common.errors import OMPSInvalidVersionFormat, QuayCourierError, QuayPackageError
from omps_worker.destinations.app_registry.client import AppRegistry, PackageListing
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from tests.support.blobs import digest_of, tar_gz
from tests.support.cnr import CnrServer


class Ground:
    """A registry with an organization in which one may push."""

    def __init__(self, url: str, organization: str, authorization: str) -> None:
        self.client = AppRegistry(url, timeout=20)
        self.organization = organization
        self.authorization = SecretStr(authorization)

    def look(self, repository: str) -> PackageListing:
        return self.client.look(self.organization, repository, self.authorization)

    def push(self, repository: str, version: str, blob: bytes) -> None:
        self.client.push(self.organization, repository, version, blob, self.authorization)

    def raw(self, method: str, rest: str, **more: object) -> requests.Response:
        """A call that the client does not make."""
        return requests.request(
            method,
            f"{self.client.url}/cnr/api/v1/packages/{self.organization}/{rest}",
            headers={"Authorization": self.authorization.get_secret_value()},
            timeout=20,
            **more,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def reference_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    storage: Path = tmp_path_factory.mktemp("cnr")
    with CnrServer(storage) as server:
        yield server.url


@pytest.fixture(params=["sandbox", "reference"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    organization = f"org{uuid.uuid4().hex[:8]}"
    if request.param == "reference":
        # It asks nobody who they are; a credential does no harm.
        yield Ground(request.getfixturevalue("reference_server"), organization, "basic dXNlcjpwYXNz")
        return
    with SandboxRegistry() as registry:
        registry.add_organization(organization)
        yield Ground(registry.url, organization, registry.add_robot(organization))


def test_the_protocol_has_a_version(ground: Ground) -> None:
    assert ground.client.version() == "cnr-api 0.2.7"


def test_a_package_that_was_never_pushed_has_no_releases(ground: Ground) -> None:
    package = ground.look("etcd")

    # The reference server says that it is missing, Quay does not say so to a robot without rights on it.
    assert package.exists is not True
    assert package.releases == ()


def test_what_was_pushed_is_listed_with_the_digest_of_its_tar(ground: Ground) -> None:
    blob = tar_gz("one")

    ground.push("etcd", "1.0.0", blob)

    package = ground.look("etcd")
    assert package.exists is True
    assert [(release.version, release.digest) for release in package.releases] == [("1.0.0", digest_of(blob))]
    assert package.releases[0].created_at is not None
    assert ground.raw("GET", "etcd/1.0.0/helm/pull").content == blob


@pytest.mark.parametrize("size", [1_000, 500_000])
def test_asking_whether_so_many_bytes_are_taken_changes_nothing_and_is_in_nobody_s_way(
    ground: Ground, size: int
) -> None:
    for _ in range(3):
        ground.client.foresee(ground.organization, "etcd", "1.0.0", bytes(size))
        assert ground.look("etcd").releases == ()
        assert ground.client.version() == "cnr-api 0.2.7"

    ground.push("etcd", "1.0.0", tar_gz("one"))


def test_every_release_is_listed(ground: Ground) -> None:
    # No "1.0.0+build": the reference server takes it for the same version when it lists.
    versions = ["1.0.0", "2.0.0", "10.0.0", "1.0.0-rc1", "1.2.3"]
    for version in versions:
        ground.push("etcd", version, tar_gz(version))

    assert {(release.version, release.digest) for release in ground.look("etcd").releases} == {
        (version, digest_of(tar_gz(version))) for version in versions
    }


def test_one_content_may_be_released_twice(ground: Ground) -> None:
    for version in ("1.0.0", "2.0.0"):
        ground.push("etcd", version, tar_gz("same"))

    assert {release.digest for release in ground.look("etcd").releases} == {digest_of(tar_gz("same"))}


def test_packages_do_not_mix(ground: Ground) -> None:
    ground.push("etcd", "1.0.0", tar_gz("etcd"))
    ground.push("a.b_c-d", "2.0.0", tar_gz("other"))

    assert [release.version for release in ground.look("etcd").releases] == ["1.0.0"]
    assert [release.version for release in ground.look("a.b_c-d").releases] == ["2.0.0"]


def test_a_version_that_exists_is_a_conflict(ground: Ground) -> None:
    ground.push("etcd", "1.0.0", tar_gz("first"))

    with pytest.raises(QuayCourierError, match="ackage exists already") as caught:
        ground.push("etcd", "1.0.0", tar_gz("second"))

    assert caught.value.conflict
    assert not caught.value.ambiguous
    assert not caught.value.transient
    response = caught.value.details["quay_response"]
    assert response.get("error", response)["code"] == "package-exists"
    assert [release.digest for release in ground.look("etcd").releases] == [digest_of(tar_gz("first"))]


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "01.0.0", "latest", "1.0.0.0"])
def test_a_version_that_is_none_is_refused_for_good(ground: Ground, version: str) -> None:
    with pytest.raises(QuayCourierError, match="Invalid") as caught:
        ground.push("etcd", version, tar_gz("x"))

    assert not caught.value.transient
    assert not caught.value.conflict
    assert not caught.value.ambiguous
    assert version in caught.value.message
    assert ground.look("etcd").releases == ()


@pytest.mark.parametrize("version", ["", "1.0.0\n", " 1.0.0", "1.0.0/../2", "1" * 101])
def test_a_version_that_could_do_harm_is_not_even_sent(ground: Ground, version: str) -> None:
    ground.push("etcd", "3.0.0", tar_gz("x"))

    with pytest.raises(OMPSInvalidVersionFormat):
        ground.push("etcd", version, tar_gz("y"))

    assert [release.version for release in ground.look("etcd").releases] == ["3.0.0"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a%2Fb", "a\nb", "é", "a?b", "x" * 256, "-a"])
def test_a_name_that_is_none_never_becomes_a_path(ground: Ground, name: str) -> None:
    for call in (
        lambda: ground.look(name),
        lambda: ground.push(name, "1.0.0", tar_gz("x")),
        lambda: ground.client.look(name, "etcd", ground.authorization),
        lambda: ground.client.publish(ground.organization, name, SecretStr("token")),
    ):
        with pytest.raises(QuayPackageError, match="is not a valid name of") as caught:
            call()
        assert not caught.value.transient


def test_a_package_whose_releases_were_deleted_is_empty_but_exists(ground: Ground) -> None:
    ground.push("etcd", "1.0.0", tar_gz("one"))
    ground.push("etcd", "2.0.0", tar_gz("two"))

    assert ground.raw("DELETE", "etcd/2.0.0/helm").json()["status"] == "deleted"
    assert [release.version for release in ground.look("etcd").releases] == ["1.0.0"]

    ground.raw("DELETE", "etcd/1.0.0/helm")
    assert ground.look("etcd") == PackageListing(True, ())

    ground.push("etcd", "2.0.0", tar_gz("again"))
    assert [release.digest for release in ground.look("etcd").releases] == [digest_of(tar_gz("again"))]


def test_another_kind_of_package_occupies_its_version_but_holds_none_of_our_content(ground: Ground) -> None:
    blob = base64.b64encode(tar_gz("chart")).decode()
    assert ground.raw("POST", "etcd", json={"blob": blob, "release": "5.0.0", "media_type": "kpm"}).ok

    assert [(release.version, release.digest) for release in ground.look("etcd").releases] == [("5.0.0", None)]


def test_threads_share_a_client(ground: Ground) -> None:
    def one(number: int) -> int:
        ground.push(f"package{number}", "1.0.0", tar_gz(str(number)))
        return len(ground.look(f"package{number}").releases)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [1] * 8


def test_the_reference_server_can_neither_publish_nor_tell_credentials(reference_server: str) -> None:
    client = AppRegistry(reference_server, timeout=20)

    with pytest.raises(QuayPackageError, match="does not support it") as caught:
        client.publish("community", "etcd", SecretStr("oauth-token-0123"))
    verdict = client.check_credentials(SecretStr("basic dXNlcjpwYXNz"))

    assert caught.value.transient
    assert verdict.accepted is None
    assert "cannot check credentials" in verdict.detail
