# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's image registry answers as the real one does: status, code and headers, request by request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from omps_worker.destinations.catalog.image_registry.answers import DOCKER_MANIFEST, OCI_MANIFEST, digest_of
from omps_worker.destinations.catalog.image_registry.challenges import challenges_of
from tests.support.docker_registry import PASSWORD, USER
from tests.support.images import Place, SmallImage, docker_place, list_of, sandbox_place

IMAGE, OCI = SmallImage(), SmallImage(oci=True)
NOWHERE = "sha256:" + 64 * "a"
LIST, LIST_TYPE = list_of(IMAGE, SmallImage(extra="never pushed"))
COMPARED = ("Docker-Content-Digest", "Docker-Distribution-Api-Version", "Link")


@pytest.fixture(scope="module", params=["none", "basic", "token"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(sandbox_place(tmp_path_factory.mktemp("sandbox"), request.param)),
            stack.enter_context(docker_place(tmp_path_factory.mktemp("docker"), request.param)),
        )


@dataclass(frozen=True)
class Step:
    """A request; ``{upload}`` in the path is the address of the last upload that was begun."""

    method: str
    path: str
    body: bytes = b""
    content_type: str | None = None
    accept: str | None = None


def upload(repository: str, content: bytes, digest: str | None = None) -> list[Step]:
    return [
        Step("POST", f"/v2/{repository}/blobs/uploads/"),
        Step("PUT", f"{{upload}}&digest={digest or digest_of(content)}", content, "application/octet-stream"),
    ]


STORY = [
    Step("GET", "/v2/"),
    Step("GET", "/v2/x/y/tags/list"),
    Step("GET", "/v2/x/y/manifests/latest"),
    Step("HEAD", "/v2/x/y/manifests/latest"),
    Step("GET", f"/v2/x/y/manifests/{NOWHERE}"),
    Step("GET", f"/v2/x/y/blobs/{NOWHERE}"),
    Step("HEAD", f"/v2/x/y/blobs/{NOWHERE}"),
    *upload("x/y", IMAGE.layer),
    Step("GET", "/v2/x/y/tags/list"),
    Step("HEAD", f"/v2/x/y/blobs/{digest_of(IMAGE.layer)}"),
    Step("GET", f"/v2/x/y/blobs/{digest_of(IMAGE.layer)}"),
    Step("PUT", "/v2/x/y/manifests/latest", IMAGE.body, DOCKER_MANIFEST),
    *upload("x/y", IMAGE.config),
    Step("PUT", f"{{upload}}&digest={digest_of(b'again')}", b"again", "application/octet-stream"),
    *upload("x/y", b"other", NOWHERE),
    Step("POST", "/v2/x/y/blobs/uploads/"),
    Step("DELETE", "{upload}"),
    Step("DELETE", "{upload}"),
    Step("PUT", "/v2/x/y/manifests/latest", IMAGE.body, DOCKER_MANIFEST),
    Step("PUT", "/v2/x/y/manifests/v1", IMAGE.body, DOCKER_MANIFEST),
    Step("PUT", f"/v2/x/y/manifests/{NOWHERE}", IMAGE.body, DOCKER_MANIFEST),
    Step("PUT", "/v2/x/y/manifests/bad", b"garbage", DOCKER_MANIFEST),
    Step("PUT", "/v2/x/y/manifests/bad", IMAGE.body, "text/plain"),
    Step("PUT", "/v2/x/y/manifests/bad", IMAGE.body, OCI_MANIFEST),
    Step("PUT", "/v2/x/y/manifests/list", LIST, LIST_TYPE),
    Step("GET", "/v2/x/y/manifests/latest", accept=DOCKER_MANIFEST),
    Step("HEAD", "/v2/x/y/manifests/latest", accept=DOCKER_MANIFEST),
    Step("GET", f"/v2/x/y/manifests/{IMAGE.digest}", accept=DOCKER_MANIFEST),
    *upload("x/y", OCI.config),
    Step("PUT", "/v2/x/y/manifests/oci", OCI.body, OCI_MANIFEST),
    Step("GET", "/v2/x/y/manifests/oci", accept=DOCKER_MANIFEST),
    Step("GET", "/v2/x/y/manifests/oci", accept=f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"),
    Step("POST", f"/v2/z/blobs/uploads/?mount={digest_of(IMAGE.layer)}&from=x/y"),
    Step("POST", f"/v2/z/blobs/uploads/?mount={NOWHERE}&from=x/y"),
    Step("GET", f"/v2/z/blobs/{digest_of(IMAGE.layer)}"),
    Step("DELETE", "/v2/x/y/manifests/latest"),
    Step("DELETE", f"/v2/x/y/manifests/{IMAGE.digest}"),
    Step("DELETE", f"/v2/x/y/manifests/{IMAGE.digest}"),
    Step("GET", "/v2/x/y/manifests/v1", accept=DOCKER_MANIFEST),
    Step("DELETE", f"/v2/x/y/manifests/{OCI.digest}"),
    Step("GET", "/v2/x/y/tags/list"),
    Step("GET", "/v2/UPPER/tags/list"),
    Step("GET", "/v2/x/y/nonsense"),
    Step("PUT", "/v2/x/y/tags/list"),
    Step("POST", "/v2/x/y/manifests/latest"),
]


def login_of(place: Place) -> dict[str, str]:
    if place.login == "basic":
        return {"Authorization": requests.auth._basic_auth_str(USER, PASSWORD)}
    if place.login == "none":
        return {}
    refusal = requests.get(f"{place.url}/v2/", timeout=20)
    (challenge,) = challenges_of(refusal.headers["WWW-Authenticate"])
    scopes = [f"repository:{name}:pull,push,delete" for name in ("x/y", "z")]
    query = {"service": challenge.parameters["service"], "scope": scopes}
    answer = requests.get(challenge.parameters["realm"], params=query, auth=(USER, PASSWORD), timeout=20)
    return {"Authorization": "Bearer " + answer.json()["token"]}


def told(place: Place, steps: list[Step], login: dict[str, str]) -> list[object]:
    """What a registry answers, less what differs from one to the next."""
    answers: list[object] = []
    address = ""
    for step in steps:
        path = step.path.replace("{upload}", address)
        headers = {
            name: value for name, value in {"Content-Type": step.content_type, "Accept": step.accept}.items() if value
        }
        url = path if path.startswith("http") else place.url + path
        answer = requests.request(step.method, url, data=step.body, headers={**headers, **login}, timeout=20)
        address = answer.headers.get("Location", address) if answer.status_code == 202 else address
        shown = {name: answer.headers.get(name) for name in COMPARED}
        if answer.status_code == 200:
            shown["Content-Type"] = answer.headers["Content-Type"].partition(";")[0]
        body: object = answer.content if answer.status_code == 200 else None
        if (
            answer.status_code >= 400
            and answer.headers["Content-Type"].startswith("application/json")
            and answer.content
        ):
            body = [(error["code"], error["message"]) for error in json.loads(answer.content)["errors"]]
        elif answer.headers.get("Content-Type", "").startswith("application/json") and answer.content:
            body = json.loads(answer.content)
        answers.append((step.method, step.path, answer.status_code, shown, body))
    return answers


def test_both_tell_the_same_story(both: tuple[Place, Place]) -> None:
    sandbox, real = (told(place, STORY, login_of(place)) for place in both)
    assert [pair for pair in zip(sandbox, real, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.parametrize("authorization", [None, "Basic cm9ib3Q6d3Jvbmc=", "Bearer x.y.z", "nonsense"])
def test_both_refuse_in_the_same_words(both: tuple[Place, Place], authorization: str | None) -> None:
    answers = []
    for place in both:
        login = {} if authorization is None else {"Authorization": authorization}
        for path in ("/v2/", "/v2/x/y/manifests/latest", "/v2/x/y/tags/list"):
            answer = requests.get(place.url + path, headers=login, timeout=20)
            offered = challenges_of(answer.headers.get("WWW-Authenticate", ""))
            kinds = [(each.scheme, sorted(each.scopes), sorted(each.parameters)) for each in offered]
            codes = [error["code"] for error in answer.json().get("errors", [])]
            answers.append((path, answer.status_code, kinds, codes))
    assert answers[:3] == answers[3:]
