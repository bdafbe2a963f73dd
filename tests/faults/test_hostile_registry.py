# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry that answers with anything, repeats credentials, or loses count of its releases."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from omps_worker.common.errors import WorkerError
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.common.model import Bundle, Outcome, Status
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.package import Credentials, PackageLocation
from omps_worker.destinations.app_registry.releases import Releaser, WantedRelease
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import tar_gz
from tests.support.endless import ENDLESS, RETRY_AFTER
from tests.support.hostile import Target, target, well_told
from tests.support.peer import Peer

LOOK, PUSH, PUBLISH = "GET /cnr/.*", "POST /cnr/.*", "POST /api/.*"
BLOB = tar_gz("hostile")
TAR = gzip.decompress(BLOB)
BUNDLE = Bundle("hostile", BLOB, hashlib.sha256(TAR).hexdigest(), ("a",), True, None)

STATUSES = (200, 201, 204, 302, 400, 401, 403, 404, 409, 413, 422, 429, 500)

Body = bytes | str | Callable[[], bytes]

BODIES: dict[str, Body] = {
    "nothing": b"",
    "html": "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
    "html without an end": "<title" * 9000,
    "wrapped": b'{"error": {"code": "hostile", "message": "no", "details": {}}}',
    "unwrapped": b'{"code": "hostile", "message": "no", "details": {}}',
    "a text for an error": b'{"error": "no"}',
    "a list for an error": b'{"error": ["no"]}',
    "an error in an error": b'{"error": ' * 30 + b'"no"' + b"}" * 30,
    "a message that is a mapping": b'{"error": {"message": {"a": []}, "code": 7}}',
    "many lines": json.dumps({"error": {"message": "a\nTb\r\n\x1b[2J\u202e" * 500}}).encode(),
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "no number": b"NaN",
    "infinity in a mapping": b'{"error": {"message": "no", "details": Infinity}}',
    "a text": b'"no"',
    "a list": b"[]",
    "a list of null": b"[null]",
    "a list of lists": b"[[[]]]",
    "a list of mappings": b"[{}, {}]",
    "a list of texts": b'["1.0.0"]',
    "success": b'{"success": true}',
    "success that is a text": b'{"success": "true", "status": ["ok"]}',
    "brackets a hundred thousand deep": b"[" * 100_000,
    "mappings a hundred thousand deep": b'{"error":' * 100_000,
    "mappings nine hundred deep": b'{"error":' * 900 + b"1" + b"}" * 900,
    "a number of ten thousand digits": b"9" * 10_000,
    "half a surrogate pair": b'{"error": {"message": "\\ud800", "\\udfff": 1}}',
    "no UTF-8": b'{"error": "\xff"}',
    "UTF-16": '{"error": "no"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"error": "no"}',
    "cut off": b'{"error": {"message": "n',
    "noise": bytes(range(256)) * 20,
    "details of 200 KB": json.dumps({"error": {"message": "x" * 100_000, "details": ["y" * 10] * 8000}}).encode(),
    "a key of 100 KB": json.dumps({"k" * 100_000: 1}).encode(),
}

HUGE: dict[str, Body] = {
    "four megabytes of mappings": lambda: b"[" + b'{"":0},' * 590_000 + b"{}]",
    "four megabytes of mappings beyond ASCII": lambda: '[{"é":0},'.encode() + b'{"":0},' * 590_000 + b"{}]",
    "four megabytes of lists": lambda: b'{"error":[' + b"[]," * 1_350_000 + b"[]]}",
    "a hundred thousand mappings": lambda: b"[" + b'{"":0},' * 99_000 + b"{}]",
    "four megabytes of texts": lambda: b'{"error":[' + b'"ab",' * 800_000 + b'""]}',
    "four megabytes of numbers": lambda: b"[" + b"9," * 2_000_000 + b"9]",
    "four megabytes of one text": lambda: b'{"error":"' + b"x" * 4_100_000 + b'"}',
    "five megabytes": lambda: b"x" * (5 * 2**20),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Target]:
    with target(timeout=5.0) as made:
        organization = made.organizations["community"]
        organization.public, organization.oauth_token = True, made.registry.add_oauth_token("community")
        yield made


