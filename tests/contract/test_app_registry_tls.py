# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry over HTTPS: trusted when its certificate is, and told nothing when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from omps_worker.common.errors import QuayCourierError
from omps_worker.common.http_client import session
from omps_worker.destinations.app_registry.client import AppRegistry
from tests.support.certificates import self_signed
from tests.support.quay import BLOB, Quay


def test_a_site_may_bring_its_own_certificates(tmp_path: Path) -> None:
    trusted, tls = self_signed(tmp_path)
    with Quay(tls=tls) as quay:
        client = AppRegistry(quay.url, timeout=20, ca_bundle=trusted)

        client.push("community", "etcd", "1.0.0", BLOB, quay.robot)
        client.publish("community", "etcd", quay.oauth)

        assert [release.version for release in client.look("community", "etcd", None).releases] == ["1.0.0"]


def test_they_may_be_a_directory(tmp_path: Path) -> None:
    trusted, tls = self_signed(tmp_path)
    directory = tmp_path / "trusted"
    directory.mkdir()
    # What `openssl rehash` calls it: the hash of the subject's name, here "CN=loopback".
    (directory / "2101a20a.0").write_bytes(trusted.read_bytes())
    with Quay(tls=tls) as quay:
        client = AppRegistry(quay.url, timeout=20, ca_bundle=directory)

        client.push("community", "etcd", "1.0.0", BLOB, quay.robot)


def test_the_environment_may_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted, tls = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    session._context_as_of.cache_clear()
    try:
        with Quay(tls=tls) as quay:
            AppRegistry(quay.url, timeout=20).push("community", "etcd", "1.0.0", BLOB, quay.robot)
    finally:
        session._context_as_of.cache_clear()


def test_a_certificate_that_nobody_vouches_for_gets_no_credentials(tmp_path: Path) -> None:
    _, tls = self_signed(tmp_path)
    with Quay(tls=tls) as quay:
        with pytest.raises(QuayCourierError, match="no trusted certificate") as caught:
            quay.push()

        assert quay.log == []
    assert caught.value.transient
    assert not caught.value.ambiguous
