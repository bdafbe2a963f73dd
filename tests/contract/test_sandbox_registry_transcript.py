# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's registry answers as Quay's own code did when it was recorded."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from omps_worker.sandbox.app_registry.server import SandboxRegistry
from tests.support.blobs import tar_gz
from tests.support.transcript import Exchange, exchanges

RECORDED = list(exchanges())


@pytest.fixture
def quay() -> Iterator[Quay]:
    with SandboxRegistry() as registry:
        yield Quay(registry)


class Quay:
    """The registry of the recording, and who spoke to it."""

    def __init__(self, registry: SandboxRegistry) -> None:
        self.registry = registry
        owner = registry.add_user("ompsadmin", "password1")
        registry.add_organization("community", "ompsadmin")
        registry.add_image_repository("community", "img")
        self.robot_password = "ROBOTSECRET"
        robot = registry.add_robot("community", "push", self.robot_password, role="creator")
        self.callers = {
            "(none)": None,
            "<robot community+push, team role creator>": robot,
            "<robot community+nope, no rights>": registry.add_robot("community", "nope", role="none"),
            "<user ompsadmin, owner of community>": owner,
            "<user stranger>": registry.add_user("stranger"),
            "<ompsadmin with a wrong password>": "basic " + base64.b64encode(b"ompsadmin:wrong").decode(),
            "nonsense": "nonsense",
        }
        self.oauth = {
            "scope repo:read": registry.add_oauth_token("ompsadmin", scopes=["repo:read"]),
            "scope repo:write": registry.add_oauth_token("ompsadmin", scopes=["repo:read", "repo:write"]),
            "repo:admin of a stranger": registry.add_oauth_token("stranger"),
            "expired Bearer token": registry.add_oauth_token("ompsadmin", expired=True),
            "unknown Bearer token": "UNKNOWN",
            "AUTH push as Bearer": "UNKNOWN",
        }
        self.admin = registry.add_oauth_token("ompsadmin")
        self.blob = tar_gz(random.Random(1).randbytes(9000))

    def authorization(self, exchange: Exchange) -> str | None:
        """The recording hides OAuth tokens; the titles tell them apart."""
        if exchange.authorization.startswith("Bearer"):
            hidden = [token for words, token in self.oauth.items() if words in exchange.title]
            stated = exchange.target.startswith("/api/v1/repository") and exchange.method == "GET"
            return f"Bearer {hidden[0] if hidden and not stated else self.admin}"
        if exchange.authorization == "basic <base64 of user:password>":
            return "basic " + base64.b64encode(f"$oauthtoken:{self.admin}".encode()).decode()
        return self.callers[exchange.authorization]

    def replay(self, exchange: Exchange) -> requests.Response:
        authorization = self.authorization(exchange)
        headers = {"Authorization": authorization} if authorization else {}
        sent = exchange.sent
        if isinstance(sent, dict) and "chars)" in str(sent.get("blob")):
            sent = {**sent, "blob": base64.b64encode(self.blob).decode()}
        if isinstance(sent, dict) and "user" in sent and sent["user"].get("password") == "<robot password>":
            sent = {"user": {**sent["user"], "password": self.robot_password}}
        url = self.registry.url + exchange.target
        if sent is None or isinstance(sent, str):
            return requests.request(exchange.method, url, headers=headers, data=sent, timeout=10)
        return requests.request(exchange.method, url, headers=headers, json=sent, timeout=10)


VOLATILE = {
    "digest": r"(sha256:)?[0-9a-f]{64}",
    "created_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "updated_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "last_modified": r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d -0000",
    "size": r"\d{4,}",
    "type": r"http://127.0.0.1:\d+(?=/api/v1/error/)",
    "token": r"basic \S.*",
}


def steady(value: Any, key: str = "") -> Any:
    """``value`` with its digests, dates, long sizes, ports and tokens named instead of spelled."""
    if isinstance(value, dict):
        return {name: steady(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [steady(item, key) for item in value]
    if key in VOLATILE and re.match(VOLATILE[key], str(value)):
        return re.sub(VOLATILE[key], f"<{key}>", str(value))
    return value


def difference(exchange: Exchange, answer: requests.Response) -> str | None:
    got: Any = answer.text
    if not isinstance(exchange.received, str):
        try:
            got = answer.json()
        except ValueError:
            return f"{exchange}\n  no JSON: {answer.status_code} {answer.text[:200]}"
        if steady(got) != steady(exchange.received):
            return f"{exchange}\n  recorded {steady(exchange.received)}\n  answered {steady(got)}"
    if (answer.status_code, answer.headers["Content-Type"]) != (exchange.status, exchange.content_type):
        return f"{exchange}\n  {answer.status_code} {answer.headers['Content-Type']} {got}"
    return None


def test_the_recording_is_read_whole() -> None:
    assert len(RECORDED) == 100
    assert {exchange.status for exchange in RECORDED} == {200, 400, 401, 402, 403, 404, 405, 409, 422, 500}


def test_every_recorded_request_gets_the_recorded_answer(quay: Quay) -> None:
    differences = [difference(exchange, quay.replay(exchange)) for exchange in RECORDED]

    assert "\n".join(filter(None, differences)) == ""


def test_what_is_pulled_is_what_was_pushed(quay: Quay) -> None:
    push = next(exchange for exchange in RECORDED if exchange.title == "push new (courier, robot)")
    pull = next(exchange for exchange in RECORDED if exchange.title == "pull")

    quay.replay(push)
    answer = quay.replay(pull)

    assert answer.content == quay.blob
    assert answer.headers["Content-Disposition"] == "community_etcd_1.0.0.tar.gz"
