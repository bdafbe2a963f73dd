# SPDX-License-Identifier: GPL-3.0-or-later
"""``[consumer_config.broker]``: further nodes, and one place for the password."""

from __future__ import annotations

import pytest

from tests.support.certificates import self_signed
from tests.support.configuration import faults, settings

OURS = "consumer_config.broker"
WITHOUT = {"amqp_url": "amqp://worker@localhost/"}


@pytest.mark.parametrize(
    "host", ["", ":5671", "one two", "one:0", "one:65536", "one:x", "amqps://one", "user@one", "a/b", 5]
)
def test_a_host_that_is_none_is_a_fault(tmp_path, host):
    assert any(
        key.startswith(f"{OURS}.hosts[1]") for key in faults(tmp_path, {f"{OURS}.hosts": ["one.example.com", host]})
    )


def test_the_password_comes_from_one_place(tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    file, variable = {f"{OURS}.password_file": "password"}, {f"{OURS}.password_env": "BROKER_PASSWORD"}
    assert "second source" in faults(tmp_path, file)[f"{OURS}.password_file"]
    assert "two sources" in faults(tmp_path, {**WITHOUT, **file, **variable})[OURS]
    nobody = {"amqp_url": "amqp://localhost/", **file}
    assert "requires a user" in faults(tmp_path, nobody)[f"{OURS}.password_file"]
    assert settings(tmp_path, {**WITHOUT, **file}).broker_url == "amqp://worker:s3cret@localhost/"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff", b"x" * 70_000, None])
def test_a_password_file_must_hold_one(tmp_path, content):
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    assert f"{OURS}.password_file" in faults(tmp_path, {**WITHOUT, f"{OURS}.password_file": "password"})


def test_a_password_from_the_environment_must_be_there(tmp_path):
    changes = {**WITHOUT, f"{OURS}.password_env": "BROKER_PASSWORD"}
    told = "the environment variable BROKER_PASSWORD is not set, or is empty"
    assert faults(tmp_path, changes)[f"{OURS}.password_env"] == told
    ours = settings(tmp_path, changes, environment={"BROKER_PASSWORD": "a/b@c\n"})
    assert ours.broker_url == "amqp://worker:a%2Fb%40c@localhost/"
    assert "a/b@c" not in repr(ours)


def test_a_password_in_the_urls_environment_variable_beats_the_others(tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    changes = {**WITHOUT, f"{OURS}.password_file": "password"}
    given = {"OMPS_WORKER_AMQP_URL": "amqp://worker:from-there@elsewhere/"}
    assert settings(tmp_path, changes, environment=given).broker_url == given["OMPS_WORKER_AMQP_URL"]
    without = {"OMPS_WORKER_AMQP_URL": "amqp://worker@elsewhere/"}
    assert settings(tmp_path, changes, environment=without).broker_url == "amqp://worker:s3cret@elsewhere/"


def test_a_password_that_a_certificate_makes_useless_is_doubted(tmp_path):
    trusted, _ = self_signed(tmp_path)
    (tmp_path / "password").write_text("s3cret\n")
    tls = {"certfile": str(trusted), "keyfile": str(tmp_path / "key.pem")}
    changes = {"amqp_url": "amqps://worker@localhost/", "tls": tls, f"{OURS}.password_file": "password"}
    assert OURS in {warning.key for warning in settings(tmp_path, changes).warnings}