_numbers = itertools.count()


def fresh() -> str:
    """A repository that nobody has used."""
    return f"hostile-{next(_numbers)}"


def released(site: Target, repository: str, *, url: str | None = None, timeout: float = 5.0) -> str:
    """Release and publish a bundle; the name of the error, or ``published``."""
    organization = site.organizations["community"]
    place = PackageLocation(
        "community", repository, Credentials(organization.authorization(), organization.oauth(), True)
    )
    client = AppRegistry(url, timeout=timeout) if url else site.client
    releaser = Releaser(client, ProcessLock(), "1.0.0")
    failure: WorkerError | None = None
    try:
        made = releaser.release(WantedRelease(BUNDLE, place))
        releaser.publish(place, made.version)
    except WorkerError as error:
        failure = error
    if failure is None:
        return "published"
    assert failure.retry_after is None or 0 <= failure.retry_after <= 24 * 3600
    told = f"{failure.message} {failure.details}"
    assert not [secret for secret in secrets(site) if secret in told]
    return well_told([Outcome(Status.FAILED, "community", repository, error=failure)]).pop()


def secrets(site: Target) -> tuple[str, ...]:
    organization = site.organizations["community"]
    basic = organization.token.removeprefix("basic ")
    assert organization.oauth_token
    return basic, base64.b64decode(basic).decode().partition(":")[2], organization.oauth_token


def attacked(site: Target, *faults: Fault, repository: str | None = None) -> str:
    site.registry.faults.clear()
    for fault in faults:
        site.registry.faults.add(fault)
    try:
        return released(site, repository or fresh())
    finally:
        site.registry.faults.clear()


def content(body: Body) -> bytes | str:
    return body if isinstance(body, (bytes, str)) else body()


@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_whatever_the_registry_sends_the_outcome_has_a_name(site: Target, call: str, body: Body) -> None:
    for status in STATUSES:
        headers = {"Location": "http://127.0.0.1:9/elsewhere"} if status in (302, 307) else {}
        sent = b"" if status == 204 else content(body)
        told = attacked(site, Fault(call, status=status, body=sent, headers=headers, times=None))
        assert told in ("published", "QuayPackageError", "QuayCourierError", "QuayAuthorizationError"), status


@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
@pytest.mark.parametrize("body", HUGE.values(), ids=HUGE)
def test_a_huge_answer_is_no_burden(site: Target, call: str, body: Body) -> None:
    for status in (200, 500):
        assert attacked(site, Fault(call, status=status, body=content(body), times=None)).startswith("Quay")


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "package": "community/hostile",
        "release": "1.0.0",
        "mediaType": "helm",
        "created_at": "2019-06-01T12:00:00",
        "content": {
            "digest": "0" * 64,
            "size": 9,
            "mediaType": "application/vnd.cnr.package.helm.v0.tar+gzip",
            "urls": [],
        },
        **changes,
    }


WRONG: tuple[Any, ...] = (
    None,
    "",
    "hostile",
    "../1.0.0",
    "1.0.0\n",
    "9" * 300 + ".0.0",
    "9" * 99 + ".0.0",
    7,
    -1,
    1.5,
    True,
    [],
    ["1.0.0"],
    {},
    {"a": []},
    "\u202e",
    "1" * 100_000,
)
LISTINGS: dict[str, Callable[[], Any]] = {
    "ten thousand releases": lambda: [
        entry(release=f"{n}.0.0", content={"digest": f"{n:064x}"}) for n in range(10_000)
    ],
    "one release ten thousand times": lambda: [entry(content={"digest": "0" * 64})] * 10_000,
    "one version of many contents": lambda: [entry(content={"digest": f"{n:064x}"}) for n in range(100)],
    "our content as many versions": lambda: [
        entry(release=f"{n}.0.0", content={"digest": BUNDLE.digest}) for n in range(100)
    ],
    "our content as another media type": lambda: [entry(mediaType="docker", content={"digest": BUNDLE.digest})],
    "our content as a version that is none": lambda: [entry(release="latest", content={"digest": BUNDLE.digest})],
    "a digest that is no hex": lambda: [entry(content={"digest": "z" * 64})],
    "a digest with a prefix": lambda: [entry(content={"digest": f"sha256:{BUNDLE.digest}"})],
    "a digest of another kind": lambda: [entry(content={"digest": "md5:" + "0" * 32})],
    "a version that cannot be followed": lambda: [entry(release="9" * 99 + ".0.0")],
    "a version beyond all numbers": lambda: [entry(release="9" * 5000 + ".0.0")],
    "versions that are none": lambda: [
        entry(release=text) for text in ("latest", "v1", "1.0", "01.0.0", "1.0.0-x", "1.0.0+y")
    ],
}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_an_odd_list_of_releases_leads_to_an_outcome_with_a_name(site: Target, listing: Callable[[], Any]) -> None:
    told = attacked(site, Fault(LOOK, body=json.dumps(listing()).encode(), times=1))
    assert told in ("published", "QuayPackageError", "QuayCourierError", "OMPSInvalidVersionFormat")


