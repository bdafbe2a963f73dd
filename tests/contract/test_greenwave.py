# SPDX-License-Identifier: GPL-3.0-or-later
"""Gating by Greenwave: what is asked, and what every answer means."""

from __future__ import annotations

import json

import pytest

from omps_worker.common.errors import GreenwaveError, GreenwaveUnsatisfiedError
from omps_worker.publishing.gate import Greenwave
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.greenwave import VERSION, SandboxGreenwave

DECISION = "POST /api/v1.0/decision"
NVR = "etcd-container-1.0-1"


@pytest.fixture
def server():
    with SandboxGreenwave() as made:
        yield made


@pytest.fixture
def greenwave(server):
    return Greenwave(f"{server.url}/", "omps_push", "cvp", timeout=2.0)


def test_a_build_that_has_passed_passes(server, greenwave):
    greenwave.check(NVR)
    (asked,) = server.log
    assert asked.target == "/api/v1.0/decision"


def test_it_is_asked_what_omps_asked(server, greenwave):
    asked = []
    answer = server.answer
    server.answer = lambda request: asked.append(request.json()) or answer(request)
    greenwave.check(NVR)
    assert asked == [
        {
            "decision_context": "omps_push",
            "product_version": "cvp",
            "subject_identifier": NVR,
            "subject_type": "koji_build",
        }
    ]


def test_a_build_that_has_not_passed_is_named_with_the_whole_answer(server, greenwave):
    server.unsatisfied.add(NVR)
    with pytest.raises(GreenwaveUnsatisfiedError) as caught:
        greenwave.check(NVR)
    assert NVR in caught.value.message
    assert caught.value.details["greenwave_response"]["policies_satisfied"] is False
    assert not caught.value.transient


@pytest.mark.parametrize("headers", [{}, {"Location": "/sign-in"}])
def test_one_that_redirects_is_neither_asked_nor_there(server, greenwave, headers):
    server.faults.add(Fault("(POST|GET) /api", status=302, headers=headers, times=None))
    for ask in (lambda: greenwave.check(NVR), greenwave.version, greenwave.is_there):
        with pytest.raises(GreenwaveError, match=f"redirects to {server.url}/sign-in" if headers else "302") as caught:
            ask()
        assert caught.value.transient
    assert not any("sign-in" in asked.target for asked in server.log)


@pytest.mark.parametrize("value", ["true", 1, None, [True]])
def test_only_true_will_do(server, greenwave, value):
    server.faults.add(Fault(DECISION, status=200, body={"policies_satisfied": value}))
    with pytest.raises(GreenwaveUnsatisfiedError):
        greenwave.check(NVR)


@pytest.mark.parametrize(
    ("fault", "transient", "response"),
    [
        ({"status": 500}, True, {}),
        ({"status": 503, "body": {"message": "later"}}, True, {"message": "later"}),
        ({"status": 429, "body": "slow down"}, True, {}),
        ({"status": 401, "body": "log in"}, True, {}),
        ({"status": 403, "body": "no"}, True, {}),
        ({"status": 404, "body": {"message": "no such policy"}}, True, {"message": "no such policy"}),
        ({"status": 400, "body": "<html>?</html>"}, False, {}),
        ({"status": 200, "body": {"summary": "no key"}}, True, {"summary": "no key"}),
        ({"status": 200, "body": json.dumps([True])}, True, {}),
        ({"status": 200, "body": "<html>?</html>"}, True, {}),
        ({"drop": True}, True, {}),
        ({"delay": 30.0}, True, {}),
    ],
    ids=str,
)
def test_what_is_no_decision_is_an_error_that_knows_whether_waiting_helps(server, fault, transient, response):
    server.faults.add(Fault(DECISION, times=None, **fault))
    with pytest.raises(GreenwaveError) as caught:
        Greenwave(server.url, "c", "p", timeout=0.5).check(NVR)
    assert caught.value.transient is transient
    assert caught.value.details == {"greenwave_response": response}


def test_it_is_there_as_long_as_it_answers(server, greenwave):
    greenwave.is_there()
    server.faults.add(Fault("GET /api/v1.0/about", status=404))
    greenwave.is_there()
    server.faults.add(Fault("GET /api/v1.0/about", status=502))
    with pytest.raises(GreenwaveError, match="502"):
        greenwave.is_there()


def test_it_says_its_version(server, greenwave):
    assert greenwave.version() == VERSION
    server.faults.add(Fault("GET /api/v1.0/about", status=200, body={"version": None}))
    with pytest.raises(GreenwaveError):
        greenwave.version()


@pytest.mark.parametrize("levels", [100, 500, 5_000, 100_000])
@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_answer_nested_however_deep_ends_as_greenwaves_error(server, greenwave, status, levels):
    pad = '"pad": "' + "x" * 70_000 + '"'
    body = '{"policies_satisfied": false, ' + pad + ', "n": ' + "[" * levels + "]" * levels + "}"
    server.faults.add(Fault(DECISION, status=status, body=body.encode()))
    with pytest.raises((GreenwaveError, GreenwaveUnsatisfiedError)) as caught:
        greenwave.check(NVR)
    error = caught.value
    assert isinstance(error, GreenwaveError) or (status, levels) == (200, 100)
    assert error.transient is (status == 503 or (status == 200 and levels > 100))
    json.dumps(error.details)


@pytest.mark.parametrize("levels", [500, 5_000, 100_000])
def test_a_version_nested_however_deep_is_none(server, greenwave, levels):
    server.faults.add(Fault("GET /api/v1.0/about", body=b'{"version": ' + b"[" * levels + b"]" * levels + b"}"))
    with pytest.raises(GreenwaveError, match="without a version"):
        greenwave.version()
