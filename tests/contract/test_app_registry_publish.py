# SPDX-License-Identifier: GPL-3.0-or-later
"""Making packages public."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import QuayPackageError
from omps_worker.sandbox.faults import Fault
from tests.support.quay import BLOB, PUBLISH, Quay


@pytest.fixture
def quay() -> Iterator[Quay]:
    with Quay() as registry:
        yield registry


def test_a_package_becomes_public_and_stays_so(quay: Quay) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB)

    quay.publish()
    quay.publish()

    assert quay.is_public("community", "etcd") is True


def test_a_repository_that_is_missing_is_an_error_although_the_answer_is_200(quay: Quay) -> None:
    with pytest.raises(QuayPackageError, match="there is no such repository") as caught:
        quay.publish()

    assert caught.value.transient


def test_a_token_that_is_unknown_is_named_as_the_cause(quay: Quay) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB)

    with pytest.raises(QuayPackageError, match=r"has expired, is wrong.*CSRF token was invalid") as caught:
        quay.client.publish("community", "etcd", SecretStr("unknown-token"))

    assert caught.value.details == {"quay_response": {"error": "CSRF token was invalid or missing."}}
    assert caught.value.transient
    assert quay.is_public("community", "etcd") is False


@pytest.mark.parametrize(
    "token",
    [
        lambda quay: quay.add_oauth_token("community", expired=True),
        lambda quay: quay.add_oauth_token("community", scopes=["repo:write"]),
        lambda quay: (quay.add_user("stranger"), quay.add_oauth_token("stranger"))[1],
        lambda quay: quay.add_robot("community"),
    ],
    ids=["expired", "scope too small", "of a stranger", "robot"],
)
def test_a_token_without_the_right_is_refused(quay: Quay, token: Callable[[Quay], str]) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB)

    with pytest.raises(QuayPackageError, match="lacks the scope repo:admin") as caught:
        quay.client.publish("community", "etcd", SecretStr(token(quay)))

    assert caught.value.transient
    assert quay.is_public("community", "etcd") is False


@pytest.mark.parametrize(
    "fault",
    [
        Fault(PUBLISH, status=402, body={"error_type": "exceeds_license", "error_message": "Pay"}),
        Fault(PUBLISH, status=400, body={"detail": "Missing JSON body"}),
        Fault(PUBLISH, status=404, body="<title>404</title>"),
        Fault(PUBLISH, status=200, body={"success": False}),
        Fault(PUBLISH, status=200, body="<title>Sign in</title>"),
        Fault(PUBLISH, status=500),
        Fault(PUBLISH, status=429),
        Fault(PUBLISH, drop=True),
        Fault(PUBLISH, drop_answer=True),
    ],
)
def test_whatever_goes_wrong_is_a_package_error_of_the_site(quay: Quay, fault: Fault) -> None:
    quay.add_release("community", "etcd", "1.0.0", BLOB)
    quay.faults.add(fault)

    with pytest.raises(QuayPackageError, match="Failed to make community/etcd public: ") as caught:
        quay.publish()

    assert caught.value.transient
    quay.publish()
    assert quay.is_public("community", "etcd") is True
