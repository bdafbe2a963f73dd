# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API where there is a broker: its results are on the bus, and its locks are everybody's."""

from __future__ import annotations

from typing import Any

import pytest

from omps_worker.broker.locks.lock import BrokerLock
from omps_worker.sandbox import operators
from omps_worker.sandbox.site import TOPIC_PREFIX
from tests.support.api import ApiServer, serve
from tests.support.bus import where
from tests.support.site import results_of

NESTED = operators.zip_of(operators.nested_operator("otter-cache"))


@pytest.fixture
def server(site, tmp_path):
    token = (site.directory / "secrets" / "partners").read_text().strip()
    top = {"amqp_url": site.amqp_url, "topic_prefix": TOPIC_PREFIX}
    with serve(tmp_path, site.koji, site.registry, token, top=top) as made:
        yield made


def push(server: ApiServer):
    return server.upload("/v2/partners/zipfile", NESTED)


def test_pushes_and_deletions_are_announced(site, server):
    with site.watching() as watch:
        assert push(server).json()["version"] == "1.0.0"
        assert server.upload("/v2/partners/zipfile/1.0.0", NESTED).status_code == 500
        assert server.delete("/v2/partners/otter-cache").json()["deleted"] == ["1.0.0"]
        published, failed, deleted = results_of(watch, 3)
    assert (published["status"], published["version"], published["build"]) == ("published", "1.0.0", None)
    assert (failed["status"], failed["error"]["name"]) == ("failed", "QuayCourierError")
    assert (deleted["status"], deleted["repo"], deleted["version"]) == ("deleted", "otter-cache", "1.0.0")
    assert server.token.partition(" ")[2] not in str(watch.results)


def test_the_lock_is_the_brokers(site, server):
    lock = BrokerLock(where(site.amqp_url), patience=0.1)
    try:
        with lock.hold(site.registry.url, "partners", "otter-cache") as hold:
            hold.begin_push()
            hold.end_push()
            server.site._lock._patience = 0.2
            reply = push(server)
        assert (reply.status_code, reply.json()["error"]) == (503, "PackageBusy")
        assert reply.headers["Retry-After"]
        assert push(server).status_code == 200
    finally:
        lock.close()


def test_a_broker_that_is_away_is_told_and_nothing_is_pushed(site, tmp_path):
    top = {"amqp_url": "amqp://guest:s3cret@127.0.0.1:1/%2F?connection_attempts=1", "topic_prefix": TOPIC_PREFIX}
    token = (site.directory / "secrets" / "partners").read_text().strip()
    with serve(tmp_path, site.koji, site.registry, token, top=top) as server:
        link: Any = server.site._lock
        link._link._answer_seconds = 0.3
        reply = push(server)
        assert (reply.status_code, reply.json()["error"]) == (503, "BrokerUnavailable")
        assert "s3cret" not in reply.text
        assert "127.0.0.1" not in reply.text
    assert site.registry.packages() == ()