@pytest.mark.parametrize("field", ["package", "release", "mediaType", "created_at", "content", "digest", "size"])
def test_a_release_with_any_field_of_another_type(site: Target, field: str) -> None:
    for wrong in WRONG:
        changes = {"content": {"digest": "0" * 64, field: wrong}} if field in ("digest", "size") else {field: wrong}
        for listing in ([entry(**changes)], [entry(), entry(**changes)]):
            told = attacked(site, Fault(LOOK, body=json.dumps(listing).encode(), times=1))
            assert told in ("published", "QuayPackageError", "QuayCourierError"), wrong


@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        '{{"error": {{"message": "{}"}}}}',
        '{{"error": "{}"}}',
        '{{"{}": 1}}',
        '["{}"]',
        '{{"error": {{"details": [["{}"]]}}}}',
        "<title>{}</title>",
        "<title>a</title>{}",
    ],
)
def test_a_registry_that_repeats_credentials_is_not_repeated(site: Target, call: str, form: str) -> None:
    assert attacked(site) == "published"
    for secret in secrets(site):
        told = attacked(site, Fault(call, status=500, body=form.format(secret).encode(), times=None))
        assert told.startswith("Quay")


@pytest.mark.parametrize("value", RETRY_AFTER, ids=ascii)
@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
def test_nonsense_about_when_to_come_back_is_bounded(site: Target, call: str, value: str) -> None:
    for status in (200, 403, 429, 503):
        attacked(site, Fault(call, status=status, body=b"{}", headers={"Retry-After": value}, times=None))


REDIRECTS = (
    "file:///etc/passwd",
    "http://127.0.0.1:9/",
    "//127.0.0.1:9/x",
    "/elsewhere",
    "?",
    "",
    "//[",
    "ftp://127.0.0.1/",
    "data:,x",
)


@pytest.mark.parametrize("place", REDIRECTS)
@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
def test_credentials_follow_no_redirect(site: Target, call: str, place: str) -> None:
    for status in (301, 302, 303, 307, 308):
        before = len(site.registry.log)
        assert attacked(site, Fault(call, status=status, headers={"Location": place}, times=None)).startswith("Quay")
        assert not any("elsewhere" in entry.target for entry in site.registry.log[before:])


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": True},
        {"drop_answer": True},
        {"truncate": True},
        {"headers": {"Content-Length": "9999999"}, "truncate": True},
        {"headers": {"Content-Encoding": "gzip"}},
        {"headers": {"Set-Cookie": "a=b"}},
        {"headers": {"X": "y" * 70_000}},
    ],
    ids=["dropped", "answer lost", "cut off", "longer than it is", "compressed, it says", "a cookie", "a long header"],
)
@pytest.mark.parametrize("call", [LOOK, PUSH, PUBLISH], ids=["look", "push", "publish"])
def test_an_answer_that_is_lost_makes_no_second_release(site: Target, call: str, fault: dict[str, Any]) -> None:
    repository = fresh()
    attacked(site, Fault(call, **fault), repository=repository)
    assert attacked(site, repository=repository) == "published"
    assert site.versions("community", repository) == ["1.0.0"]


@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_is_given_up(site: Target, script: Callable[..., None]) -> None:
    with Peer(script) as peer:
        assert released(site, fresh(), url=peer.url, timeout=0.5).startswith("Quay")
