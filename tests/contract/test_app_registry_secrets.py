# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials stay between the client and the registry, whatever the registry does with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import RegistryError
from omps_worker.sandbox.faults import Fault
from tests.support.quay import PUBLISH, Quay

PASSWORD = "s3cr3t/Passw0rd+x"
OAUTH = SecretStr("oauth-S3CR3T-token")


def body_that_repeats(leak: str, form: str) -> object:
    deep: object = leak
    for _ in range(40):
        deep = {"message": leak, "error": deep}
    return {
        "wrapped": {"error": {"code": leak, "message": leak, "details": {"x": [leak, {"y": leak}]}}},
        "string": {"error": leak},
        "key": {"message": "x", leak: leak},
        "html": f"<html>{leak}</html>",
        "title": f"<title>{leak}</title>",
        "text": leak.encode(),
        "deep": deep,
    }[form]


@pytest.mark.parametrize("status", [200, 401, 403, 404, 409, 422, 500])
@pytest.mark.parametrize("form", ["wrapped", "string", "key", "html", "title", "text", "deep"])
def test_a_server_that_repeats_a_credential_does_not_get_it_into_an_error(status: int, form: str) -> None:
    with Quay(password=PASSWORD) as quay:
        value = quay.robot.get_secret_value()
        leak = body_that_repeats(f"you sent {value} {PASSWORD}", form)
        quay.faults.add(Fault("(GET|POST) /cnr", status=status, body=leak, times=None))  # type: ignore[arg-type]
        oauth_leak = body_that_repeats(f"you sent {OAUTH.get_secret_value()}", form)
        quay.faults.add(Fault(PUBLISH, status=status, body=oauth_leak, times=None))  # type: ignore[arg-type]

        told = [
            told_by(quay.look),
            told_by(quay.push),
            told_by(lambda: quay.client.publish("community", "etcd", OAUTH)),
            told_by(lambda: quay.client.check_credentials(quay.robot)),
        ]

    assert all(told[1:3]), "no push and no publication can have gone well"
    encoded = value.partition(" ")[2].rstrip("=")
    for secret in (PASSWORD, encoded, OAUTH.get_secret_value()):
        assert secret not in "".join(told)
    if form in ("wrapped", "string", "title", "text"):
        assert "you sent ***" in told[1], "the rest of the words stays"


def told_by(call: Callable[[], object]) -> str:
    """Everything that a call says when it fails, or its result."""
    try:
        return repr(call())
    except RegistryError as error:
        return f"{error} {error!r} {error.message} {error.details} {error.__cause__!r}"


def test_no_log_and_no_representation_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"), Quay(password=PASSWORD) as quay:
        quay.push()
        quay.publish()
        quay.client.check_credentials(quay.robot)
        quay.look()
        shown = caplog.text + repr(quay.client) + repr(vars(quay.client)) + repr(quay.log)

    assert quay.log
    for secret in (PASSWORD, quay.robot.get_secret_value().partition(" ")[2], quay.oauth.get_secret_value()):
        assert secret not in shown
