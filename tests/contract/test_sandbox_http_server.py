# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server under the sandbox's Koji and registry, and the ways it misbehaves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.http_server import HttpServer, Request, Response
from tests.support.waiting import wait_until


class Counter:
    """Something to ask for whose effect can be seen."""

    def __init__(self) -> None:
        self.value = 0

    def answer(self, request: Request) -> Response:
        if request.method == "POST":
            self.value += 1
        return Response.json({"value": self.value, "path": request.segments, "query": dict(request.query)})


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def server(counter: Counter) -> Iterator[HttpServer]:
    with HttpServer(counter.answer) as running:
        yield running


def test_a_request_is_decoded_and_answered(server: HttpServer) -> None:
    answer = requests.get(server.url + "/a%2Fb/c?x=1&y=", timeout=5)

    assert answer.json() == {"value": 0, "path": ["a/b", "c"], "query": {"x": "1", "y": ""}}
    assert answer.headers["Content-Type"] == "application/json"


def test_one_connection_serves_many_requests(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_log_names_requests_but_no_credentials(server: HttpServer) -> None:
    requests.post(server.url + "/x?y=z", headers={"Authorization": "basic c2VjcmV0"}, data=b"secret", timeout=5)

    assert [(entry.method, entry.target, entry.status) for entry in server.log] == [("POST", "/x?y=z", 200)]
    assert "secret" not in repr(server.log)
    assert "c2VjcmV0" not in repr(server.log)


def test_an_answer_that_breaks_is_a_500(server: HttpServer) -> None:
    server.answer = lambda request: Response.json(object())

    assert requests.get(server.url, timeout=5).status_code == 500


def test_a_large_body_is_413_and_the_client_sees_it(counter: Counter) -> None:
    with HttpServer(counter.answer, max_body=1000) as server:
        assert requests.post(server.url, data=b"x" * 5_000_000, timeout=5).status_code == 413
        assert requests.post(server.url, data=b"x" * 1000, timeout=5).status_code == 200
    assert counter.value == 1


def test_a_status_fault_comes_after_the_good_ones_and_ends(server: HttpServer, counter: Counter) -> None:
    fault = server.faults.add(
        Fault("POST /x", status=503, body="<h1>busy</h1>", headers={"Retry-After": "7"}, times=2, after=1)
    )

    answers = [requests.post(server.url + "/x", timeout=5) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert answers[1].text == "<h1>busy</h1>"
    assert counter.value == 2
    assert server.faults.fired(fault) == 2


def test_a_fault_befalls_only_what_it_matches(server: HttpServer) -> None:
    server.faults.add(Fault("GET /x", status=500, times=None))

    assert requests.get(server.url + "/y", timeout=5).status_code == 200
    assert requests.post(server.url + "/x", timeout=5).status_code == 200
    assert requests.get(server.url + "/x/z", timeout=5).status_code == 500
    server.faults.clear()
    assert requests.get(server.url + "/x", timeout=5).status_code == 200


def test_a_proxy_may_answer_500_although_the_request_had_its_effect(server: HttpServer, counter: Counter) -> None:
    server.faults.add(Fault("POST", status=502, effect=True))

    assert requests.post(server.url, timeout=5).status_code == 502
    assert counter.value == 1


def test_a_lying_server_replaces_the_body(server: HttpServer, counter: Counter) -> None:
    server.faults.add(Fault("POST", body={"status": "no"}))

    answer = requests.post(server.url, timeout=5)

    assert (answer.status_code, answer.json()) == (200, {"status": "no"})
    assert counter.value == 1


@pytest.mark.parametrize(("fault", "effects"), [(Fault("POST", drop=True), 0), (Fault("POST", drop_answer=True), 1)])
def test_a_dropped_connection_may_or_may_not_have_had_its_effect(
    server: HttpServer, counter: Counter, fault: Fault, effects: int
) -> None:
    server.faults.add(fault)

    with pytest.raises(requests.ConnectionError):
        requests.post(server.url, timeout=5)

    assert counter.value == effects
    assert server.log[0].status is None


def test_a_truncated_answer_ends_in_the_middle(server: HttpServer) -> None:
    server.faults.add(Fault("GET", truncate=True))

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(server.url, timeout=5)


def test_a_dripped_answer_arrives_whole_but_slowly(server: HttpServer) -> None:
    server.faults.add(Fault("GET", status=200, body=b"abc", drip=0.001))

    started = time.monotonic()
    assert requests.get(server.url, timeout=5).content == b"abc"
    assert time.monotonic() - started > 0.09, "about 100 bytes of head and body, a millisecond each"


def test_a_held_request_has_its_effect_when_it_is_let_go_even_without_its_client(
    server: HttpServer, counter: Counter
) -> None:
    gate = threading.Event()
    fault = server.faults.add(Fault("POST", hold=gate))

    with pytest.raises(requests.Timeout):
        requests.post(server.url, timeout=0.1)

    assert server.faults.fired(fault) == 1
    assert counter.value == 0
    gate.set()
    wait_until(lambda: counter.value == 1)


def test_an_answer_can_be_held_after_the_effect(server: HttpServer, counter: Counter) -> None:
    server.faults.add(Fault("POST", hold_answer=threading.Event()))

    with pytest.raises(requests.Timeout):
        requests.post(server.url, timeout=0.1)

    assert counter.value == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", delay=60),
        Fault("GET", hold=threading.Event()),
        Fault("GET", delay_answer=60),
        Fault("GET", drip=60),
    ],
    ids=["delay", "hold", "delay_answer", "drip"],
)
def test_a_stop_cuts_everything_short_and_leaves_no_thread(counter: Counter, fault: Fault) -> None:
    before = set(threading.enumerate())
    cut = threading.Event()

    def ask() -> None:
        try:
            requests.get(running.url, timeout=30)
        except requests.ConnectionError:
            cut.set()

    with HttpServer(counter.answer) as running:
        idle = socket.create_connection(("127.0.0.1", running.port), timeout=5)
        running.faults.add(fault)
        client = threading.Thread(target=ask)
        client.start()
        wait_until(lambda: running.faults.fired(fault))
        started = time.monotonic()
    assert time.monotonic() - started < 5
    client.join(5)
    assert cut.is_set()
    idle.close()
    assert set(threading.enumerate()) <= before


def test_a_stopped_server_refuses_and_comes_back_on_its_port(counter: Counter) -> None:
    with HttpServer(counter.answer) as server:
        url = server.url
        server.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
        server.start()
        assert server.url == url
        assert requests.get(url, timeout=5).status_code == 200
