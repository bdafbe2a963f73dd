# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting releases of packages."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import (
    OMPSInvalidVersionFormat,
    QuayAuthorizationError,
    QuayPackageError,
    QuayPackageNotFound,
)
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.common.model import Status
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.deletions import Deleter
from omps_worker.destinations.app_registry.package import Credentials, PackageLocation
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import tar_gz

DELETE = "DELETE /cnr/api/v1/packages/.*"


@pytest.fixture
def registry():
    with SandboxRegistry() as made:
        made.add_organization("community")
        for version in ("1.0.0", "2.0.0", "10.0.0"):
            made.add_release("community", "etcd", version, tar_gz(version))
        yield made


@pytest.fixture
def place(registry):
    return PackageLocation("community", "etcd", Credentials(SecretStr(registry.add_robot("community", role="admin"))))


@pytest.fixture
def deleter(registry):
    return Deleter(AppRegistry(registry.url, timeout=2.0), ProcessLock())


def versions(registry):
    return {release.version for release in registry.releases("community", "etcd")}


def told(outcomes):
    return [(outcome.status.value, outcome.version) for outcome in outcomes]


def test_one_release_is_deleted(registry, deleter, place):
    assert told(deleter.delete(place, "2.0.0")) == [("deleted", "2.0.0")]
    assert versions(registry) == {"1.0.0", "10.0.0"}


def test_how_long_a_deletion_took_is_known(deleter, place):
    (outcome,) = deleter.delete(place, "2.0.0")
    assert outcome.seconds["delete"] > 0


def test_all_releases_are_deleted_and_the_repository_stays(registry, deleter, place):
    assert told(deleter.delete(place)) == [("deleted", "1.0.0"), ("deleted", "10.0.0"), ("deleted", "2.0.0")]
    assert versions(registry) == set()
    assert registry.packages() == (("community", "etcd"),)


def test_versions_of_any_form_can_be_deleted(registry, deleter, place):
    odd = ["v1", "1.0", "latest", "a b", "100%", "1.0.0+x"]
    for version in odd:
        registry.add_release("community", "etcd", version, tar_gz(version))
    for version in odd:
        assert told(deleter.delete(place, version)) == [("deleted", version)]
    assert versions(registry) == {"1.0.0", "2.0.0", "10.0.0"}


@pytest.mark.parametrize("version", ["3.0.0", "..", "../../1.0.0", "x" * 300, "\n"])
def test_what_does_not_exist_is_not_found(registry, deleter, place, version):
    with pytest.raises(QuayPackageNotFound):
        deleter.delete(place, version)
    assert len(versions(registry)) == 3


def test_a_package_without_releases_or_without_existence_is_not_found(registry, deleter, place):
    deleter.delete(place)
    with pytest.raises(QuayPackageNotFound):
        deleter.delete(place)
    with pytest.raises(QuayPackageNotFound):
        deleter.delete(PackageLocation("community", "nothing", place.credentials))


def test_who_may_not_see_the_package_is_told_so(registry, deleter):
    stranger = PackageLocation("community", "etcd", Credentials(SecretStr(registry.add_user("stranger"))))
    with pytest.raises(QuayAuthorizationError, match="Unauthorized access"):
        deleter.delete(stranger)
    assert len(versions(registry)) == 3


def test_one_failure_does_not_keep_the_others(registry, deleter, place):
    registry.faults.add(Fault(DELETE, status=500, after=1))
    outcomes = deleter.delete(place)
    assert told(outcomes) == [("deleted", "1.0.0"), ("failed", "10.0.0"), ("deleted", "2.0.0")]
    assert isinstance(outcomes[1].error, QuayPackageError)
    assert versions(registry) == {"10.0.0"}


def test_what_somebody_else_deletes_meanwhile_is_deleted(registry, deleter, place):
    registry.faults.add(Fault(DELETE, drop_answer=True))
    (lost,) = deleter.delete(place, "1.0.0")
    assert lost.status is Status.FAILED
    assert lost.error.transient
    registry.faults.add(Fault(DELETE, status=404, body={"error": {"code": "not-found", "message": "x", "details": {}}}))
    assert told(deleter.delete(place, "2.0.0")) == [("deleted", "2.0.0")]


def test_a_name_that_is_none_is_refused(deleter, place):
    with pytest.raises((QuayPackageError, OMPSInvalidVersionFormat)):
        deleter.delete(PackageLocation("..", "etcd", place.credentials))


def test_what_would_be_deleted_can_be_asked(registry, deleter, place):
    assert deleter.versions(place, None) == ("1.0.0", "10.0.0", "2.0.0")
    assert deleter.versions(place, "1.0.0") == ("1.0.0",)
    assert len(versions(registry)) == 3
